// Package providertest is the conformance suite that each source of notices passes against a fake of
// its origin with a script of faults. What it demands is what the first step of a rescue rests on: no
// notice missed, none twice, none invented.
package providertest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
)

// Fault is a state of trouble of the origin. It lasts until the next one is set.
type Fault string

// The faults.
const (
	None         Fault = "none"
	TokenExpiry  Fault = "token-expiry" // credentials given out before are no longer valid, new ones are
	Unauthorized Fault = "unauthorized" // 401, whatever the credentials
	NotFound     Fault = "not-found"    // 404, which may also mean that there is no notice
	TooMany      Fault = "too-many"     // 429
	Internal     Fault = "internal"     // 500
	Unavailable  Fault = "unavailable"  // 503
	Slow         Fault = "slow"         // the right answer, late, but within the source's time limit
	BlackHole    Fault = "black-hole"   // no answer
	Malformed    Fault = "malformed"    // an answer that is broken
	Truncated    Fault = "truncated"    // an answer that stops in the middle
	Huge         Fault = "huge"         // an answer that is far too long
	Redirect     Fault = "redirect"     // a pointer to somewhere else, where a false notice is shown
	Reset        Fault = "reset"        // a connection that is reset
)

// HTTP are the faults that an origin behind HTTP can have.
var HTTP = [...]Fault{
	TokenExpiry, Unauthorized, NotFound, TooMany, Internal, Unavailable, Slow, BlackHole,
	Malformed, Truncated, Huge, Redirect, Reset,
}

// harmless faults don't keep a source from reading a notice.
func (f Fault) harmless() bool { return f == None || f == TokenExpiry || f == Slow }

// silent faults can't be told from "there is no notice".
func (f Fault) silent() bool { return f == NotFound }

// Rig is one fake origin and the source that watches it. What else an origin can do is in the optional interfaces
// Untimed, Machines, Clock, Odd, Elsewhere, Partial and Several: a rig that has one is tested for it.
type Rig interface {
	// Announce shows a notice for the whole node and replaces the one shown before. Another deadline
	// is another event.
	Announce(deadline time.Time)
	// Withdraw ends the notice that is shown.
	Withdraw()
	SetFault(Fault)
	// Source returns a new source, as another run of the agent would make it. It should poll every
	// millisecond or so, and give up a poll after 100 ms or so.
	Source(reg prometheus.Registerer) providers.Source
}

// Suite says what is tested.
type Suite struct {
	New    func(t *testing.T) Rig // a new origin without a notice and without a fault
	Faults []Fault                // that the origin can have
	// Withdraws is true when the source reports that a notice has ended. If not, an origin that shows
	// no notice any more must not make it say anything.
	Withdraws bool
	Events    int // of the long random test; 1,000 when 0
}

// Run runs the suite. The names of tests begin with the defect of other handlers that they are about, where there is one.
func Run(t *testing.T, s Suite) {
	if s.Events == 0 {
		s.Events = 1000
	}
	probe := s.New(t)
	for _, test := range []struct {
		name string
		able bool // false: the origin can't do what is tested
		run  func(*testing.T, Suite)
	}{
		{"Notice", true, testNotice},
		{"VisibleAtStart", true, testVisibleAtStart},
		{"Defect07LaterEvents", true, testLaterEvents},
		{"Defect07SeveralAtOnce", is[Several](probe), testSeveral},
		{"Defect02SameIDAfterRestart", true, testRestart},
		{"RestartBetweenPollAndAct", true, testRestartBeforeAct},
		{"Withdrawal", true, testWithdrawal},
		{"WithdrawalBetweenTwoRuns", s.Withdraws, testWithdrawalBetweenRuns},
		{"NoticeHoldsAcrossTwoRuns", s.Withdraws, testHoldsAcrossRuns},
		{"Faults", true, testFaults},
		{"Flapping", true, testFlapping},
		{"Defect04LongOutage", true, testLongOutage},
		{"UnknownFields", is[Odd](probe), testUnknownFields},
		{"UnknownKind", is[Odd](probe), testUnknownKind},
		{"NoticeForAnotherMachine", is[Elsewhere](probe), testElsewhere},
		{"ClockAhead", is[Clock](probe), func(t *testing.T, s Suite) { testClock(t, s, 2*time.Minute) }},
		{"ClockBehind", is[Clock](probe), func(t *testing.T, s Suite) { testClock(t, s, -2*time.Minute) }},
		{"End", true, testEnd},
		{"RandomFaults", true, testRandomFaults},
	} {
		if !test.able {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s)
		})
	}
}

// is reports whether the rig has an optional interface.
func is[Ability any](r Rig) bool {
	_, able := r.(Ability)
	return able
}

func testNotice(t *testing.T, s Suite) {
	c := newScene(t, s)
	w := c.watch()
	w.polls(3)
	w.expect()
	before := time.Now()
	deadline := soon(0)
	c.announce(deadline)
	n := w.next(deadline)
	var app string
	var executors []string
	if p, is := c.Rig.(Partial); is {
		app, executors = p.Executors()
	}
	if n.ID == "" || n.Source != w.source.Name() || n.Kind == "" || n.Withdrawn || n.Drill || n.App != app || !slices.Equal(n.Executors, executors) {
		t.Errorf("notice: %+v", n)
	}
	if n.Seen.Before(before) || n.Seen.After(time.Now()) {
		t.Errorf("seen at %v", n.Seen)
	}
	w.polls(20)
	w.expect(deadline)
	w.wantHealth(true)
	w.wantSight(n.ID)
}

func testVisibleAtStart(t *testing.T, s Suite) {
	c := newScene(t, s)
	deadline := soon(0)
	c.announce(deadline)
	w := c.watch()
	w.next(deadline)
	w.polls(5)
	w.expect(deadline)
}

// testLaterEvents is for a reader that stops after the first event.
func testLaterEvents(t *testing.T, s Suite) {
	c := newScene(t, s)
	w := c.watch()
	var all []time.Time
	for i := range 20 {
		if c.ready() {
			w, all = c.watch(), nil
		}
		d := soon(i)
		all = append(all, d)
		c.announce(d)
		w.next(d)
	}
	w.polls(5)
	w.expect(all...)
}

// testRestart is for an id that depends on when it was made.
func testRestart(t *testing.T, s Suite) {
	c := newScene(t, s)
	deadline := soon(0)
	c.announce(deadline)
	first := c.watch()
	a := first.next(deadline)
	first.stop()
	second := c.watch()
	b := second.next(deadline)
	if a.ID != b.ID || !c.sameDeadline(a.Notice, b.Notice) || a.Kind != b.Kind {
		t.Errorf("one run says %+v, the next %+v", a, b)
	}
	if c.ready() {
		return // the next event is another machine's, and so are its ids
	}
	c.announce(soon(1))
	if n := second.next(soon(1)); n.ID == a.ID {
		t.Errorf("two events have the id %s", n.ID)
	}
}

// testRestartBeforeAct ends the agent when the source has read a notice and nobody has taken it.
func testRestartBeforeAct(t *testing.T, s Suite) {
	c := newScene(t, s)
	deadline := soon(0)
	c.announce(deadline)
	reg := prometheus.NewPedanticRegistry()
	source := c.Source(reg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, make(chan providers.Notice)) }()
	await(t, "a poll", func() bool { return polls(t, reg) > 0 })
	cancel()
	returned(t, done)

	again := c.watchSource(source, reg) // the same one, run again
	a := again.next(deadline)
	again.stop()
	w := c.watch()
	if b := w.next(deadline); a.ID != b.ID || !c.sameDeadline(a.Notice, b.Notice) {
		t.Errorf("one run says %+v, the next %+v", a, b)
	}
	w.polls(5)
	w.expect(deadline)
}

// earlier lets a run see a notice and ends it, and returns the notice.
func earlier(c *scene, deadline time.Time) providers.Notice {
	c.t.Helper()
	c.announce(deadline)
	w := c.watch()
	n := w.next(deadline)
	w.stop()
	return n.Notice
}

// recall makes the source of the next run, and tells it of what the run before has heard.
func recall(c *scene, n providers.Notice) *watcher {
	c.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	source := c.Source(reg)
	if to, can := source.(providers.Recaller); can {
		to.Recall([]providers.Notice{n})
	} else {
		c.t.Error("the source can't be told of what an earlier run has heard")
	}
	return c.watchSource(source, reg)
}

// testWithdrawalBetweenRuns is for a rescue that an agent takes up whose reason went away while it was down.
func testWithdrawalBetweenRuns(t *testing.T, s Suite) {
	c := newScene(t, s)
	n := earlier(c, soon(0))
	c.Withdraw()
	w := recall(c, n)
	w.await("a withdrawal", func() bool { return len(w.withdrawals()) == 1 })
	if id := w.withdrawals()[0]; id != n.ID {
		t.Errorf("withdrawn: %s, want %s", id, n.ID)
	}
	w.polls(20)
	if got := len(w.withdrawals()); got != 1 {
		t.Errorf("%d withdrawals", got)
	}
}

// testHoldsAcrossRuns: a notice that holds is not withdrawn by the next run.
func testHoldsAcrossRuns(t *testing.T, s Suite) {
	c := newScene(t, s)
	n := earlier(c, soon(0))
	w := recall(c, n)
	w.await("the notice again", func() bool { return len(w.all()) > 0 })
	w.polls(20)
	if got := w.withdrawals(); len(got) > 0 || w.all()[0].ID != n.ID {
		t.Errorf("withdrawn: %v; shown %s, was %s", got, w.all()[0].ID, n.ID)
	}
	w.wantSight(n.ID)
}

func testWithdrawal(t *testing.T, s Suite) {
	c := newScene(t, s)
	deadline := soon(0)
	c.announce(deadline)
	w := c.watch()
	n := w.next(deadline)
	c.Withdraw()
	if s.Withdraws {
		w.await("a withdrawal", func() bool { return len(w.withdrawals()) == 1 })
		if id := w.withdrawals()[0]; id != n.ID {
			t.Errorf("withdrawn: %s, want %s", id, n.ID)
		}
	}
	w.polls(20)
	if got := len(w.withdrawals()); got > 0 && !s.Withdraws || got > 1 {
		t.Errorf("%d withdrawals", got)
	}
	w.expect(deadline)
	if s.Withdraws {
		w.wantSight()
	}
}

// testFaults goes through the faults one by one: with no notice, over a notice, and after it.
func testFaults(t *testing.T, s Suite) {
	for _, f := range s.Faults {
		t.Run(string(f), func(t *testing.T) {
			c := newScene(t, s)
			w := c.watch()
			w.polls(1)
			c.SetFault(f)
			w.polls(4)
			w.expect()
			w.wantHealth(f.harmless() || f.silent())

			deadline := soon(0)
			c.announce(deadline)
			if f.harmless() {
				w.next(deadline)
			}
			w.polls(4)
			if !f.harmless() {
				w.expect()
			}
			c.SetFault(None)
			w.next(deadline)
			w.polls(2)
			w.wantHealth(true)

			c.SetFault(f)
			w.polls(4)
			c.SetFault(None)
			w.polls(4)
			w.expect(deadline)
			if n := len(w.withdrawals()); n > 0 {
				t.Errorf("%d withdrawals of a notice that holds", n)
			}
		})
	}
}

func testFlapping(t *testing.T, s Suite) {
	c := newScene(t, s)
	w := c.watch()
	deadline := soon(0)
	for i := range 100 {
		if i == 50 {
			c.announce(deadline)
		}
		f := None
		if i%2 == 0 {
			f = s.quick(i / 2)
		}
		c.SetFault(f)
		w.polls(1)
	}
	c.SetFault(None)
	w.next(deadline)
	w.polls(2)
	w.expect(deadline)
	if n := len(w.withdrawals()); n > 0 {
		t.Errorf("%d withdrawals of a notice that holds", n)
	}
}

// testLongOutage is for an agent that gives up after a few identical errors. 200 polls stand for more than six minutes at
// the usual interval; one kind of trouble all the time, and then each kind in turn.
func testLongOutage(t *testing.T, s Suite) {
	c := newScene(t, s)
	w := c.watch()
	w.polls(1)
	deadline := soon(0)
	c.SetFault(s.quick(0))
	c.announce(deadline)
	w.polls(200)
	for i := range 20 {
		c.SetFault(s.quick(i))
		w.polls(5)
	}
	w.expect()
	w.wantHealth(false)
	c.SetFault(None)
	w.next(deadline)
	w.wantHealth(true)
}
