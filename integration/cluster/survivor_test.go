//go:build integration

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// survivorValues run two survivors, each where there is room: the lab has no nodes off the spot pool. They look after both nodes.
const (
	survivorConfig = "survivor: {nodes: kubernetes.io/os=linux}\n"
	survivorValues = "survivor: {enabled: true}\n"
)

// freed is the most that may pass from the cloud's word until the driver has lost the executors. The survivor needs some 10 s, and
// 17 s more when the leader has died with the node. Spark itself notices after 120 s at least (spark.network.timeout).
const freed = 60 * time.Second

// cloudSays sets the taint that the cloud controller manager sets on a silent node of which the cloud says that it is off.
func cloudSays(ctx context.Context, node string) error {
	if err := shared.WaitCondition(ctx, node, "Ready", "Unknown"); err != nil {
		return err
	}
	_, err := shared.Kubectl(ctx, "taint", "node", node, "node.cloudprovider.kubernetes.io/shutdown=:NoSchedule")
	return err
}

// TestSurvivorFreesAJob: a node dies without a word. The survivor has the driver lose its executors, so that the next round waits for
// no network timeout; what only the node had is computed again.
func TestSurvivorFreesAJob(t *testing.T) {
	ctx := t.Context()
	step := newSteps(t)
	must(t, shared.InstallAgent(ctx, AgentOptions{Config: survivorConfig, Values: survivorValues}))
	step.done("agents and survivors are installed")
	job := startJob(t, JobOptions{Name: "survivor", Spark: "3.5.9", Node: "node-b"})
	_, err := job.Round(ctx)
	must(t, err)
	onBoth(t, job)
	pods, err := job.Executors(ctx)
	must(t, err)
	victims := map[string]bool{}
	for _, p := range pods {
		if p.Node == "node-a" {
			victims[p.Executor] = true
		}
	}
	step.done("first round")
	restore(t, "node-a")
	off, before := time.Now(), asked(t, "lifeboat-survivor")
	must(t, shared.Node("node-a").PowerOff())
	must(t, cloudSays(ctx, "node-a"))
	step.done("the control plane hears the node no more, and the cloud says that it is off")
	said := time.Now()
	inTime, cancel := context.WithDeadline(ctx, said.Add(freed))
	defer cancel()
	var lost []JobEvent
	err = lab.Until(inTime, "the driver has lost the executors of the dead node", func(ctx context.Context) (bool, error) {
		events, _, err := job.Events(ctx)
		lost = slices.DeleteFunc(events, func(e JobEvent) bool { return e.What != "removed" || !victims[e.Executor] })
		return err == nil && len(lost) == len(victims), nil
	})
	if err != nil {
		survivors, _ := shared.Kubectl(ctx, "-n", AgentNamespace, "logs", "-l", "app.kubernetes.io/component=survivor", "--tail=60", "--ignore-errors")
		t.Fatalf("%v; lost: %+v\n%s", err, lost, survivors)
	}
	for _, e := range lost {
		t.Logf("executor %s was lost: %s", e.Executor, e.Why)
	}
	step.done("the driver has lost its executors")
	t.Logf("from power-off to that: %v; from the cloud's word: %v", time.Since(off).Round(100*time.Millisecond), time.Since(said).Round(100*time.Millisecond))
	r, err := job.Round(ctx)
	must(t, err)
	step.done("next round: " + r.String())
	if r.MapTasks == 0 || r.Took > soon {
		t.Errorf("the next round: %v", r)
	}
	events, err := shared.Kubectl(ctx, "get", "events", "-A", "--field-selector=reason=SparkNodeDeclaredDead", "-o=jsonpath={range .items[*]}{.involvedObject.kind} {end}")
	must(t, err)
	if !strings.Contains(events, "Node") || !strings.Contains(events, "Pod") {
		t.Errorf("events of the node's death are on: %s", events)
	}
	newOncall(t, "NODE=node-a", "NAMESPACE="+AgentNamespace).run("What the survivor did", "kubectl")
	step.done("what the runbook shows of it")
	n, list := askedSince(t, "lifeboat-survivor", before)
	t.Logf("requests of both survivors in %v: %d (%s)", time.Since(off).Round(time.Second), n, list)

	must(t, shared.Node("node-a").PowerOn(ctx))
	must(t, lab.Until(ctx, "the taint is taken back from the machine that is on again", func(ctx context.Context) (bool, error) {
		taints, err := shared.Kubectl(ctx, "get", "node", "node-a", "-o=jsonpath={.spec.taints}")
		return err == nil && !strings.Contains(taints, "out-of-service"), nil
	}))
	step.done("the node is on again, and has its taint no more")
}

// fewRequests prints what the agents have asked the API server in a rescue, and fails when that is much.
func fewRequests(t *testing.T, r *report.Report, before map[Permit]int) {
	t.Helper()
	executors := 0
	for _, a := range r.Applications {
		executors += len(a.Executors)
	}
	total, list := askedSince(t, "lifeboat", before)
	t.Logf("requests of both agents in a rescue of %d executors: %d (%s)", executors, total, list)
	if limit := 40 + 15*executors; total > limit {
		t.Errorf("more than %d requests", limit)
	}
}

// asked counts what a service account of Lifeboat's has asked so far.
func asked(t *testing.T, account string) map[Permit]int {
	t.Helper()
	all := map[Permit]int{}
	must(t, shared.EachRequest(func(r Request) {
		if r.User == "system:serviceaccount:"+AgentNamespace+":"+account {
			all[r.Permit]++
		}
	}))
	return all
}

// askedSince is what was asked beyond what had been asked before.
func askedSince(t *testing.T, account string, before map[Permit]int) (total int, list string) {
	t.Helper()
	var all []string
	for p, n := range asked(t, account) {
		if n -= before[p]; n > 0 {
			total += n
			all = append(all, fmt.Sprintf("%d × %s", n, p))
		}
	}
	slices.Sort(all)
	return total, strings.Join(all, ", ")
}
