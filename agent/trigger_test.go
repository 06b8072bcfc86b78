package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
)

// moving are the settings with which an executor moves its cached blocks itself.
func (a *sparkApp) moving() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range []string{"spark.decommission.enabled", "spark.storage.decommission.enabled", "spark.storage.decommission.rddBlocks.enabled"} {
		a.props[key] = "true"
	}
}

// TestTrigger: SIGPWR only where there are cached blocks, or may be some, that the executor can move.
func TestTrigger(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   string
		blocks int
		moving bool
		noREST bool
		want   string
		lost   int
	}{
		"blocks that can move":     {kind: handler, blocks: 3, moving: true, want: triggerSIGPWR, lost: 3}, // nobody moves them on stage
		"nothing cached":           {kind: handler, moving: true, want: triggerRPC},
		"migration is off":         {kind: handler, blocks: 3, want: triggerRPC, lost: 3},
		"no handler":               {kind: plain, blocks: 3, moving: true, want: triggerRPC, lost: 3},
		"nobody knows if it can":   {kind: handler, blocks: 3, moving: true, noREST: true, want: triggerSIGPWR, lost: -1},
		"nobody knows, none moves": {kind: handler, blocks: 3, noREST: true, want: triggerRPC, lost: -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			app := s.app("app-1")
			app.peer("2", "node-b")
			x := app.member("1", tc.kind)
			x.commits(10, 2, 100)
			x.set(func(x *sparkExecutor) { x.blocks = tc.blocks })
			if tc.moving {
				app.moving()
			}
			if tc.noREST {
				s.noREST()
			}
			within := 30 * time.Second // a tenth of it is for the question how many blocks there are
			if tc.noREST || tc.want == triggerSIGPWR {
				within = 3 * time.Second // it takes that long
			}
			rep := s.rescue(within)
			saved(t, rep, 2)
			e := rep.Applications[0].Executors[0]
			if e.Trigger != tc.want || e.RDDBlocksLost != tc.lost {
				t.Errorf("told by %s, %d blocks lost; want %s and %d", e.Trigger, e.RDDBlocksLost, tc.want, tc.lost)
			}
		})
	}
}

// TestSignalIsSeenByTheOnlyPeer: it has no peers any more then, and its empty answer is proof enough.
func TestSignalIsSeenByTheOnlyPeer(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.moving()
	app.peer("2", "node-b")
	app.member("1", handler).set(func(x *sparkExecutor) { x.blocks = 1 })
	s.rescue(4 * time.Second)
	if list := s.seen("sigpwr 1"); len(list) != 1 {
		t.Fatalf("signals: %q", list)
	}
	for _, p := range s.report(1).Phases {
		if p.Name == phaseTell && p.Seconds > 1 {
			t.Errorf("telling took %.1f s", p.Seconds)
		}
	}
}

// TestExecutorThatHasNotRegistered is known to its driver only after it was asked about it.
func TestExecutorThatHasNotRegistered(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	x := app.member("5", plain)
	x.set(func(x *sparkExecutor) { x.unknown = true })
	listens := filepath.Join(s.proc, strconv.Itoa(x.process.Pid), "net", "tcp")
	must(t, os.Rename(listens, listens+".later"))
	s.write(x.process.Pid, "net/tcp", "  sl  local_address\n")
	app.onTell = func(id string) {
		if id == "5" && len(s.seen("asked 5 again")) == 2 {
			x.set(func(x *sparkExecutor) { x.unknown = false })
			must(t, os.Rename(listens+".later", listens))
		}
	}
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 3)
	if got := s.seen("told 5"); len(got) != 1 {
		t.Errorf("executor 5 was told of %d times: %q", len(got), s.seen("5"))
	}
	s.inOrder("told 5", "index")
}

// TestDryRunWithoutPeers takes some seconds, not the whole time, and does nothing.
func TestDryRunWithoutPeers(t *testing.T) {
	s := newStage(t)
	s.app("app-1").member("1", plain).commits(10, 2, 100)
	rep, err := s.agent().Rescue(t.Context(), Request{Deadline: time.Now().Add(time.Minute), DryRun: true})
	must(t, err)
	if rep.Outcome != report.None || rep.SecondsLeft < 50 {
		t.Errorf("outcome %s, %.0f s left; want none, early", rep.Outcome, rep.SecondsLeft)
	}
	s.never("told", "asked", "ended")
}
