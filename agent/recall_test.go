package agent

import (
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

// origin is a source whose notices can end: its answer shows none, or does not come.
type origin struct {
	*script
	mu       sync.Mutex
	answered time.Time
	recalled []providers.Notice
}

func (o *origin) Recall(list []providers.Notice) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recalled = list
	return true
}

func (o *origin) Health() providers.Health {
	o.mu.Lock()
	defer o.mu.Unlock()
	return providers.Health{Source: o.Name(), OK: !o.answered.IsZero(), LastAnswer: o.answered}
}

func (o *origin) Notices() []providers.Notice { return nil }

func (o *origin) Name() string { return "origin" }

// answer shows that all that was recalled has ended, or that it holds.
func (o *origin) answer(s *stage, ended bool) {
	s.until("the source was told of the notice", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.recalled) > 0
	})
	o.mu.Lock()
	o.answered = time.Now()
	o.mu.Unlock()
	for _, n := range o.recalled {
		n.Withdrawn = ended
		o.notices <- n
	}
}

func (s *stage) withOrigin() *origin {
	o := &origin{script: newScript()}
	s.others = append(s.others, o)
	return o
}

func ofOrigin(id string, within time.Duration) providers.Notice {
	n := notice(id, within)
	n.Source = "origin"
	return n
}

// TestWithdrawnWhileNoAgentRan: nobody was told, so nothing has happened.
func TestWithdrawnWhileNoAgentRan(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	o := s.withOrigin()
	s.leave(ofOrigin("n1", time.Minute), journal.Scope{}, func(*journal.Journal) {})
	s.daemon()
	o.answer(s, true)
	if rep := s.report(1); !rep.Withdrawn || rep.Notice.ID != "n1" {
		t.Errorf("report %+v", rep)
	}
	s.never("told", "data", "ended")
}

func TestNoticeStillHoldsAfterARestart(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	o := s.withOrigin()
	s.leave(ofOrigin("n1", time.Minute), journal.Scope{}, func(*journal.Journal) {})
	s.daemon()
	o.answer(s, false)
	saved(t, s.report(1), 3)
}

// TestSourceThatIsAwayHoldsNoRescueUp for more than a moment.
func TestSourceThatIsAwayHoldsNoRescueUp(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.withOrigin()
	s.leave(ofOrigin("n1", 20*time.Second), journal.Scope{}, func(*journal.Journal) {})
	s.daemon()
	s.await("log: a rescue is taken up although")
	saved(t, s.report(1), 3)
}

// TestToldByAnEarlierRunIsFinished, whatever the source says: nobody waits for it, either.
func TestToldByAnEarlierRunIsFinished(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.marked = true })
	o := s.withOrigin()
	s.leave(ofOrigin("n1", 20*time.Second), journal.Scope{}, func(j *journal.Journal) {
		must(t, j.TellIntent("app-1", "1", "rpc"))
		must(t, j.Told("app-1", "1", "rpc", true))
	})
	s.daemon()
	saved(t, s.report(1), 3)
	s.never("log: a rescue is taken up although")
	if len(o.recalled) > 0 {
		t.Errorf("recalled: %v", o.recalled)
	}
}
