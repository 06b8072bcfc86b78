//go:build integration

package integration

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestMoreThanCanLeave has a notice of 30 s, and about twice as much data as the way to the peers carries until then. The
// rescue ends in time, what took longest to make per byte is safe, and the report says what was lost: so much, and no more,
// runs again.
func TestMoreThanCanLeave(t *testing.T) {
	// Together 512 kB/s to two peers. An upload takes about 2 s, which is less than the agent's patience with a
	// connection on which nothing moves: the proxies swallow it at once.
	const kbPerSecond = 256
	job := lab.Job{Maps: 200, KiBPerMap: 128, MsPerMap: 30, SlowEvery: 5, BigMiB: 2}
	r := startRelay(t, job)
	peers := r.join(t, lab.NodeOptions{Cores: 2})
	a, err := r.NewAgent(r.holder, lab.AgentOptions{Binary: binary(t), Cloud: lab.GCP})
	must(t, err)
	leaving := r.holder.Executors()
	outputs := r.outputs(t, leaving)
	stop := inProcess(t, a, r.slowWay(t, peers, kbPerSecond))
	announced := time.Now()
	a.Announce(lab.GCP.Lead())
	rep := rescued(t, a)
	if err := stop(); err != nil {
		t.Errorf("the agent: %v", err)
	}
	inTime(t, rep, announced.Add(lab.GCP.Lead()))
	now, err := replay(a)
	must(t, err)
	for id := range now.Saved {
		o := outputs[id.Map]
		o.saved = true
		outputs[id.Map] = o
	}
	worthFirst(t, outputs, job.Maps/job.SlowEvery, rep)

	out, _, exit := a.Command(deadline(t, time.Minute), "report", rep.ID)
	if exit != report.Some.ExitCode() || !strings.Contains(out, "deadline") {
		t.Errorf("lifeboat report: exit code %d, want %d, and the reason of the losses:\n%s", exit, report.Some.ExitCode(), out)
	}
	must(t, r.holder.Kill())
	_, _, lost := rep.Total()
	if after := round(t, r.app); after.MapTasks != lost.Outputs {
		t.Errorf("%d map tasks ran again, the report says %d", after.MapTasks, lost.Outputs)
	}
	received(t, peers)
}

// output is a map output with what it took to make.
type output struct {
	id    int64
	took  time.Duration
	bytes int64
	saved bool
}

// worth is in seconds of task time per byte.
func (o output) worth() float64 { return o.took.Seconds() / float64(o.bytes) }

// outputs are those of the holder, by map id, as the driver and the files tell.
func (r *relay) outputs(t *testing.T, on []lab.Process) map[int64]output {
	t.Helper()
	sizes := map[int64]int64{}
	for name, info := range received(t, r.holder) {
		id := mapOf(t, name)
		sizes[id] += info.Size()
	}
	all := map[int64]output{}
	for _, task := range tasksOf(t, r.app, on) {
		took := time.Duration(task.Duration) * time.Millisecond
		all[task.ID] = output{id: task.ID, took: took, bytes: sizes[task.ID]}
	}
	if len(all) != r.maps || len(sizes) != r.maps {
		t.Fatalf("%d tasks and the files of %d, want %d", len(all), len(sizes), r.maps)
	}
	return all
}

// slowWay leads to each executor of a node through a proxy that lets only so many kB pass in a second.
func (r *relay) slowWay(t *testing.T, to *lab.Node, rate int) detour {
	t.Helper()
	ctx := deadline(t, time.Minute)
	server, err := r.StartToxiproxy(ctx)
	must(t, err)
	list, err := r.app.ExecutorsOn(ctx, to.Address)
	must(t, err)
	way := detour{}
	for _, e := range list {
		p, err := server.Proxy(ctx, "executor-"+e.ID, "127.0.0.1", e.HostPort)
		must(t, err)
		// The rate is of a connection, and a peer has as many as are configured.
		must(t, p.Add(ctx, lab.Toxic{Name: "slow", Type: "bandwidth", Stream: "upstream", Attributes: map[string]int{"rate": rate / config.Default().Migrate.Connections}}))
		way[e.HostPort] = p.Listen
	}
	return way
}

// inProcess runs an agent that was configured, in this process: only so can it be sent on a detour.
func inProcess(t *testing.T, a *lab.Agent, way detour) (stop func() error) {
	t.Helper()
	raw, err := os.ReadFile(a.Config)
	must(t, err)
	cfg, err := config.Parse(a.Config, raw)
	must(t, err)
	level := zap.NewProductionConfig()
	level.Level, level.OutputPaths, level.Sampling = zap.NewAtomicLevelAt(zap.DebugLevel), []string{a.Log}, nil
	log, err := level.Build()
	must(t, err)
	inner, err := agent.New(cfg, agent.Deps{Log: log, Registry: prometheus.NewRegistry(), Dialer: way})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ending, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- inner.Run(ctx, ending) }()
	t.Cleanup(cancel)
	must(t, a.WaitReady(deadline(t, time.Minute)))
	return func() error {
		close(ending)
		return <-done
	}
}

// inTime fails the test unless everything was over when the node is taken.
func inTime(t *testing.T, rep *report.Report, end time.Time) {
	t.Helper()
	if !rep.Ended.Before(end) || rep.SecondsLeft <= 0 {
		t.Errorf("the rescue ended %v, the node is taken %v", rep.Ended, end)
	}
	for _, e := range rep.Applications[0].Executors {
		if !e.Told || !e.Ended {
			t.Errorf("executor %s: told %v, ended %v", e.ID, e.Told, e.Ended)
		}
	}
	t.Logf("over %.1f s before the node is taken: %+v", rep.SecondsLeft, rep.Phases)
}

// worthFirst fails the test unless what was saved is worth more per byte than what was lost, the best of all is safe, and
// the report knows it.
func worthFirst(t *testing.T, outputs map[int64]output, best int, rep *report.Report) {
	t.Helper()
	list := make([]output, 0, len(outputs))
	for _, o := range outputs {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b output) int { return cmp.Compare(b.worth(), a.worth()) })
	isLost := func(o output) bool { return !o.saved }
	lost := howMany(list, isLost)
	saved := len(list) - lost
	wrong := howMany(list[:saved], isLost)
	t.Logf("%d saved and %d lost; %d lost although they are worth more per byte than one that was saved", saved, lost, wrong)
	if n := howMany(list[:best], isLost); n > 0 {
		t.Errorf("%d of the %d outputs are lost that are worth most", n, best)
	}
	// What is under way when the time is over is lost, and a few smaller ones may have been quicker.
	if under := 2 * config.Default().Migrate.InFlight; wrong > under {
		t.Errorf("%d lost outputs are worth more than some that were saved; at most %d can have been under way at the end", wrong, under)
	}
	app := rep.Applications[0]
	if rep.Outcome != report.Some || app.Saved.Outputs != saved || app.Lost.Outputs != lost || lost < best || saved < best {
		t.Errorf("report: %s, saved %+v, lost %+v; the journal says %d and %d", rep.Outcome, app.Saved, app.Lost, saved, lost)
	}
	known := 0
	for _, l := range app.Losses {
		known += l.Outputs
	}
	r := app.Recompute
	if known != lost || !r.Known || r.Incurred <= 0 || r.Avoided/float64(saved) <= r.Incurred/float64(lost) {
		t.Errorf("losses %+v, recompute %+v", app.Losses, r)
	}
}
