//go:build integration

package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// reuse are the settings beside those of the claims, on both sides: a claim is old enough for reuse after 20 s, and a pod that
// has gone is noticed within 5.
func reuse() map[string]string {
	return map[string]string{
		"spark.kubernetes.allocation.executor.timeout":      "20s",
		"spark.kubernetes.executor.apiPollingInterval":      "5s",
		"spark.kubernetes.executor.eventProcessingInterval": "200ms",
	}
}

// survivorOf are the chart's values and configuration for a survivor that looks after one node from another. The lab has no
// cloud that could be asked whether the machine is gone.
func survivorOf(node, from, adopt string) AgentOptions {
	return AgentOptions{
		Config: fmt.Sprintf("survivor: {nodes: kubernetes.io/hostname=%s, after: 2s, onNotReady: true}\nkubernetes: {volumes: {adopt: %q}}\n", node, adopt),
		Values: fmt.Sprintf("survivor: {enabled: true, replicas: 1, nodeSelector: {kubernetes.io/hostname: %s}}\n", from),
	}
}

// lost is a job on disks that move, one of whose nodes has gone without a word.
type lost struct {
	t       *testing.T
	job     *Job
	known   []*report.Report
	off     time.Time
	victims map[string]bool // executors
}

func loseNode(t *testing.T, name, version string) *lost {
	t.Helper()
	ctx := t.Context()
	must(t, shared.Volumes(ctx))
	l := &lost{t: t, victims: map[string]bool{}}
	l.job = startJob(t, JobOptions{
		Name: name, Spark: version, Node: "node-b", Maps: 24, ClaimClass: DiskClass, Conf: reuse(),
	})
	first, err := l.job.Round(ctx)
	must(t, err)
	t.Logf("first round: %v", first)
	onBoth(t, l.job)
	pods, err := l.job.Executors(ctx)
	must(t, err)
	for _, p := range pods {
		if p.Node == "node-a" {
			l.victims[p.Executor] = true
		}
	}
	l.known, err = adoptions()
	must(t, err)
	switchOn(t, "node-a")
	t.Cleanup(func() {
		if t.Failed() {
			pods, _ := shared.Kubectl(context.Background(), "get", "pods,pvc,events", "-A", "-o", "wide")
			survivor, _ := shared.Kubectl(context.Background(), "-n", AgentNamespace, "logs", "-l", "app.kubernetes.io/component=survivor", "--tail=60")
			t.Log(pods, survivor, shared.AgentLog("node-b", 60), l.job.Tail(40))
		}
	})
	l.off = time.Now()
	must(t, shared.Node("node-a").PowerOff())
	return l
}

// switchOn gives a node its power back at the end of the test. The survivor goes before, and so does its taint: nobody takes
// what starts for the dead machine.
func switchOn(t *testing.T, node string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		_, err := shared.Kubectl(ctx, "-n", AgentNamespace, "scale", "deployment", "-l", "app.kubernetes.io/component=survivor", "--replicas=0")
		if err != nil && !strings.Contains(err.Error(), "no objects") {
			t.Error(err)
		}
		_, err = shared.Kubectl(ctx, "taint", "node", node, "node.kubernetes.io/out-of-service-")
		if err != nil && !strings.Contains(err.Error(), "not found") {
			t.Error(err)
		}
		if n := shared.Node(node); !n.On() {
			must(t, n.PowerOn(ctx))
		}
		must(t, shared.Volumes(ctx))
	})
}

func (l *lost) step(what string) {
	l.t.Helper()
	l.t.Logf("%7.2f s after power-off: %s", time.Since(l.off).Seconds(), what)
}

// adoptions are the reports of node-b.
func adoptions() ([]*report.Report, error) {
	state, err := shared.Node("node-b").File(agentState)
	if err != nil {
		return nil, err
	}
	return report.List(agent.AdoptionState(state), 0)
}

// awaitReplacements waits until the driver has lost the executors of the node and has others in their place.
func (l *lost) awaitReplacements(ctx context.Context) {
	l.t.Helper()
	gone := func(ctx context.Context) (lost, added int, err error) {
		events, _, err := l.job.Events(ctx)
		for _, e := range events {
			switch {
			case e.What == "removed" && l.victims[e.Executor]:
				lost++
			case e.What == "added" && e.At.After(l.off):
				added++
			}
		}
		return lost, added, err
	}
	must(l.t, lab.Until(ctx, "the driver has lost the executors", func(ctx context.Context) (bool, error) {
		n, _, err := gone(ctx)
		return err == nil && n == len(l.victims), nil
	}))
	l.step("the driver has lost the executors")
	must(l.t, lab.Until(ctx, "the driver has others", func(ctx context.Context) (bool, error) {
		_, n, err := gone(ctx)
		return err == nil && n >= len(l.victims), nil
	}))
	l.step("their replacements have registered")
}

// awaitAdoptions waits until each replacement's agent has reported, and returns how many outputs count again.
func (l *lost) awaitAdoptions(ctx context.Context) (saved int) {
	l.t.Helper()
	var list []*report.Report
	err := lab.Until(ctx, "the replacements have adopted", func(context.Context) (bool, error) {
		all, err := adoptions()
		if err != nil {
			return false, err
		}
		list = all[:max(0, len(all)-len(l.known))]
		return len(list) >= len(l.victims), nil
	})
	if err != nil {
		l.t.Fatal(errors.Join(err, errors.New(shared.AgentLog("node-b", 60))))
	}
	for _, r := range list {
		_, s, lost := r.Total()
		saved += s.Outputs
		l.t.Logf("adoption %s: %s, %d outputs, %d lost, %.2f s, %v", r.ID, r.Outcome, s.Outputs, lost.Outputs, r.Ended.Sub(r.Began).Seconds(), r.Applications[0].Notes)
	}
	l.step(fmt.Sprintf("%d outputs are adopted", saved))
	return saved
}

// TestLostNodeVolumes: a node dies without a word. The survivor frees the disks, Spark's replacements get them, and their
// agents make the old outputs count before anything asks for them: nothing is computed again.
func TestLostNodeVolumes(t *testing.T) {
	for _, version := range []string{"3.5.9", "4.3.0"} {
		t.Run(version, func(t *testing.T) {
			must(t, shared.InstallAgent(t.Context(), survivorOf("node-a", "node-b", "link")))
			l := loseNode(t, "lost", version)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			l.awaitReplacements(ctx)
			if l.awaitAdoptions(ctx) == 0 {
				t.Error("nothing was adopted")
			}
			unharmed(t, l.job)
			l.step("the next round is done")
			events, err := shared.Kubectl(ctx, "-n", l.job.Namespace, "get", "events", "--field-selector=reason=SparkOutputsAdopted", "-o", "name")
			must(t, err)
			if strings.TrimSpace(events) == "" {
				t.Error("no Event says what was adopted")
			}
		})
	}
}

// TestLostNodePlainReuse is the same without Lifeboat, for comparison: Spark's own reuse of claims. Somebody who is quick says that the node
// is off as soon as it is silent, as the runbook has it: without that its pods and disks stay where they are.
func TestLostNodePlainReuse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	must(t, shared.UninstallAgent(ctx))
	l := loseNode(t, "plain", "3.5.9")
	must(t, shared.WaitCondition(ctx, "node-a", "Ready", "Unknown"))
	l.step("the control plane hears the node no more")
	o := newOncall(t, "NODE=node-a")
	o.run(stuckVolumes, "out-of-service=")
	l.awaitReplacements(ctx)
	r, err := l.job.Round(ctx)
	must(t, err)
	l.step("the next round: " + r.String())
	if r.MapTasks == 0 {
		t.Error("nothing was computed again: this compares with nothing")
	}
	must(t, shared.Node("node-a").PowerOn(ctx))
	o.run(stuckVolumes, "out-of-service-")
}
