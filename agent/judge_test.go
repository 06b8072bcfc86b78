package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

// maintenance is a scheduled notice.
func maintenance(id string, within time.Duration) providers.Notice {
	n := notice(id, within)
	n.Kind = providers.Maintenance
	return n
}

// of limits a notice to executors of one application.
func of(n providers.Notice, app string, executors ...string) providers.Notice {
	n.App, n.Executors = app, executors
	return n
}

// TestDefect03ScheduledNoticeWaits until deadline.ahead before its deadline, and can be moved and withdrawn meanwhile.
func TestDefect03ScheduledNoticeWaits(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.cfg.Deadline.Ahead = 10 * time.Second
	s.daemon()
	s.send(maintenance("gone", 24*time.Hour))
	s.send(maintenance("moved", 12*time.Hour))
	s.leadsTo("gone", NoticeScheduled)
	s.leadsTo("moved", NoticeScheduled)
	s.send(withdrawn(maintenance("gone", 24*time.Hour)))
	s.send(maintenance("moved", 11*time.Second))
	s.leadsTo("gone", NoticeWithdrawn)
	s.never("log: rescue begins")
	rep := s.report(1)
	saved(t, rep, 3)
	if rep.Notice.ID != "moved" || rep.SecondsLeft < 2 {
		t.Errorf("rescue for %s with %v seconds left", rep.Notice.ID, rep.SecondsLeft)
	}
	if began := rep.Deadline.Sub(rep.Began); began > 10*time.Second {
		t.Errorf("the rescue began %v before the deadline", began)
	}
}

// TestScheduledNoticeSurvivesARestart: its source tells of it again.
func TestScheduledNoticeSurvivesARestart(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.cfg.Deadline.Ahead = 10 * time.Second
	n := maintenance("n1", 12*time.Second)
	d := s.daemon()
	s.send(n)
	s.leadsTo("n1", NoticeScheduled)
	d.stop()
	<-d.done
	d = s.daemon()
	s.send(n)
	saved(t, s.report(1), 3)
	d.stop()
	<-d.done
	s.daemon()
	s.send(n)
	s.leadsTo("n1", NoticeRepeated)
}

func TestKindsAreConfigurable(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.cfg.Notices.Preemption, s.cfg.Notices.Cordon = config.ActRecord, config.ActRescue
	s.daemon()
	s.send(notice("n1", 20*time.Second))
	s.leadsTo("n1", NoticeRecorded)
	n := notice("n2", 20*time.Second)
	n.Kind = providers.Cordon
	s.send(n)
	if rep := s.report(1); rep.Notice.ID != "n2" {
		t.Errorf("rescue for %s", rep.Notice.ID)
	}
}

// TestNoticeOfOneApplication: executors of another one have the same ids.
func TestNoticeOfOneApplication(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	second := s.app("app-2")
	second.member("1", plain).commits(0, 2, 100)
	second.peer("2", "node-b")
	s.daemon()
	s.send(of(notice("n1", 20*time.Second), "app-2", "1"))
	rep := s.report(1)
	saved(t, rep, 2)
	if len(rep.Applications) != 1 || rep.Applications[0].ID != "app-2" {
		t.Errorf("%+v", rep.Applications)
	}
}

// TestNoticesOfSeveralExecutors, as a drain of a node gives them for its pods: they are one rescue, which waits for nobody, and
// none of the executors is a destination for the others.
func TestNoticesOfSeveralExecutors(t *testing.T) {
	s, app, one, _ := usual(t, 3)
	five := app.member("5", plain)
	five.commits(10, 3, 100)
	one.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	s.send(of(notice("n1", 20*time.Second), "app-1", "1"))
	s.await("told 1")
	s.never("told 5")
	s.send(of(notice("n5", 25*time.Second), "app-1", "5"))
	s.leadsTo("n5", NoticeWidens)
	s.await("told 5")
	one.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 6)
	if len(rep.Merged) != 1 || rep.Merged[0].ID != "n5" {
		t.Errorf("merged: %+v", rep.Merged)
	}
	if five.holds() > 0 {
		t.Error("an executor that leaves holds copies")
	}
	if n := len(s.seen("told 1")); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// TestNodeGoesWhileOneExecutorIsRescued: the rescue becomes one of the node, with the time that the node has.
func TestNodeGoesWhileOneExecutorIsRescued(t *testing.T) {
	s, app, one, _ := usual(t, 3)
	app.member("5", plain).commits(10, 3, 100)
	one.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	s.send(of(notice("n1", 10*time.Second), "app-1", "1"))
	s.await("told 1")
	n := notice("n2", time.Minute)
	s.send(n)
	s.await("told 5")
	one.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 6)
	if !rep.Deadline.Round(time.Second).Equal(n.Deadline.Round(time.Second)) {
		t.Errorf("deadline %v, want %v", rep.Deadline, n.Deadline)
	}
	if list, _ := journal.IDs(s.cfg.State); len(list) != 1 {
		t.Errorf("rescues: %v", list)
	}
}

// TestWithdrawalLeavesANarrowerNotice before anybody was told: the rescue goes on for that one alone.
func TestWithdrawalLeavesANarrowerNotice(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.member("5", plain).commits(10, 3, 100)
	app.setDeaf(true)
	s.daemon()
	node := notice("n1", 20*time.Second)
	s.send(node)
	s.await("unanswered")
	s.send(of(notice("n2", 20*time.Second), "app-1", "5"))
	s.leadsTo("n2", NoticeMerged)
	s.send(withdrawn(node))
	s.await("log: rescue interrupted: it goes on")
	app.setDeaf(false)
	rep := s.report(1)
	saved(t, rep, 3)
	s.never("told 1", "ended 1")
	s.send(node) // it comes again
	if rep := s.report(2); rep.Notice.ID != "n1" {
		t.Errorf("rescue for %s", rep.Notice.ID)
	}
}

// TestDuplicateFromASecondSource after the rescue: nobody is left, so there is nothing to do and to report.
func TestDuplicateFromASecondSource(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	second := s.app("app-2")
	second.peer("2", "node-b")
	d := s.daemon()
	s.send(notice("spot", 30*time.Second))
	saved(t, s.report(1), 3)
	s.send(notice("asg", 25*time.Second))
	s.leadsTo("asg", NoticeRepeated)
	d.stop()
	<-d.done
	s.daemon() // a restart forgets nothing
	s.send(notice("taint", 25*time.Second))
	s.leadsTo("taint", NoticeRepeated)
	second.member("9", plain).commits(20, 2, 100) // what is new here is no duplicate
	s.send(notice("again", 25*time.Second))
	saved(t, s.report(2), 2)
}

// TestDefect06FailedBeginningIsNotActedOn: what could not be begun is tried again, and its id suppresses nothing.
func TestDefect06FailedBeginningIsNotActedOn(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	rescues := filepath.Join(s.cfg.State, "rescues")
	must(t, os.Rename(rescues, rescues+"-away"))
	n := notice("n1", 60*time.Second)
	s.send(n)
	s.await("log: no rescue can be begun yet")
	d.stop()
	<-d.done
	must(t, os.Rename(rescues+"-away", rescues))
	s.daemon()
	s.send(n)
	saved(t, s.report(1), 3)
}

// TestDefect07EveryNoticeIsRead, also those after the first, and while a rescue runs.
func TestDefect07EveryNoticeIsRead(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	s.send(notice("n1", 30*time.Second))
	s.await("told 1")
	for _, id := range []string{"n2", "n3", "n4"} {
		s.send(notice(id, 40*time.Second))
		s.leadsTo(id, NoticeMerged)
	}
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	if rep := s.report(1); len(rep.Merged) != 3 {
		t.Errorf("merged %+v", rep.Merged)
	}
}

// TestDefect11WithdrawalOfOneNoticeLeavesTheOthers.
func TestDefect11WithdrawalOfOneNoticeLeavesTheOthers(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.setDeaf(true)
	s.daemon()
	s.send(notice("n1", 30*time.Second))
	s.await("unanswered")
	s.send(withdrawn(notice("other", 30*time.Second)))
	s.leadsTo("other", NoticeWithdrawn)
	app.setDeaf(false)
	rep := s.report(1)
	saved(t, rep, 3)
	if rep.Withdrawn || strings.Contains(s.journal(), `"withdrawn"`) {
		t.Error("the live notice was withdrawn")
	}
}

// TestWithdrawalBetweenTwoRunsOfARescue is not lost, and one that is taken back itself is none.
func TestWithdrawalBetweenTwoRunsOfARescue(t *testing.T) {
	for name, again := range map[string]bool{"withdrawn": false, "withdrawn, and it comes again": true} {
		t.Run(name, func(t *testing.T) {
			s, _, _, _ := usual(t, 3)
			d := newDispatcher(s.agent())
			n := notice("n1", 20*time.Second)
			r, err := d.Agent.begin(order{notices: []providers.Notice{n}})
			must(t, err)
			d.busy, d.current = true, r
			r.mu.Lock()
			r.recast()
			r.mu.Unlock()
			_, err = d.carryOut(t.Context(), r)
			must(t, err)
			d.take(t.Context(), withdrawn(n))
			if again {
				d.take(t.Context(), n)
			}
			d.ended()
			d.next(t.Context())
			<-d.done
			rep := s.report(1)
			if rep.Withdrawn == again || rep.Notice.ID != "n1" {
				t.Errorf("withdrawn: %v", rep.Withdrawn)
			}
			if told := len(s.seen("told")) > 0; told != again {
				t.Errorf("told: %v", told)
			}
		})
	}
}

// TestAllWithdrawnWhileARescueIsInterrupted ends it in nothing, and it is not taken up.
func TestAllWithdrawnWhileARescueIsInterrupted(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.member("5", plain).commits(10, 3, 100)
	app.setDeaf(true)
	d := s.daemon()
	one, five := of(notice("n1", 20*time.Second), "app-1", "1"), of(notice("n5", 25*time.Second), "app-1", "5")
	s.send(one)
	s.await("unanswered")
	s.send(five)
	s.send(withdrawn(five))
	s.send(withdrawn(one))
	if rep := s.report(1); !rep.Withdrawn {
		t.Errorf("%+v", rep)
	}
	app.setDeaf(false)
	d.stop()
	<-d.done
	if d.err != nil {
		t.Error(d.err)
	}
	s.never("told", "ended")
}

// TestDeadlineThatIsOverEndsNoRescue that another notice leaves time for.
func TestDeadlineThatIsOverEndsNoRescue(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	s.send(notice("n1", 30*time.Second))
	s.await("told 1")
	s.send(notice("late", -time.Second))
	s.leadsTo("late", NoticeMerged)
	member.commit(0, 3, 100)
	s.await("index shuffle_0_3_0.index")
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	saved(t, s.report(1), 4)
}
