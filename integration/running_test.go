//go:build integration

package integration

import (
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestWhileRunning brings the notice into the middle of a job: first while its maps run, then, on another
// node, while its reducers do. The node is gone before the job is done.
func TestWhileRunning(t *testing.T) {
	maps := lab.Job{Maps: 32, Reduces: 4, KiBPerMap: 256, MsPerMap: 500}
	// Reducers fetch in small bites, so that what they have not read yet is still where it was.
	bites := map[string]string{"spark.reducer.maxSizeInFlight": "512k"}
	f := launchApp(t, sparkVersion(), lab.AppOptions{Job: maps, Conf: bites}, lab.AgentOptions{})
	must(t, f.app.Warm(deadline(t, time.Minute), 4))
	t.Run("maps", func(t *testing.T) { noticeAmongMaps(t, f, maps) })

	f.doom(t, "127.0.0.5", lab.AgentOptions{})
	reducers := lab.Job{Maps: 16, Reduces: 10, KiBPerMap: 8 << 10, MsPerMap: 600, MsPerReduce: 2000}
	must(t, f.app.Change(deadline(t, time.Minute), reducers))
	t.Run("reducers", func(t *testing.T) { noticeAmongReducers(t, f, reducers) })
}

// noticeAmongMaps: what was committed before or after the notice is saved, so every map runs once.
func noticeAmongMaps(t *testing.T, f *fleet, job lab.Job) {
	ctx := deadline(t, 2*time.Minute)
	leaving := f.doomed.Executors()
	running, err := f.app.StartRound(ctx)
	must(t, err)
	_, err = f.app.WaitStage(ctx, "some maps have run", func(s lab.Stage) bool { return s.IsMap() && s.CompleteTasks >= 8 })
	must(t, err)
	f.agent.Announce(2 * time.Minute)
	rep := rescued(t, f.agent)
	must(t, f.doomed.Kill())
	stage, err := f.app.WaitStage(ctx, "the map stage is seen", lab.Stage.IsMap)
	must(t, err)
	if stage.Status != "ACTIVE" {
		t.Errorf("the map stage is %s when the node has gone, want it to run still", stage.Status)
	}
	got, err := running.Wait(ctx)
	must(t, err)
	if !got.Exact || got.MapTasks != job.Maps || got.Counted != job.Maps {
		t.Errorf("exact %v, %d map tasks ran, counted %d; want %d", got.Exact, got.MapTasks, got.Counted, job.Maps)
	}
	allSaved(t, rep)
	found, _, _ := rep.Total()
	here := tasksOf(t, f.app, leaving)
	late := 0
	for _, task := range here {
		if task.Ended().After(rep.Notice.Seen) {
			late++
		}
	}
	if late == 0 || late == len(here) || found.Outputs != len(here) {
		t.Errorf("the node ran %d maps, %d of them ended after the notice, %d were found; want some, some, and all", len(here), late, found.Outputs)
	}
	t.Logf("%d of %d maps ran on the node, %d of those ended after the notice; the round took %v", len(here), job.Maps, late, got.Took)
}

// noticeAmongReducers: reducers that know the old places of map outputs may fail once, and no map runs again.
func noticeAmongReducers(t *testing.T, f *fleet, job lab.Job) {
	ctx := deadline(t, 2*time.Minute)
	leaving := f.doomed.Executors()
	before := len(tasksOf(t, f.app, leaving))
	running, err := f.app.StartRound(ctx)
	must(t, err)
	stage, err := f.app.WaitStage(ctx, "four of ten reducers are done", func(s lab.Stage) bool {
		return s.IsReduce() && s.NumTasks == job.Reduces && s.CompleteTasks >= 4
	})
	must(t, err)
	f.agent.Announce(2 * time.Minute)
	rep := rescued(t, f.agent)
	must(t, f.doomed.Kill())
	got, err := running.Wait(ctx)
	must(t, err)
	if !got.Exact || got.MapTasks != job.Maps || got.Counted != job.Maps {
		t.Errorf("exact %v, %d map tasks ran, counted %d; want %d", got.Exact, got.MapTasks, got.Counted, job.Maps)
	}
	allSaved(t, rep)
	found, _, _ := rep.Total()
	if here := len(tasksOf(t, f.app, leaving)) - before; here == 0 || found.Outputs != here {
		t.Errorf("the node ran %d maps, %d were found; want some, and all", here, found.Outputs)
	}
	attempts := attemptsOf(t, f.app, stage.ID)
	if attempts > 2 {
		t.Errorf("the reduce stage was tried %d times, want one retry at most", attempts)
	}
	again := round(t, f.app)
	if again.MapTasks != 0 {
		t.Errorf("%d map tasks ran again, want 0", again.MapTasks)
	}
	t.Logf("%d outputs moved under running reducers, %d attempts of their stage; the rounds took %v and %v",
		found.Outputs, attempts, got.Took, again.Took)
}

// attemptsOf is how often a stage was tried.
func attemptsOf(t *testing.T, app *lab.App, stage int) int {
	t.Helper()
	stages, err := app.Stages(deadline(t, time.Minute))
	must(t, err)
	n := 0
	for _, s := range stages {
		if s.ID == stage {
			n++
		}
	}
	return n
}
