package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/providers"
)

// usual is a stage with one application that has one executor here, with n outputs, and a peer.
func usual(t *testing.T, n int) (s *stage, app *sparkApp, member, peer *sparkExecutor) {
	t.Helper()
	s = newStage(t)
	app = s.app("app-1")
	member = app.member("1", plain)
	member.commits(0, n, 100)
	return s, app, member, app.peer("2", "node-b")
}

func (a *sparkApp) setDeaf(deaf bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deaf = deaf
}

func withdrawn(n providers.Notice) providers.Notice {
	n.Withdrawn = true
	return n
}

func TestNoticeIsActedOnOnce(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	n := notice("n1", 10*time.Second)
	s.send(n)
	saved(t, s.report(1), 3)
	s.send(n)
	n.Deadline = n.Deadline.Add(time.Minute) // it changes
	s.send(n)
	s.awaitN("log: notice\t", 3)
	d.stop()
	<-d.done
	if d.err != nil {
		t.Error(d.err)
	}
	d = s.daemon() // and after a restart
	s.send(n)
	s.awaitN("log: notice\t", 4)
	d.stop()
	<-d.done
	if ids, err := journal.IDs(s.cfg.State); len(ids) != 1 || err != nil {
		t.Errorf("rescues: %v, %v", ids, err)
	}
	s.never("asked")
}

func TestOnlyPreemptionAndDrainEndAnything(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	for _, kind := range []providers.Kind{providers.Rebalance, providers.Maintenance, providers.Cordon, providers.Pause, "", "new"} {
		n := notice("n-"+string(kind), time.Hour)
		n.Kind = kind
		s.send(n)
	}
	n := notice("drain", 10*time.Second)
	n.Kind = providers.Drain
	s.send(n)
	if rep := s.report(1); rep.Notice.ID != "drain" {
		t.Errorf("rescue for %s", rep.Notice.ID)
	}
	d.stop()
	<-d.done
	if ids, _ := journal.IDs(s.cfg.State); len(ids) != 1 {
		t.Errorf("rescues: %v", ids)
	}
}

func TestWithdrawnBeforeAnybodyWasTold(t *testing.T) {
	s, app, member, _ := usual(t, 3)
	app.setDeaf(true)
	s.daemon()
	n := notice("n1", 30*time.Second)
	s.send(n)
	s.await("unanswered")
	s.send(withdrawn(n))
	rep := s.report(1)
	if !rep.Withdrawn || rep.Outcome != report.Nothing || len(rep.Applications) != 0 {
		t.Errorf("report %+v", rep)
	}
	s.never("told", "ended", "data", "index")
	if strings.Contains(s.journal(), `"lost"`) {
		t.Error("something counts as lost")
	}
	if !slices.Contains(app.all(), member) {
		t.Error("the executor has gone")
	}
	app.setDeaf(false)
	s.send(n) // it comes again
	saved(t, s.report(2), 3)
}

func TestWithdrawnAfterTellingIsFinished(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	n := notice("n1", 20*time.Second)
	s.send(n)
	s.await("told 1")
	s.send(withdrawn(n))
	member.commit(0, 3, 100)
	s.await("index shuffle_0_3_0.index")
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 4)
	if rep.Withdrawn {
		t.Error("the report says that it was withdrawn")
	}
	s.send(n)
	s.await("log: notice\t{\"notice\": \"n1\"")
	s.awaitN("log: notice\t", 3)
	if got := s.leads("n1"); got[len(got)-1] != NoticeRepeated {
		t.Errorf("n1 was acted on twice: %q", got)
	}
}

// leads are the words for what was made of a notice, in the order of its coming.
func (s *stage) leads(id string) []string {
	var all []string
	for _, line := range s.seen(fmt.Sprintf("log: notice\t{\"notice\": %q", id)) {
		_, what, _ := strings.Cut(line, `"leads to": "`)
		what, _, _ = strings.Cut(what, `"`)
		all = append(all, what)
	}
	return all
}

// leadsTo waits until the last word for a notice is what is wanted.
func (s *stage) leadsTo(id, want string) {
	s.t.Helper()
	s.until(fmt.Sprintf("notice %s leads to %s", id, want), func() bool {
		got := s.leads(id)
		return len(got) > 0 && got[len(got)-1] == want
	})
}

func TestOneOfTwoNoticesWithdrawn(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.setDeaf(true)
	s.daemon()
	one, two := notice("n1", 20*time.Second), notice("n2", 20*time.Second)
	s.send(one)
	s.await("unanswered")
	s.send(two)
	s.send(withdrawn(one))
	s.send(withdrawn(one))
	app.setDeaf(false)
	saved(t, s.report(1), 3)
}

func TestWithdrawnWhileItWaits(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	j := s.otherRescue()
	d := s.daemon()
	n := notice("n1", 20*time.Second)
	s.send(n)
	s.await("log: no rescue can be begun yet")
	s.send(withdrawn(n))
	s.awaitN("log: notice\t", 2)
	must(t, j.Close())
	s.send(notice("n2", 20*time.Second))
	if rep := s.report(1); rep.Notice.ID != "n2" {
		t.Errorf("rescue for %s", rep.Notice.ID)
	}
	d.stop()
	<-d.done
	if strings.Contains(s.journal(), `"n1"`) {
		t.Error("n1 was acted on")
	}
}

func TestSecondNoticeBringsTheDeadlineForward(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 }) // so that it is ended at the deadline
	s.daemon()
	s.send(notice("n1", time.Minute))
	s.await("told 1")
	second := notice("n2", 3*time.Second)
	later := notice("n3", time.Hour)
	s.send(second)
	s.send(later)
	rep := s.report(1)
	saved(t, rep, 3)
	if rep.Ended.After(second.Deadline) || rep.Ended.Before(second.Deadline.Add(-2*time.Second)) {
		t.Errorf("ended %v before the deadline", second.Deadline.Sub(rep.Ended))
	}
	if !rep.Deadline.Round(time.Millisecond).Equal(second.Deadline.Round(time.Millisecond)) {
		t.Errorf("deadline %v, want %v", rep.Deadline, second.Deadline)
	}
}

func TestNoticeWithoutDeadline(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.cfg.Deadline.Default = 3 * time.Second
	s.daemon()
	s.send(notice("n1", time.Minute))
	s.await("told 1")
	n := notice("n2", 0)
	n.Deadline = time.Time{}
	s.send(n)
	sent := time.Now()
	member.commit(0, 3, 100)
	rep := s.report(1)
	saved(t, rep, 4)
	if took := rep.Ended.Sub(sent); took < time.Second || took > 4*time.Second {
		t.Errorf("ended %v after a notice whose deadline is in 3s by default", took)
	}
}

// otherRescue is one that another process runs on the same state folder.
func (s *stage) otherRescue() *journal.Journal {
	s.t.Helper()
	store, err := journal.Open(s.cfg.State, s.logger())
	must(s.t, err)
	j, err := store.Create(journal.NewID(time.Now()), notice("other", time.Minute), journal.Scope{})
	must(s.t, err)
	must(s.t, j.Done("all", 0))
	return j
}

func TestNoticeWaitsForARescueByHand(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	j := s.otherRescue()
	s.daemon()
	s.send(notice("n1", 20*time.Second))
	s.send(notice("n2", 15*time.Second))
	s.awaitN("log: notice\t", 2)
	s.await("log: no rescue can be begun yet")
	must(t, j.Close())
	saved(t, s.report(1), 3)
	if j := s.journal(); strings.Count(j, `"type":"merged"`) != 1 {
		t.Errorf("the second notice that waited is not part of the rescue: %s", j)
	}
}

func TestNoticeWaitsForTheStateFolder(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.daemon()
	rescues := filepath.Join(s.cfg.State, "rescues")
	must(t, os.Rename(rescues, rescues+"-away"))
	s.send(notice("n1", 20*time.Second))
	s.await("log: no rescue can be begun yet")
	s.never("told", "ended")
	must(t, os.Rename(rescues+"-away", rescues))
	saved(t, s.report(1), 3)
}

func TestNoticeThatIsTooLateForAnything(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.daemon()
	s.send(notice("n1", -time.Second))
	rep := s.report(1)
	if _, _, lost := rep.Total(); lost.Outputs != 3 || rep.ExitCode() != 4 {
		t.Errorf("lost %d, exit code %d", lost.Outputs, rep.ExitCode())
	}
	s.never("told", "ended")
}

func TestBrokenSourceEndsTheAgentAfterTheRescue(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	d := s.daemon()
	s.send(notice("n1", 20*time.Second))
	s.await("told 1")
	broken := errors.New("bad configuration")
	s.source.fail <- broken
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	<-d.done
	if !errors.Is(d.err, broken) {
		t.Errorf("got %v", d.err)
	}
	saved(t, s.report(1), 3)
}
