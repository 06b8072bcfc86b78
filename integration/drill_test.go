//go:build integration

package integration

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestDrill goes through everything on real Spark, by the command and through the agent that runs; before it, a dry one does
// nothing.
func TestDrill(t *testing.T) {
	f := launch(t, "4.1.4", lab.Job{Maps: 24, Reduces: 4, KiBPerMap: 256, MsPerMap: 100, EmptyEvery: 5}, lab.AgentOptions{})
	round(t, f.app)
	ctx := deadline(t, 2*time.Minute)

	dry := drilled(t, f, "--dry-run")
	if found, _, _ := dry.Total(); !dry.DryRun || found.Outputs == 0 || len(dry.Applications) != 1 {
		t.Errorf("dry: %+v", dry)
	}
	for _, e := range dry.Applications[0].Executors {
		if e.Told || e.Ended {
			t.Errorf("dry, but executor %s was told or ended", e.ID)
		}
	}

	rep := drilled(t, f, "--kind", "drain")
	allSaved(t, rep)
	if !rep.Notice.Drill || rep.DryRun || rep.Notice.Kind != "drain" {
		t.Errorf("notice %+v", rep.Notice)
	}
	second := round(t, f.app)
	if second.MapTasks != 0 || second.Counted > 0 {
		t.Errorf("%d map tasks ran again after the drill, want 0", second.MapTasks)
	}
	if out, errOut, code := f.agent.Command(ctx, "notices"); code != 0 {
		t.Errorf("notices: exit code %d: %s%s", code, out, errOut)
	}
}

// drilled runs the command and returns the report that it shows.
func drilled(t *testing.T, f *fleet, flags ...string) *report.Report {
	t.Helper()
	out, errOut, code := f.agent.Command(deadline(t, 90*time.Second), append([]string{"drill", "--in", "60s", "-o", "json"}, flags...)...)
	if code != 0 {
		t.Fatalf("drill %q: exit code %d: %s%s", flags, code, out, errOut)
	}
	var rep report.Report
	must(t, json.Unmarshal([]byte(out), &rep))
	return &rep
}
