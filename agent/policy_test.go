package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers"
)

func TestWhatKindsLeadTo(t *testing.T) {
	p := policy{kinds: config.Default().Notices, ahead: time.Minute}
	for kind, want := range map[providers.Kind]string{
		providers.Preemption: "rescue", providers.Drain: "rescue", providers.Maintenance: "rescue",
		providers.Rebalance: "mirror", providers.Cordon: "mirror", providers.Pause: "record", "": "record", "new": "record",
	} {
		if got := p.act(kind); got != want {
			t.Errorf("%q leads to %s, want %s", kind, got, want)
		}
	}
	p.kinds.Pause, p.kinds.Preemption = config.ActRescue, config.ActRecord
	if p.act(providers.Pause) != "rescue" || p.act(providers.Preemption) != "record" {
		t.Error("the configuration is not heeded")
	}
}

// TestDefect03OnlyScheduledKindsWait: the others begin at once, however far their deadline.
func TestDefect03OnlyScheduledKindsWait(t *testing.T) {
	p := policy{ahead: time.Minute}
	seen := time.Now()
	for kind, want := range map[providers.Kind]time.Duration{
		providers.Preemption: 0, providers.Drain: 0, providers.Rebalance: 0, providers.Cordon: 0,
		providers.Maintenance: 59 * time.Minute, providers.Pause: 59 * time.Minute,
	} {
		n := providers.Notice{Kind: kind, Seen: seen, Deadline: seen.Add(time.Hour)}
		if got := p.begins(n).Sub(seen); got != want {
			t.Errorf("%s begins after %v, want %v", kind, got, want)
		}
	}
}

// TestAimOf is the deadline model: which executors leave, and until when, for notices in the order of their coming.
func TestAimOf(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	node := func(seconds int) providers.Notice {
		return providers.Notice{Deadline: at.Add(time.Duration(seconds) * time.Second)}
	}
	some := func(seconds int, app string, executors ...string) providers.Notice {
		n := node(seconds)
		n.App, n.Executors = app, executors
		return n
	}
	drill := func(n providers.Notice) providers.Notice {
		n.Drill = true
		return n
	}
	one, two := executor.Executor{App: "a", ID: "1"}, executor.Executor{App: "a", ID: "2"}
	other := executor.Executor{App: "b", ID: "1"}
	all := []executor.Executor{one, two, other}
	tests := []struct {
		name    string
		notices []providers.Notice
		seconds int
		leave   []executor.Executor
	}{
		{"one for the node", []providers.Notice{node(60)}, 60, all},
		{"the earliest of two", []providers.Notice{node(60), node(30)}, 30, all},
		{"in any order", []providers.Notice{node(30), node(60)}, 30, all},
		{"executors of any application", []providers.Notice{some(60, "", "1")}, 60, []executor.Executor{one, other}},
		{"executors of one application", []providers.Notice{some(60, "a", "1")}, 60, []executor.Executor{one}},
		{"one application", []providers.Notice{some(60, "a")}, 60, []executor.Executor{one, two}},
		{"two executors: until the last has gone", []providers.Notice{some(30, "a", "1"), some(60, "a", "2")}, 60, []executor.Executor{one, two}},
		{"one executor twice: the earlier", []providers.Notice{some(60, "a", "1"), some(30, "a", "1")}, 30, []executor.Executor{one}},
		{"two applications", []providers.Notice{some(30, "a"), some(60, "b")}, 60, all},
		{"an executor leaves earlier than the node", []providers.Notice{node(60), some(30, "a", "1")}, 60, all},
		{"then the node goes later", []providers.Notice{some(30, "a", "1"), node(60)}, 60, all},
		{"then the node goes earlier", []providers.Notice{some(60, "a", "1"), node(30)}, 30, all},
		{"the node has outlived one of two", []providers.Notice{node(-30), node(60)}, 60, all},
		{"it has outlived all", []providers.Notice{node(-30), node(-60)}, -60, all},
		{"a drill", []providers.Notice{drill(some(60, "a"))}, 60, []executor.Executor{one, two}},
		{"a drill, then it gets real", []providers.Notice{drill(node(30)), node(60)}, 60, all},
		{"a drill of the node, then one executor leaves", []providers.Notice{drill(node(30)), some(60, "a", "1")}, 60, all},
		{"a drill of one executor, then the node goes", []providers.Notice{drill(some(30, "a", "1")), node(60)}, 60, all},
		{"a drill beside a real notice", []providers.Notice{some(60, "a", "1"), drill(node(30))}, 60, []executor.Executor{one}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := aimOf(at, tt.notices)
			if got := a.until.Sub(at); got != time.Duration(tt.seconds)*time.Second {
				t.Errorf("until %v, want %ds", got, tt.seconds)
			}
			for _, e := range all {
				leaves := slices.ContainsFunc(tt.leave, func(l executor.Executor) bool { return l.App == e.App && l.ID == e.ID })
				if a.has(e) != leaves {
					t.Errorf("executor %s of %s leaves: %v", e.ID, e.App, a.has(e))
				}
			}
		})
	}
}

func TestAimIncludes(t *testing.T) {
	node, app := providers.Notice{}, providers.Notice{App: "a"}
	one := providers.Notice{App: "a", Executors: []string{"1"}}
	both := providers.Notice{App: "a", Executors: []string{"1", "2"}}
	anyOne := providers.Notice{Executors: []string{"1"}}
	for _, tt := range []struct {
		a, b providers.Notice
		want bool
	}{
		{node, app, true}, {node, one, true}, {app, both, true}, {both, one, true}, {anyOne, one, true}, {one, one, true},
		{app, node, false}, {one, node, false}, {one, both, false}, {both, app, false}, {one, anyOne, false},
		{app, providers.Notice{App: "b"}, false}, {app, anyOne, false},
	} {
		if got := aimOf(time.Now(), []providers.Notice{tt.a}).includes(aimOf(time.Now(), []providers.Notice{tt.b})); got != tt.want {
			t.Errorf("%+v includes %+v: %v", tt.a, tt.b, got)
		}
	}
}
