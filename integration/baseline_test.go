//go:build integration

// Package integration holds the scenarios: a notice, a rescue, a node that is gone, all on real Spark.
package integration

import (
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestBaseline takes a node away from Spark with nobody to help. It proves that the measure of all other
// scenarios, map tasks that ran again, can fail.
func TestBaseline(t *testing.T) {
	version := sparkVersion()
	ctx := deadline(t, 3*time.Minute)
	job := lab.Job{Maps: 24, Reduces: 4, KiBPerMap: 256, MsPerMap: 50, EmptyEvery: 5}
	all, err := cluster(t, version).Fleet(ctx, lab.FleetOptions{App: lab.AppOptions{Job: job}})
	must(t, err)
	doomed, app := all.Doomed, all.App
	must(t, app.Warm(ctx, 4))

	first := round(t, app)
	if first.MapTasks != 24 || first.Counted != 24 {
		t.Errorf("the first round ran %d maps, counted %d; want 24", first.MapTasks, first.Counted)
	}
	if n := len(doomed.Executors()); n != 2 {
		t.Errorf("%d executors on the doomed node, want 2", n)
	}
	must(t, doomed.Kill())
	second := round(t, app)
	if second.MapTasks == 0 || second.MapTasks != second.Counted {
		t.Errorf("after the loss %d maps ran, counted %d; want some", second.MapTasks, second.Counted)
	}
	third := round(t, app)
	if third.MapTasks != 0 {
		t.Errorf("a round without a loss ran %d maps, want 0", third.MapTasks)
	}
	failed, err := app.FailedFetches(ctx)
	must(t, err)
	t.Logf("Spark %s: %d of 24 maps again, %d failed fetches; rounds took %v, %v, %v", version, second.MapTasks,
		failed, first.Took, second.Took, third.Took)
}
