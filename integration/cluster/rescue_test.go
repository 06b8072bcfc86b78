//go:build integration

package cluster

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// steps prints how long each step of a scenario took.
type steps struct {
	t    *testing.T
	last time.Time
}

func newSteps(t *testing.T) *steps { return &steps{t: t, last: time.Now()} }

func (s *steps) done(what string) {
	s.t.Helper()
	s.t.Logf("%7.2f s  %s", time.Since(s.last).Seconds(), what)
	s.last = time.Now()
}

// soon is the most that a round may take which waits for no network timeout: Spark's is 120 s.
const soon = 60 * time.Second

// startJob starts a job that ends with the test.
func startJob(t *testing.T, o JobOptions) *Job {
	t.Helper()
	job, err := shared.Job(t.Context(), o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if job != nil {
			if err := job.Stop(ctx); err != nil {
				t.Errorf("stop the job: %v", err)
			}
		}
	})
	must(t, err)
	return job
}

// restore brings a node back that the test has left off or on its way: the next test finds two empty ones.
func restore(t *testing.T, node string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		n := shared.Node(node)
		if n.On() {
			must(t, n.PowerOff())
		}
		must(t, n.Replace(ctx))
	})
}

// unharmed is a round in which nothing was computed again and nobody waited for a node that had gone.
func unharmed(t *testing.T, job *Job) {
	t.Helper()
	r, err := job.Round(t.Context())
	must(t, err)
	t.Logf("the next round: %v", r)
	if r.MapTasks != 0 || r.FetchFailures != 0 || r.Took > soon {
		t.Errorf("the next round computed %d outputs again, had %d fetch failures and took %v; not none, none and at most %v",
			r.MapTasks, r.FetchFailures, r.Took, soon)
	}
}

// rescued waits for the report of a rescue of jobs, of which everything must be saved, and until their drivers have lost the executors
// that ended: what reads a shuffle before that may still ask these.
func rescued(t *testing.T, node string, jobs []*Job, known ...*report.Report) *report.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := shared.Report(ctx, node, jobs, known...)
	must(t, err)
	for _, j := range jobs {
		a := j.In(r)
		if a == nil {
			t.Errorf("the report says nothing of %s: %+v", j.Name, r)
			continue
		}
		t.Logf("%s: %s, %d outputs saved of %d, %d lost; executors: %+v", a.Name, a.Outcome, a.Saved.Outputs, a.Found.Outputs, a.Lost.Outputs, a.Executors)
		if a.Lost.Outputs != 0 || a.Saved.Outputs != a.Found.Outputs {
			t.Errorf("outcome %s, losses: %+v", a.Outcome, a.Losses)
		}
		awaitRemoved(ctx, t, j, a)
	}
	return r
}

// awaitRemoved waits until the driver has lost the executors that ended in a rescue.
func awaitRemoved(ctx context.Context, t *testing.T, job *Job, a *report.Application) {
	t.Helper()
	must(t, lab.Until(ctx, "the driver of "+job.Name+" has lost the executors that ended", func(ctx context.Context) (bool, error) {
		events, _, err := job.Events(ctx)
		removed := map[string]bool{}
		for _, e := range events {
			removed[e.Executor] = removed[e.Executor] || e.What == "removed"
		}
		return err == nil && !slices.ContainsFunc(a.Executors, func(e report.Executor) bool { return e.Ended && !removed[e.ID] }), nil
	}))
}

// TestRescue takes a node after a notice, with the chart's DaemonSet on both: all its map outputs are found on the other one.
func TestRescue(t *testing.T) {
	for _, version := range []string{"3.5.9", "4.3.0"} {
		t.Run(version, func(t *testing.T) {
			ctx := t.Context()
			step := newSteps(t)
			must(t, shared.InstallAgent(ctx, AgentOptions{}))
			step.done("the agent is installed")
			job := startJob(t, JobOptions{Name: "rescue", Spark: version, Node: "node-b"})
			step.done("the job has its executors")
			first, err := job.Round(ctx)
			must(t, err)
			step.done("first round: " + first.String())
			onBoth(t, job)

			restore(t, "node-a")
			before := asked(t, "lifeboat")
			shared.Metadata("node-a").Announce(2 * time.Minute)
			r := rescued(t, "node-a", []*Job{job})
			step.done("rescued")
			fewRequests(t, r, before)
			must(t, shared.Node("node-a").PowerOff())
			step.done("power-off")
			unharmed(t, job)
			step.done("round")
		})
	}
}

// onBoth fails when the executors of a job are on one node only.
func onBoth(t *testing.T, job *Job) {
	t.Helper()
	pods, err := job.Executors(t.Context())
	must(t, err)
	on := map[string]int{}
	for _, p := range pods {
		on[p.Node]++
	}
	if on["node-a"] == 0 || on["node-b"] == 0 {
		t.Fatalf("executors on nodes: %v", on)
	}
}

// onePerNode is the pod template of executors of which each is on a node of its own: a replacement waits for a replaced node.
const onePerNode = `{"apiVersion":"v1","kind":"Pod","spec":{"topologySpreadConstraints":[{"maxSkew":1,"minDomains":2,"topologyKey":"kubernetes.io/hostname",` +
	`"whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"spark-role":"executor"}},"matchLabelKeys":["spark-app-selector"]}]}}`

// TestRescuesInARow takes the node under one of two executors five times: more often than Spark forgives two executors for
// failing, which a driver that counted rescues as failures would not survive.
func TestRescuesInARow(t *testing.T) {
	ctx := t.Context()
	step := newSteps(t)
	must(t, shared.InstallAgent(ctx, AgentOptions{}))
	job := startJob(t, JobOptions{Name: "row", Spark: "4.3.0", Node: "node-b", Executors: 2, ExecutorTemplate: onePerNode, Maps: 8, KiB: 64})
	step.done("the job has its executors")
	n := shared.Node("node-a")
	restore(t, n.Name)
	for range 5 {
		_, err := job.Fresh(ctx)
		must(t, err)
		onBoth(t, job)
		known, err := shared.Reports(n.Name)
		must(t, err)
		pods, err := job.Executors(ctx)
		must(t, err)
		n.Metadata.Announce(2 * time.Minute)
		rescued(t, n.Name, []*Job{job}, known...)
		for _, p := range pods {
			if p.Node == n.Name { // the kubelet has the time to clean up, and to say how it ended, as before a real notice is over
				folder, err := n.File("/var/lib/kubelet/pods/" + p.UID)
				must(t, err)
				must(t, lab.Until(ctx, "the kubelet has removed "+p.Name, func(context.Context) (bool, error) {
					_, err := os.Stat(folder)
					return errors.Is(err, os.ErrNotExist), nil
				}))
			}
		}
		must(t, n.PowerOff())
		step.done("rescued and off")
		unharmed(t, job)
		must(t, n.Replace(ctx))
		must(t, job.WaitExecutors(ctx, 2))
		must(t, shared.WaitAgent(ctx, n.Name))
		step.done("the node is replaced, and its executor too")
	}
	must(t, job.Alive(ctx))
	log, err := shared.Kubectl(ctx, "-n", job.Namespace, "logs", job.Name)
	must(t, err)
	for line := range strings.Lines(log) {
		if strings.Contains(line, "ExecutorPodsLifecycleManager: ") && strings.Contains(line, "fail") {
			t.Errorf("the driver counts rescued executors as failed: %s", line)
		}
	}
}
