//go:build integration

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/runbook"
)

// pasted are the lines of the runbook's blocks that some test has run. Like shared, it is of all tests: see TestZZRunbookIsRun.
var pasted = map[int]bool{}

// oncall is a person with the runbook, at a shell in the control plane's network.
type oncall struct {
	t       *testing.T
	steps   []runbook.Step
	prelude string
	env     []string
}

// newOncall reads the runbook. What its first block sets comes from set, as KEY=value.
func newOncall(t *testing.T, set ...string) *oncall {
	t.Helper()
	data, err := os.ReadFile("../../deploy/runbooks/preemption.md")
	must(t, err)
	steps, err := runbook.Parse(data)
	must(t, err)
	bin := t.TempDir()
	kubectl := shared.kubectl(t.Context())
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", strings.Join(kubectl.Args, " "))
	must(t, os.WriteFile(filepath.Join(bin, "kubectl"), []byte(script), 0o755))
	env := append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin}, set...)
	return &oncall{t: t, steps: steps, prelude: runbook.Prelude(steps[0]), env: env}
}

// run pastes all blocks of a section whose text holds word, and compares what they say with what the runbook says. codes are the
// exit codes that the section's blocks may have; none is 0 alone.
func (o *oncall) run(section, word string, codes ...int) {
	o.t.Helper()
	for _, s := range o.blocks(section, word) {
		pasted[s.Line] = true
		code, output := o.paste(s.Script)
		o.t.Logf("line %d, exit code %d: %s\n%s", s.Line, code, s.Script, output)
		if len(codes) == 0 {
			codes = []int{0}
		}
		if !slices.Contains(codes, code) {
			o.t.Errorf("line %d: exit code %d, not one of %v: %s\n%s", s.Line, code, codes, s.Script, output)
		}
		if err := runbook.Compare(s.Sample, output); err != nil {
			o.t.Errorf("line %d: %s\n%v; it says\n%s", s.Line, s.Script, err, output)
		}
	}
}

// blocks are those of a section whose text holds word.
func (o *oncall) blocks(section, word string) (some []runbook.Step) {
	o.t.Helper()
	for _, s := range o.steps[1:] {
		if s.Section == section && strings.Contains(s.Script+"\n", word) {
			some = append(some, s)
		}
	}
	if len(some) == 0 {
		o.t.Errorf("the runbook has no command with %q in the section %q", word, section)
	}
	return some
}

// paste runs a script as a person's shell does: a command that fails does not end it.
func (o *oncall) paste(script string) (code int, output string) {
	ctx, cancel := context.WithTimeout(o.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", o.prelude+"\n"+script)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = o.env, &out, &out, time.Second
	must(o.t, shared.net.Do(cmd.Start))
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		o.t.Fatalf("%s: %v", script, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// TestRunbook runs the commands of the runbook for on-call: after a rescue that saved everything, after one that lost
// everything, and whenever. Those about a node that has died are run where one has: see TestZZRunbookIsRun.
func TestRunbook(t *testing.T) {
	ctx := t.Context()
	step := newSteps(t)
	must(t, shared.InstallAgent(ctx, AgentOptions{Config: "objects: {path: 'file://" + copies + "'}\n"}))
	must(t, shared.Volumes(ctx))
	step.done("the agents are installed")
	cleanUp(t)
	_, err := shared.Node("node-b").Run(ctx, "mkdir", "-p", copies)
	must(t, err)
	app := rescueFor(t, JobOptions{Name: "saved", Node: "node-b", Executors: 2, ClaimClass: DiskClass}, 30*time.Second, report.All)
	step.done("a rescue has saved everything")
	o := newOncall(t, "NODE=node-a", "NAMESPACE="+AgentNamespace, "APP="+app)
	t.Run("saved", func(t *testing.T) { o.at(t).afterRescue() })
	step.done("what is done after it")
	app = rescueFor(t, JobOptions{Name: "lost", Node: "node-b", Executors: 1, ExecutorNode: "node-a"}, 12*time.Second, report.None)
	step.done("a rescue has lost everything")
	o.env = append(o.env, "APP="+app)
	t.Run("lost", func(t *testing.T) { o.at(t).afterLoss() })
	step.done("what is done after it")
	t.Run("whenever", func(t *testing.T) { o.at(t).whenever() })
	step.done("the rest")
}

// cleanUp leaves both nodes as they were, and without an agent.
func cleanUp(t *testing.T) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		defer cancel()
		must(t, shared.UninstallAgent(ctx))
		for _, n := range shared.Nodes() {
			_, err := n.Run(ctx, "rm", "-rf", agentState)
			must(t, err)
		}
		must(t, shared.Metadata("node-a").Reset())
		_, err := shared.Kubectl(ctx, "uncordon", "node-a")
		must(t, err)
		patch := `{"metadata":{"annotations":{"lifeboat.dev/rescue":null,"lifeboat.dev/last-rescue":null}},"spec":{"taints":null}}`
		_, err = shared.Kubectl(ctx, "patch", "node", "node-a", "--type=merge", "--patch="+patch)
		must(t, err)
	})
}

// copies is the folder for copies. It is there on node-b alone: what has no peer can be lost on node-a.
const copies = "/var/lib/lifeboat/objects"

// rescueFor runs a job, gives node-a a notice, waits for the outcome, and leaves the node as it is then. It returns the
// application's id.
func rescueFor(t *testing.T, options JobOptions, in time.Duration, want report.Outcome) string {
	t.Helper()
	ctx := t.Context()
	known, err := shared.Reports("node-a")
	must(t, err)
	job := startJob(t, options)
	_, err = job.Round(ctx)
	must(t, err)
	shared.Metadata("node-a").Announce(in)
	rep, err := shared.Report(ctx, "node-a", []*Job{job}, known...)
	must(t, err)
	shared.Metadata("node-a").Withdraw()
	if rep.Outcome != want {
		var text bytes.Buffer
		_ = rep.Text(&text)
		t.Fatalf("outcome %s, want %s\n%s", rep.Outcome, want, &text)
	}
	return job.App
}

// at goes on as the same person in another test.
func (o *oncall) at(t *testing.T) *oncall {
	o.t = t
	return o
}

// afterRescue: all is well, and the node can be used again.
func (o *oncall) afterRescue() {
	o.run("First", "lifeboat status")
	o.await("SparkRescueEnded")
	o.run("A preemption wave", "kubectl get events")
	o.run("A preemption wave", "kubectl get nodes")
	o.run("A preemption wave", "spark-role=executor")
	o.run(stuckVolumes, "get pvc")
	o.withoutANode("waiting")
	o.run(stuckVolumes, "FailedScheduling")
	o.run(stuckVolumes, "volumeattachments")
	o.leavesAlone(stuckVolumes, "out-of-service=")
	o.run("A preemption wave", "kubectl uncordon")
	o.run("A preemption wave", "kubectl annotate")
}

// stuckVolumes is the section about them.
const stuckVolumes = "Volumes do not come back"

// withoutANode makes a pod for which there is none.
func (o *oncall) withoutANode(name string) {
	o.t.Helper()
	must(o.t, shared.Apply(o.t.Context(), fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: spark}
spec: {nodeSelector: {pool: none}, containers: [{name: none, image: %q}]}
`, name, BusyboxImage)))
	o.t.Cleanup(func() {
		_, err := shared.Kubectl(context.Background(), "-n", "spark", "delete", "pod", name, "--wait=false")
		must(o.t, err)
	})
	o.await("FailedScheduling")
}

// leavesAlone pastes what is for a dead node: a living one must stay as it is.
func (o *oncall) leavesAlone(section, word string) {
	o.t.Helper()
	for _, s := range o.blocks(section, word) {
		_, output := o.paste(s.Script)
		if !strings.Contains(output, "node-a is left alone") || strings.Contains(given(o.t, "{.spec.taints}"), "out-of-service") {
			o.t.Errorf("line %d, on a node that lives: %s\n%s", s.Line, s.Script, output)
		}
	}
}

// await returns when Events with a reason can be seen: they are said in the background.
func (o *oncall) await(reason string) {
	o.t.Helper()
	for ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute); ; {
		out, err := shared.Kubectl(ctx, "get", "events", "-A", "--field-selector", "reason="+reason, "-o", "name")
		if strings.TrimSpace(out) != "" {
			cancel()
			return
		}
		if ctx.Err() != nil {
			cancel()
			o.t.Fatalf("no event %s: %v", reason, err)
		}
	}
}

// afterLoss: what was lost is found, and why; and what the alert goes by is there.
func (o *oncall) afterLoss() {
	o.await("SparkRescueLost")
	o.metric(`lifeboat_rescue_lost_outputs_total{drill="false"} 12`)
	o.metric("lifeboat_rescue_expected_seconds NaN")
	o.run("A rescue lost data", "agent lifeboat report\n")
	o.run("A rescue lost data", "agent lifeboat report last", 3, 4)
	o.run("A rescue lost data", "type=Warning")
	o.run("A rescue lost data", "spark-role=driver")
	here := o.env
	o.env = append(slices.Clone(here), "NODE=node-b")
	o.run("A rescue lost data", "objects list")
	o.run("A rescue lost data", "salvage", 1)
	o.env = here
	o.run("A rescue will not make its deadline", "lifeboat status")
	o.run("A rescue will not make its deadline", "lifeboat executors")
}

// whenever is what does not depend on a rescue.
func (o *oncall) whenever() {
	o.run("An agent is blind or not ready", "get pods")
	o.run("An agent is blind or not ready", "lifeboat notices")
	o.run("An agent is blind or not ready", "auth can-i")
	o.run("An agent is blind or not ready", "logs")
	o.run("An agent is blind or not ready", "describe")
	o.run("An agent is blind or not ready", "rollout status")
	o.run("An agent is blind or not ready", "drill", 0, 3, 4)
}

// metric fails the test unless the agent of node-a exports a line.
func (o *oncall) metric(line string) {
	o.t.Helper()
	page := agentMetrics(o.t, "node-a")
	if !strings.Contains(page, "\n"+line+"\n") {
		o.t.Errorf("the agent's metrics have no line %q:\n%s", line, page)
	}
}
