package agent

import (
	"testing"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// part makes an application of a node that is called 10.0.0.7.
func part(t *testing.T) *application {
	t.Helper()
	r := &rescue{cfg: config.Default(), log: zap.NewNop(), hosts: map[string]bool{"10.0.0.7": true}}
	return newApplication(r, "app")
}

// fill gives an application one output that is saved at a host, and one that is not saved.
func fill(a *application, host string) {
	at := migratetest.NewMemory(migrate.Target{Executor: "3", Host: host, Port: 1})
	output := func(m int64) *migrate.Output {
		return &migrate.Output{ID: migrate.OutputID{App: "app", Map: m}, Index: migratetest.Hollow(16), Data: migratetest.Hollow(8)}
	}
	a.engine.SetDestinations([]migrate.Destination{at})
	a.engine.Adopt(migrate.Located{Output: output(1), At: migrate.Location{Target: at.Target()}})
	a.engine.Add(output(2))
}

func TestReportSaysThatPeersAreOnThisHost(t *testing.T) {
	for host, want := range map[string]int{"10.0.0.7": 1, "::ffff:10.0.0.7": 1, "10.0.0.8": 0} {
		a := part(t)
		fill(a, host)
		for range 2 { // a report that is made twice says it once
			if got := a.makeReport(); len(got.Notes) != want || got.Saved.Outputs != 1 {
				t.Errorf("%s: %d saved, notes %q; want 1 and %d", host, got.Saved.Outputs, got.Notes, want)
			}
		}
	}
}

func TestDryRunCountsWhatHasNoDestinationAsLost(t *testing.T) {
	for failure, want := range map[error]report.Outcome{nil: report.All, errNoPeer: report.Some} {
		a := part(t)
		a.dryRun, a.failure = true, failure
		fill(a, "10.0.0.8")
		rep := report.Report{Applications: []report.Application{a.makeReport()}}
		rep.Settle()
		if rep.Outcome != want {
			t.Errorf("failure %v: outcome %s, want %s", failure, rep.Outcome, want)
		}
	}
}
