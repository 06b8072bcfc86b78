package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

// acknowledging is a source that can tell its cloud that the node may go.
type acknowledging struct {
	*script
	s *stage

	mu   sync.Mutex
	fail int // how many times, from now on
}

func (a *acknowledging) Name() string { return "cloud" }

func (a *acknowledging) Acknowledge(_ context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.s.happened("acknowledged %s", id)
	if a.fail > 0 {
		a.fail--
		return errors.New("429 Too Many Requests")
	}
	return nil
}

// cloud makes one the stage's second source.
func (s *stage) cloud() *acknowledging {
	a := &acknowledging{script: newScript(), s: s}
	s.others = append(s.others, a)
	return a
}

// announce sends a notice that is the cloud's.
func (a *acknowledging) announce(n providers.Notice) {
	a.s.t.Helper()
	n.Source = a.Name()
	select {
	case a.notices <- n:
	case <-time.After(10 * time.Second):
		a.s.t.Fatal("nobody takes the notice")
	}
}

func TestDefect10AcknowledgedOnlyAfterEverythingIsSaved(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	c := s.cloud()
	c.fail = 2
	s.daemon()
	c.announce(notice("n1", 30*time.Second))
	saved(t, s.report(1), 3)
	s.await("log: notice acknowledged")
	s.awaitN("acknowledged n1", 3)
	s.inOrder("log: executor ended", "acknowledged n1")
	s.inOrder("log: rescue ended", "acknowledged n1")
	s.until("the report says so", func() bool {
		r, err := report.For(s.cfg.State, "n1")
		return err == nil && len(r.Acknowledged) == 1 && r.Acknowledged[0].Error == ""
	})
}

func TestDefect10FailedRescueIsNotAcknowledged(t *testing.T) {
	s, _, member, peer := usual(t, 3)
	peer.set(func(x *sparkExecutor) { x.refuse = "java.io.IOException: No space left on device" })
	_ = member
	c := s.cloud()
	s.daemon()
	c.announce(notice("n1", 4*time.Second))
	if rep := s.report(1); rep.Outcome != report.None {
		t.Errorf("outcome %s", rep.Outcome)
	}
	other := notice("n2", time.Hour)
	other.Kind = providers.Rebalance // what is only recorded is not acknowledged
	c.announce(other)
	s.leadsTo("n2", NoticeMirrored)
	s.never("acknowledged")
}

func TestDrillAndNamedExecutorsAreNotAcknowledged(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.member("5", plain).commits(10, 2, 100)
	c := s.cloud()
	s.daemon()
	c.announce(of(notice("n1", 20*time.Second), "app-1", "1"))
	saved(t, s.report(1), 3)
	n := notice("n2", 20*time.Second)
	n.Drill = true
	c.announce(n)
	rep := s.report(2)
	found, _, _ := rep.Total() // what it has as a peer of the first one counts as well
	saved(t, rep, max(found.Outputs, 2))
	s.never("acknowledged")
}

// TestAcknowledgementIsTriedUntilTheDeadline, and its failure is reported.
func TestAcknowledgementIsTriedUntilTheDeadline(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	c := s.cloud()
	c.fail = 1 << 20
	s.daemon()
	c.announce(notice("n1", 12*time.Second))
	s.await("log: notice not acknowledged")
	s.until("the report says so", func() bool {
		r, err := report.For(s.cfg.State, "n1")
		return err == nil && r != nil && len(r.Acknowledged) == 1 && strings.Contains(r.Acknowledged[0].Error, "429")
	})
	if n := len(s.seen("acknowledged n1")); n < 2 {
		t.Errorf("tried %d times", n)
	}
}

// TestAllSafe: one doubt is enough.
func TestAllSafe(t *testing.T) {
	for name, change := range map[string]func(r *report.Report){
		"lost":         func(r *report.Report) { r.Applications[0].AddLost("x", string(migrate.ReasonCorrupt), 1) },
		"problem":      func(r *report.Report) { r.Problems = []string{"some processes are not readable"} },
		"skipped file": func(r *report.Report) { r.Skipped = []report.Skipped{{Path: "x"}} },
		"error":        func(r *report.Report) { r.Applications[0].Error = "driver gone" },
		"still there":  func(r *report.Report) { r.Applications[0].Executors[0].Ended = false },
		"drill":        func(r *report.Report) { r.Notice.Drill = true },
		"dry run":      func(r *report.Report) { r.DryRun = true },
		"interrupted":  func(r *report.Report) { r.Interrupted = true },
		"withdrawn":    func(r *report.Report) { r.Withdrawn = true },
		"":             func(*report.Report) {},
	} {
		r := &report.Report{Applications: []report.Application{{Executors: []report.Executor{{ID: "1", Ended: true}}}}}
		r.Applications[0].AddSaved("peer", 1)
		change(r)
		r.Settle()
		if allSafe(r) != (name == "") {
			t.Errorf("%q: safe %v", name, allSafe(r))
		}
	}
	nothing := &report.Report{}
	nothing.Settle()
	if !allSafe(nothing) {
		t.Error("nothing at risk is not safe")
	}
}
