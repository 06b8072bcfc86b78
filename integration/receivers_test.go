//go:build integration

package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestReceiverStays has dynamic allocation remove every executor that is idle and holds nothing. One that has received
// rescued outputs stays as long as they are needed: Spark's shuffle tracking counts the data blocks that it has reported
// (ExecutorMonitor.onBlockUpdated).
func TestReceiverStays(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	c := cluster(t, sparkVersion())
	doomed := node(t, c, lab.NodeOptions{Address: "127.0.0.2", Conf: decommission})
	a, err := c.StartAgent(ctx, doomed, lab.AgentOptions{Binary: binary(t), Config: "migrate: {maxPeers: 1}\n"})
	must(t, err)
	job := lab.Job{Maps: 6, Reduces: 12, KiBPerMap: 256, MsPerMap: 100, MsPerReduce: 4000}
	app, err := c.Submit(ctx, lab.AppOptions{Job: job, Conf: scaling("3", "5s")})
	must(t, err)
	running, err := app.StartRound(ctx)
	must(t, err)
	_, err = app.WaitStage(ctx, "all maps have run", func(s lab.Stage) bool { return s.IsReduce() && s.Status == "ACTIVE" })
	must(t, err)
	together(t, c, lab.NodeOptions{Address: "127.0.0.3"}, lab.NodeOptions{Address: "127.0.0.4"})
	must(t, app.WaitExecutors(ctx, 3)) // the new ones only reduce, and are not idle before that is done
	a.Announce(time.Minute)
	rep := rescued(t, a)
	allSaved(t, rep)
	first, err := running.Wait(ctx)
	must(t, err)
	if !first.Exact || first.MapTasks != job.Maps {
		t.Errorf("exact %v, %d map tasks ran, want %d", first.Exact, first.MapTasks, job.Maps)
	}
	if n := len(rep.Applications[0].Destinations); n != 1 {
		t.Fatalf("%d peers took outputs, want 1: %+v", n, rep.Applications[0].Destinations)
	}
	must(t, doomed.Kill())
	receiver := rep.Applications[0].Destinations[0].Target
	must(t, lab.Until(ctx, "the executor without any output is removed", func(ctx context.Context) (bool, error) {
		left, err := app.Executors(ctx, false)
		return err == nil && len(left) == 1, nil
	}))
	left, err := app.Executors(ctx, false)
	must(t, err)
	if len(left) != 1 || !strings.Contains(receiver, left[0].HostPort) {
		t.Errorf("%+v is left, want %s", left, receiver)
	}
	again := round(t, app)
	if again.MapTasks != 0 || again.Counted != 0 {
		t.Errorf("%d map tasks ran again, want 0", again.MapTasks)
	}
}

// TestTwoRescuesAtOnce takes two of three nodes, each by its own agent: one rescues to peers, of which the other is one at
// first, the other to object storage.
func TestTwoRescuesAtOnce(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	c := clusterWith(t, lab.Options{Spark: sparkVersion(), S3A: true})
	p := inS3(t, c)
	nodes := together(t, c, lab.NodeOptions{Address: "127.0.0.2", Conf: decommission},
		lab.NodeOptions{Address: "127.0.0.3", Conf: decommission}, lab.NodeOptions{Address: "127.0.0.4"})
	job := lab.Job{Maps: 45, KiBPerMap: 128, MsPerMap: 100, EmptyEvery: 5}
	app := submit(t, c, lab.AppOptions{Job: job, Conf: p.conf}, 3)
	round(t, app)
	toPeers := p.startAgent(t, c, nodes[0], "")
	toObjects := p.startAgent(t, c, nodes[1], "destinations: [objects, peers]\nobjects: {inFlight: 1}\n")
	here := []int{len(tasksOf(t, app, nodes[0].Executors())), len(tasksOf(t, app, nodes[1].Executors()))}
	toPeers.Announce(time.Minute)
	toObjects.Announce(time.Minute)
	reports := []*report.Report{rescued(t, toPeers), rescued(t, toObjects)}
	for i, rep := range reports {
		must(t, nodes[i].Kill())
		allSaved(t, rep)
		if found, _, _ := rep.Total(); here[i] == 0 || found.Outputs < here[i] {
			t.Errorf("node %d ran %d maps, %d outputs were found", i, here[i], found.Outputs)
		}
	}
	if n := inObjects(reports[0]); n != 0 {
		t.Errorf("%d outputs of the first node went to object storage, which has a peer left", n)
	}
	if n := inObjects(reports[1]); n < here[1] {
		t.Errorf("%d outputs of the second node went to object storage, want at least %d", n, here[1])
	}
	must(t, app.WaitGone(ctx, nodes[0].Address))
	must(t, app.WaitGone(ctx, nodes[1].Address))
	again := round(t, app)
	if again.MapTasks != 0 || again.Counted != 0 {
		t.Errorf("%d map tasks ran again, want 0", again.MapTasks)
	}
	t.Logf("%d of the first and %d of the second went to object storage", inObjects(reports[0]), inObjects(reports[1]))
}
