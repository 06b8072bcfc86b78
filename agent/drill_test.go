package agent

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/drill"
	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/providers"
)

// drill gives one to the agent that runs, as the command does.
func (s *stage) drill(r drill.Request, within time.Duration) *drill.Drill {
	s.t.Helper()
	if r.Kind == "" {
		r.Kind = providers.Preemption
	}
	r.Deadline = time.Now().Add(within)
	d, err := drill.Give(s.cfg.State, r)
	must(s.t, err)
	return d
}

func (s *stage) attended() {
	s.t.Helper()
	s.until("an agent takes drills", func() bool { return drill.Attended(s.cfg.State) == nil })
}

func TestDrillGoesThroughEverything(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	s.await("log: source of notices up")
	given := s.drill(drill.Request{App: "app-1", Executors: []string{"1"}}, 20*time.Second)
	rep := s.report(1)
	saved(t, rep, 3)
	if !rep.Notice.Drill || rep.Notice.ID != given.ID || rep.Notice.Source != drill.Source || rep.Notice.App != "app-1" {
		t.Errorf("report of %+v", rep.Notice)
	}
	must(t, given.End())
	s.leadsTo(given.ID, NoticeWithdrawn)
	if found, err := report.For(s.cfg.State, given.ID); err != nil || found == nil || found.ID != rep.ID {
		t.Errorf("%+v, %v", found, err)
	}
	for _, want := range []string{
		`lifeboat_rescues_total{drill="true",outcome="all"} 1`, `lifeboat_rescues_total{drill="false",outcome="all"} 0`,
		`lifeboat_notices_handled_total{drill="true",kind="preemption",result="rescue",source="drill"} 1`,
	} {
		s.until(want, func() bool {
			_, metrics := d.ask(s, http.MethodGet, "/metrics", "")
			return strings.Contains(metrics, want)
		})
	}
}

func TestDryDrillTouchesNothing(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.daemon()
	s.await("log: source of notices up")
	s.drill(drill.Request{DryRun: true}, 20*time.Second)
	rep := s.report(1)
	if found, _, _ := rep.Total(); !rep.DryRun || !rep.Notice.Drill || found.Outputs != 3 || rep.Outcome != report.All {
		t.Errorf("%+v", rep)
	}
	s.never("told", "asked", "data", "index", "ended")
}

// TestRealNoticeDuringADrill: the rescue becomes a real one, with the time of the real notice, and goes on where it was.
func TestRealNoticeDuringADrill(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	s.await("log: source of notices up")
	given := s.drill(drill.Request{}, 10*time.Second)
	s.await("told 1")
	n := notice("n1", time.Minute)
	s.send(n)
	s.leadsTo("n1", NoticeWidens)
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 3)
	if rep.Notice.ID != "n1" || rep.Notice.Drill || len(rep.Merged) != 1 || rep.Merged[0].ID != given.ID {
		t.Errorf("report of %+v and %+v", rep.Notice, rep.Merged)
	}
	if !rep.Deadline.Round(time.Second).Equal(n.Deadline.Round(time.Second)) {
		t.Errorf("deadline %v, want %v", rep.Deadline, n.Deadline)
	}
	if told := s.seen("told 1"); len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
}

// TestRealNoticeAfterADrill is a notice like any other: the drill has not been for it.
func TestRealNoticeAfterADrill(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.daemon()
	s.await("log: source of notices up")
	s.drill(drill.Request{}, 20*time.Second)
	saved(t, s.report(1), 3)
	s.send(notice("n1", 20*time.Second))
	if rep := s.report(2); rep.Notice.ID != "n1" {
		t.Errorf("report of %s", rep.Notice.ID)
	}
}

// TestRealNoticeDuringADryDrill does not wait for its end.
func TestRealNoticeDuringADryDrill(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.setDeaf(true) // the dry run waits for an answer
	s.daemon()
	s.await("log: source of notices up")
	given := s.drill(drill.Request{DryRun: true}, 20*time.Second)
	s.leadsTo(given.ID, NoticeRehearsed)
	s.await("unanswered")
	s.send(notice("n1", 20*time.Second))
	s.awaitN("log: rescue begins", 2)
	s.never("log: rescue ended")
	app.setDeaf(false)
	s.until("both reports", func() bool {
		r, err := report.For(s.cfg.State, "n1")
		return err == nil && r != nil && r.Outcome == report.All && !r.DryRun
	})
}

// TestDrillDuringARealRescue is part of it, and changes nothing about it.
func TestDrillDuringARealRescue(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	s.await("log: source of notices up")
	n := of(notice("n1", 30*time.Second), "app-1", "1")
	s.send(n)
	s.await("told 1")
	given := s.drill(drill.Request{}, 5*time.Second)
	s.leadsTo(given.ID, NoticeMerged)
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 3)
	if rep.Notice.ID != "n1" || !rep.Deadline.Round(time.Second).Equal(n.Deadline.Round(time.Second)) {
		t.Errorf("report of %s with the deadline %v, want %v", rep.Notice.ID, rep.Deadline, n.Deadline)
	}
}

// TestDrillThatWaitsLetsRealNoticesPass.
func TestDrillThatWaitsLetsRealNoticesPass(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	j := s.otherRescue()
	s.daemon()
	s.await("log: source of notices up")
	given := s.drill(drill.Request{}, 20*time.Second)
	s.leadsTo(given.ID, NoticeRescue)
	n := notice("n1", 50*time.Second)
	s.send(n)
	s.leadsTo("n1", NoticeRescue)
	must(t, j.Close())
	rep := s.report(1)
	saved(t, rep, 3)
	if rep.Notice.ID != "n1" || !rep.Deadline.Round(time.Second).Equal(n.Deadline.Round(time.Second)) {
		t.Errorf("report of %s with the deadline %v", rep.Notice.ID, rep.Deadline)
	}
}

// TestDrillOfACommandThatWasKilled is over when its time is.
func TestDrillOfACommandThatWasKilled(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	s.attended()
	given := s.drill(drill.Request{Kind: providers.Maintenance}, 24*time.Hour)
	s.leadsTo(given.ID, NoticeScheduled)
	d.stop()
	<-d.done
	s.until("nobody takes drills", func() bool { return errors.Is(drill.Attended(s.cfg.State), drill.ErrNoAgent) })
	s.daemon()
	n := notice("old", -time.Minute)
	n.Drill = true
	s.send(n)
	s.leadsTo("old", NoticeRecorded)
	if ids, _ := journal.IDs(s.cfg.State); len(ids) > 0 {
		t.Errorf("rescues: %v", ids)
	}
}
