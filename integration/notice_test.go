//go:build integration

package integration

import (
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// fleet is a cluster whose first node is doomed and has an agent.
type fleet struct {
	*lab.Cluster
	doomed *lab.Node
	agent  *lab.Agent
	app    *lab.App
}

// TestNotice is the main job, on every dialect: a spot notice, a rescue, the end of the node by kill -9 with its
// files removed, and then no map task runs again and no fetch waits for a network timeout.
func TestNotice(t *testing.T) {
	for _, version := range []string{"3.5.9", "4.1.4", "4.3.0"} {
		t.Run(version, func(t *testing.T) {
			f := launch(t, version, lab.Job{Maps: 24, Reduces: 4, KiBPerMap: 256, MsPerMap: 100, EmptyEvery: 5}, lab.AgentOptions{})
			first := round(t, f.app)
			f.agent.Announce(2 * time.Minute)
			rep := rescued(t, f.agent)
			must(t, f.doomed.Kill())
			second := round(t, f.app)
			if second.MapTasks != 0 || second.Counted > 0 {
				t.Errorf("%d map tasks ran again, want 0", second.MapTasks)
			}
			if slow := first.Took + 20*time.Second; second.Took > slow {
				t.Errorf("the round after the loss took %v: a fetch waited for a timeout", second.Took)
			}
			allSaved(t, rep)
			t.Logf("Spark %s: rescue took %v, the round after it %v", version, rep.Ended.Sub(rep.Notice.Seen), second.Took)
		})
	}
}

// launch starts a doomed node with two executors, two other nodes, the job's application, and the agent of the doomed node.
func launch(t *testing.T, version string, job lab.Job, o lab.AgentOptions) *fleet {
	t.Helper()
	return launchApp(t, version, lab.AppOptions{Job: job}, o)
}

// launchApp is launch for an application with settings of its own.
func launchApp(t *testing.T, version string, app lab.AppOptions, o lab.AgentOptions) *fleet {
	t.Helper()
	ctx := deadline(t, 3*time.Minute)
	all, err := cluster(t, version).Fleet(ctx, lab.FleetOptions{App: app})
	must(t, err)
	f := &fleet{Cluster: all.Cluster, doomed: all.Doomed, app: all.App}
	o.Binary = binary(t)
	f.agent, err = f.StartAgent(ctx, f.doomed, o)
	must(t, err)
	return f
}

// doom adds a node with two executors and an agent: the next one to go, after the first has gone.
func (f *fleet) doom(t *testing.T, address string, o lab.AgentOptions) {
	t.Helper()
	ctx := deadline(t, time.Minute)
	f.doomed = node(t, f.Cluster, lab.NodeOptions{Address: address, Cores: 2, Conf: decommission})
	must(t, f.app.WaitExecutors(ctx, 4))
	must(t, f.app.Warm(ctx, 4))
	var err error
	o.Binary = binary(t)
	f.agent, err = f.StartAgent(ctx, f.doomed, o)
	must(t, err)
}

// rescued waits for the report.
func rescued(t *testing.T, a *lab.Agent, known ...*report.Report) *report.Report {
	t.Helper()
	rep, err := a.Report(deadline(t, 3*time.Minute), known...)
	must(t, err)
	return rep
}

// allSaved fails the test unless everything that was found was saved and every executor was told and ended.
func allSaved(t *testing.T, rep *report.Report) {
	t.Helper()
	if rep.Outcome != report.All {
		t.Errorf("outcome is %s, want all: %+v", rep.Outcome, rep)
	}
	for _, a := range rep.Applications {
		for _, e := range a.Executors {
			if !e.Told || !e.Ended {
				t.Errorf("executor %s of %s: told %v, ended %v", e.ID, a.ID, e.Told, e.Ended)
			}
		}
	}
}
