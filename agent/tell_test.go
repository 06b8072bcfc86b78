package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

func TestSparkSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"60": time.Minute, " 60s ": time.Minute, "1M": time.Minute, "2min": 2 * time.Minute, "500ms": 500 * time.Millisecond,
		"7us": 7 * time.Microsecond, "1h": time.Hour, "1d": 24 * time.Hour, "0": 0,
		"": -1, "s": -1, "1.5s": -1, "-5": -1, "5 s": -1, "5x": -1, "99999999999999999999": -1,
	} {
		got, ok := sparkSeconds(text)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, ok, want)
		}
	}
}

// TestToldBySignalBefore: the agent was stopped between the intent and the record that it was done. Whatever had happened,
// the executor is never told by the other trigger, and never signalled a second time.
func TestToldBySignalBefore(t *testing.T) {
	for name, tc := range map[string]struct {
		marked bool
		want   int
	}{"signal sent": {true, 0}, "not sent": {false, 1}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			app := s.app("app-1")
			app.moving()
			app.peer("2", "node-b")
			x := app.member("1", handler)
			x.commits(0, 2, 100)
			x.set(func(x *sparkExecutor) { x.marked = tc.marked })
			s.leave(notice("n1", 20*time.Second), journal.Scope{}, func(j *journal.Journal) {
				must(t, j.TellIntent("app-1", "1", triggerSIGPWR))
			})
			s.daemon()
			saved(t, s.report(1), 2)
			s.never("told", "asked")
			if got := s.seen("sigpwr"); len(got) != tc.want {
				t.Errorf("signals: %q, want %d", got, tc.want)
			}
			s.await("ended 1 by terminated")
		})
	}
}

// TestToldByAnEarlierRescue: the trigger is chosen once in an executor's life, not once in each rescue.
func TestToldByAnEarlierRescue(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.moving()
	app.peer("2", "node-b")
	x := app.member("1", handler)
	x.commits(0, 2, 100)
	x.set(func(x *sparkExecutor) { x.marked, x.blocks = true, 5 }) // now SIGPWR would be the better choice
	s.leave(notice("command-1", time.Minute), journal.Scope{App: "app-1"}, func(j *journal.Journal) {
		must(t, j.TellIntent("app-1", "1", triggerRPC))
		must(t, j.Told("app-1", "1", triggerRPC, true))
		must(t, j.Done("some", 3))
	})
	saved(t, s.rescue(20*time.Second), 2)
	s.never("sigpwr", "asked")
}

// TestUnansweredExecutorsAreEndedToo: the driver may have heard all the same, so none is left marked and alive, and the driver
// sees them leave.
func TestUnansweredExecutorsAreEndedToo(t *testing.T) {
	for name, answered := range map[string]bool{"one of two": true, "both": false} {
		t.Run(name, func(t *testing.T) {
			s, app, _, _ := usual(t, 3)
			app.member("5", plain).commits(10, 2, 100)
			app.mute = func(id string) bool { return id == "5" || !answered }
			deadline := time.Now().Add(6 * time.Second)
			rep := s.rescue(6 * time.Second)
			s.awaitN("ended", 2)
			if rep.Ended.After(deadline) || rep.Ended.Before(deadline.Add(-2*time.Second)) {
				t.Errorf("ended %v before the deadline", deadline.Sub(rep.Ended))
			}
			for _, e := range rep.Applications[0].Executors {
				if want := e.ID == "1" && answered; e.Told != want || !e.Ended {
					t.Errorf("executor %s: told %v, ended %v", e.ID, e.Told, e.Ended)
				}
			}
			if answered && (len(rep.Problems) != 1 || !strings.Contains(rep.Problems[0], "not told of executor 5")) {
				t.Errorf("problems %q", rep.Problems)
			}
			if !answered && !strings.Contains(rep.Applications[0].Error, "could not be told") {
				t.Errorf("error %q", rep.Applications[0].Error)
			}
		})
	}
}

func TestDriverThatGoesBeforeItIsTold(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.onTell = func(string) { go app.driver.Close() }
	app.onPeers = func(java.BlockManagerID) bool { return true }
	began := time.Now()
	rep := s.rescue(20 * time.Second)
	a := rep.Applications[0]
	if told := a.Executors[0].Told; !told && !strings.Contains(a.Error, "the driver is gone") {
		t.Errorf("error %q", a.Error)
	}
	if time.Since(began) > 19*time.Second && !a.Executors[0].Told {
		t.Error("it was waited for a driver that has gone")
	}
}

// TestNobodyIsToldWithoutAJournal: what is not written down can't be told only once.
func TestNobodyIsToldWithoutAJournal(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	var open atomic.Bool
	s.dial = func(_ context.Context, host string) error {
		if open.Load() || host != "driver-app-1" {
			return nil
		}
		s.happened("no way to the driver")
		return errors.New("refused on stage")
	}
	s.daemon()
	s.send(notice("n1", 4*time.Second))
	s.await("log: rescue begins")
	s.await("no way to the driver")
	paths, err := filepath.Glob(filepath.Join(s.cfg.State, "rescues", "*", "journal.jsonl"))
	must(t, err)
	s.breakJournal(paths[0])
	open.Store(true)
	s.await("log: problem")
	s.await("log: rescue ended")
	s.never("told", "asked", "ended", "data")
}

// breakJournal makes writing to the journal fail, as a full disk does.
func (s *stage) breakJournal(path string) {
	s.t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(s.t, err)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(s.t, err)
	defer full.Close()
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && target == path {
			must(s.t, dup(full, fd.Name()))
			return
		}
	}
	s.t.Fatal(errors.New("the journal is not open"))
}

func TestForceKillTimeout(t *testing.T) {
	s, app, member, _ := usual(t, 3)
	s.cfg.Deadline.Margin = 2 * time.Second
	app.props["spark.executor.decommission.forceKillTimeout"] = "7s"
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	var told time.Time
	app.onTell = func(string) { told = time.Now() }
	rep := s.rescue(time.Minute)
	saved(t, rep, 3)
	if took := rep.Ended.Sub(told); took < 4*time.Second || took > 7*time.Second {
		t.Errorf("ended after %v, Spark would have killed it after 7s", took)
	}
}
