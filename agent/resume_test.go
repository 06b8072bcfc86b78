package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

// interrupted begins a rescue whose executor runs a task, and stops the agent at once when n outputs are saved.
func (s *stage) interrupted(member *sparkExecutor, n int) {
	s.t.Helper()
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	d := s.daemon()
	s.send(notice("n1", 30*time.Second))
	s.awaitN("index", n)
	for strings.Count(s.journal(), `"type":"saved"`) < n {
		time.Sleep(time.Millisecond)
	}
	d.kill()
	<-d.done
	s.unlocked()
	s.never("ended")
	if j := s.journal(); !strings.Contains(j, `"type":"interrupted"`) || strings.Contains(j, `"type":"lost"`) {
		s.t.Errorf("journal: %s", j)
	}
	if list, _ := report.List(s.cfg.State, 0); len(list) != 0 {
		s.t.Error("there is a report already")
	}
}

func TestAgentGoesOnWhereItWasStopped(t *testing.T) {
	s, _, member, _ := usual(t, 10)
	s.interrupted(member, 10)
	member.commits(10, 5, 100)
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	s.daemon()
	rep := s.report(1)
	saved(t, rep, 15)
	if rep.Runs != 2 || rep.Notice.ID != "n1" {
		t.Errorf("run %d of %s", rep.Runs, rep.Notice.ID)
	}
	if n := len(s.seen("data")); n != 15 {
		t.Errorf("data was sent %d times for 15 outputs", n)
	}
	if len(s.seen("told")) != 1 || len(s.seen("asked")) != 0 {
		t.Errorf("told again: %q", s.seen("told", "asked"))
	}
}

func TestCopiesThatWereLostMeanwhileAreMadeAgain(t *testing.T) {
	s, app, member, peer := usual(t, 5)
	s.interrupted(member, 5)
	peer.server.Close()
	peer.set(func(x *sparkExecutor) { x.unknown = true })
	other := app.peer("3", "node-c")
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	s.daemon()
	saved(t, s.report(1), 5)
	if n := other.holds(); n != 5 {
		t.Errorf("the other peer holds %d", n)
	}
}

func TestAllHadBeenDoneBeforeTheAgentWasKilled(t *testing.T) {
	s, _, member, _ := usual(t, 0)
	s.cfg.State += "-1"
	store, err := journal.Open(s.cfg.State, s.logger())
	must(t, err)
	j, err := store.Create(journal.NewID(time.Now()), notice("n1", 30*time.Second), journal.Scope{})
	must(t, err)
	at := migrate.Target{Executor: "2", Host: "node-b", Port: 1}
	must(t, j.TellIntent("app-1", "8", "rpc"))
	must(t, j.Told("app-1", "8", "rpc", true))
	must(t, j.Saved(migrate.OutputID{App: "app-1", Map: 1}, 100, at))
	must(t, j.Saved(migrate.OutputID{App: "app-9", Map: 1}, 100, at))
	must(t, j.Lost(migrate.OutputID{App: "app-9", Map: 2}, 50, "attempts"))
	must(t, j.EndIntent("app-1", "8"))
	must(t, j.Ended("app-1", "8", "SIGTERM"))
	must(t, j.Close())
	s.unlocked()
	_ = member.process.Kill()
	s.await("ended 1")
	s.daemon()
	rep := s.report(1)
	found, savedAmount, lost := rep.Total()
	if found.Outputs != 3 || savedAmount.Outputs != 2 || lost.Bytes != 50 || rep.Outcome != report.Some || len(rep.Applications) != 2 {
		t.Errorf("%+v", rep)
	}
	if e := rep.Applications[0].Executors; len(e) != 1 || e[0].ID != "8" || !e[0].Told || !e[0].Ended || e[0].EndedBy != "SIGTERM" {
		t.Errorf("executors %+v", e)
	}
}

// leave writes the journal of a rescue that an earlier run of the agent did not finish.
func (s *stage) leave(n providers.Notice, scope journal.Scope, write func(j *journal.Journal)) {
	s.t.Helper()
	store, err := journal.Open(s.cfg.State, s.logger())
	must(s.t, err)
	j, err := store.Create(journal.NewID(time.Now()), n, scope)
	must(s.t, err)
	write(j)
	must(s.t, j.Close())
	s.unlocked()
}

// unlocked waits until no process that is just being started, for another test, holds the lock open.
func (s *stage) unlocked() {
	free := func() bool {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		f, err := os.Open(filepath.Join(s.cfg.State, "lock"))
		if err != nil {
			return true
		}
		defer f.Close()
		return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	}
	for !free() {
		time.Sleep(time.Millisecond)
	}
}

// TestLongAfterTheDeadline is a node that came back with its disk, after a reboot for example: what runs here now is none of
// the old notice's business.
func TestLongAfterTheDeadline(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.worker(handler)
	s.leave(notice("n1", -time.Hour), journal.Scope{}, func(j *journal.Journal) {
		must(t, j.TellIntent("app-0", "1", "rpc"))
		must(t, j.Told("app-0", "1", "rpc", true))
	})
	s.daemon()
	s.report(1)
	s.never("told", "asked", "ended", "worker", "data")
}

// TestAfterTheDeadlineOnlyWhatWasToldIsEnded: marked executors get no work any more, but the node lives.
func TestAfterTheDeadlineOnlyWhatWasToldIsEnded(t *testing.T) {
	s, app, one, _ := usual(t, 3)
	five := app.member("5", plain)
	five.commits(10, 2, 100)
	one.set(func(x *sparkExecutor) { x.marked = true })
	s.worker(handler)
	s.leave(notice("n1", -time.Minute), journal.Scope{}, func(j *journal.Journal) {
		must(t, j.TellIntent("app-1", "1", "rpc"))
		must(t, j.Told("app-1", "1", "rpc", true))
	})
	s.daemon()
	rep := s.report(1)
	s.await("ended 1")
	s.never("told", "asked", "ended 5", "worker")
	if rep.SecondsLeft > 0 {
		t.Errorf("%v seconds left of a deadline that has passed", rep.SecondsLeft)
	}
}

func TestRescueOfOneApplicationStaysOne(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	second := s.app("app-2")
	second.member("7", plain).commits(0, 2, 100)
	second.peer("2", "node-b")
	s.leave(notice("command-1", 20*time.Second), journal.Scope{App: "app-2"}, func(*journal.Journal) {})
	s.daemon()
	rep := s.report(1)
	saved(t, rep, 2)
	s.await("ended 7")
	s.never("told 1", "ended 1")
}

func TestDryRunIsNotTakenUp(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.leave(notice("command-1", 20*time.Second), journal.Scope{DryRun: true}, func(*journal.Journal) {})
	d := s.daemon()
	s.send(notice("n1", 20*time.Second))
	if rep := s.report(1); rep.Notice.ID != "n1" {
		t.Errorf("report of %s", rep.Notice.ID)
	}
	d.stop()
}

func TestOlderRescuesAreFinishedToo(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	for _, id := range []string{"n1", "n2"} {
		s.leave(notice(id, -time.Hour), journal.Scope{}, func(*journal.Journal) {})
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // ids sort by the second
	}
	s.daemon()
	if a, b := s.report(1), s.report(2); a.Notice.ID != "n2" || b.Notice.ID != "n1" {
		t.Errorf("finished %s, then %s", a.Notice.ID, b.Notice.ID)
	}
	s.never("told", "ended")
}

// TestToldAndThenNothingCanBeDone: no destination is left, but the executor was told by the earlier run.
func TestToldAndThenNothingCanBeDone(t *testing.T) {
	s, _, member, peer := usual(t, 3)
	peer.server.Close()
	peer.set(func(x *sparkExecutor) { x.unknown = true })
	member.set(func(x *sparkExecutor) { x.marked = true })
	n := notice("n1", 6*time.Second)
	s.leave(n, journal.Scope{}, func(j *journal.Journal) {
		must(t, j.TellIntent("app-1", "1", "rpc"))
		must(t, j.Told("app-1", "1", "rpc", true))
	})
	s.daemon()
	rep := s.report(1)
	s.await("ended 1 by terminated")
	if e := rep.Applications[0].Executors[0]; !e.Told || !e.Ended || rep.Ended.After(n.Deadline) || n.Deadline.Sub(rep.Ended) > 2*time.Second {
		t.Errorf("%+v, %v before the deadline", e, n.Deadline.Sub(rep.Ended))
	}
	if _, _, lost := rep.Total(); lost.Outputs != 3 {
		t.Errorf("lost %d", lost.Outputs)
	}
}

func TestMergedNoticeHoldsAfterARestart(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	second := notice("n2", 6*time.Second)
	s.leave(notice("n1", time.Minute), journal.Scope{}, func(j *journal.Journal) { must(t, j.Merged(second)) })
	s.daemon()
	rep := s.report(1)
	if left := second.Deadline.Sub(rep.Ended); left < 0 || left > 2*time.Second {
		t.Errorf("ended %v before the deadline of the second notice", left)
	}
}

func TestStopGivesTheRescueItsGrace(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	d := s.daemon()
	s.send(notice("n1", 30*time.Second))
	s.await("told 1")
	d.stop()
	s.await("log: stopping")
	member.commit(0, 3, 100)
	s.await("index shuffle_0_3_0.index")
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	<-d.done
	saved(t, s.report(1), 4)
}

func TestStopWhenTheGraceIsOver(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	s.cfg.Shutdown.Grace = 100 * time.Millisecond
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	d := s.daemon()
	s.send(notice("n1", 30*time.Second))
	s.awaitN("index", 3)
	d.stop()
	<-d.done
	if d.err != nil {
		t.Error(d.err)
	}
	s.never("ended")
	if j := s.journal(); !strings.Contains(j, `"type":"interrupted"`) || strings.Contains(j, `"type":"lost"`) {
		t.Errorf("journal: %s", j)
	}
}

// TestRescueOfAnAgentThatIsBeingReplaced: the new agent starts while the old one is still at it.
func TestRescueOfAnAgentThatIsBeingReplaced(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	s.cfg.Shutdown.Grace = time.Second
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	old := s.daemon()
	s.send(notice("n1", 30*time.Second))
	s.await("told 1")
	s.daemon()
	old.stop()
	<-old.done
	s.never("ended")
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	saved(t, s.report(1), 3)
}
