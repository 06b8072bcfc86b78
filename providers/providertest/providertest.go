// Package providertest is the conformance suite that each source of notices passes against a fake of
// its origin with a script of faults. What it demands is what the first step of a rescue rests on: no
// notice missed, none twice, none invented.
package providertest

import (
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

// Rig is one fake origin and the source that watches it.
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

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	if s.Events == 0 {
		s.Events = 1000
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"Notice", testNotice},
		{"VisibleAtStart", testVisibleAtStart},
		{"LaterEvents", testLaterEvents},
		{"SameIDAfterRestart", testRestart},
		{"Withdrawal", testWithdrawal},
		{"Faults", testFaults},
		{"Flapping", testFlapping},
		{"LongOutage", testLongOutage},
		{"End", testEnd},
		{"RandomFaults", testRandomFaults},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s)
		})
	}
}

func testNotice(t *testing.T, s Suite) {
	rig := s.New(t)
	w := watch(t, rig)
	w.polls(3)
	w.expect()
	before := time.Now()
	deadline := soon(0)
	rig.Announce(deadline)
	n := w.next(deadline)
	if n.ID == "" || n.Source != w.source.Name() || n.Kind == "" || n.Withdrawn || n.Drill || len(n.Executors) > 0 {
		t.Errorf("notice: %+v", n)
	}
	if n.Seen.Before(before) || n.Seen.After(time.Now()) {
		t.Errorf("seen at %v", n.Seen)
	}
	w.polls(20)
	w.expect(deadline)
	w.wantHealth(true)
}

func testVisibleAtStart(t *testing.T, s Suite) {
	rig := s.New(t)
	deadline := soon(0)
	rig.Announce(deadline)
	w := watch(t, rig)
	w.next(deadline)
	w.polls(5)
	w.expect(deadline)
}

// testLaterEvents is defect 7: a reader that stops after the first event.
func testLaterEvents(t *testing.T, s Suite) {
	rig := s.New(t)
	w := watch(t, rig)
	var all []time.Time
	for i := range 20 {
		d := soon(i)
		all = append(all, d)
		rig.Announce(d)
		w.next(d)
	}
	w.polls(5)
	w.expect(all...)
}

// testRestart is defect 2: an id that depends on when it was made.
func testRestart(t *testing.T, s Suite) {
	rig := s.New(t)
	deadline := soon(0)
	rig.Announce(deadline)
	first := watch(t, rig)
	a := first.next(deadline)
	first.stop()
	second := watch(t, rig)
	b := second.next(deadline)
	if a.ID != b.ID || !a.Deadline.Equal(b.Deadline) || a.Kind != b.Kind {
		t.Errorf("one run says %+v, the next %+v", a, b)
	}
	rig.Announce(soon(1))
	if c := second.next(soon(1)); c.ID == a.ID {
		t.Errorf("two events have the id %s", c.ID)
	}
}

func testWithdrawal(t *testing.T, s Suite) {
	rig := s.New(t)
	deadline := soon(0)
	rig.Announce(deadline)
	w := watch(t, rig)
	n := w.next(deadline)
	rig.Withdraw()
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
}

// testFaults goes through the faults one by one: with no notice, over a notice, and after it.
func testFaults(t *testing.T, s Suite) {
	for _, f := range s.Faults {
		t.Run(string(f), func(t *testing.T) {
			rig := s.New(t)
			w := watch(t, rig)
			w.polls(1)
			rig.SetFault(f)
			w.polls(4)
			w.expect()
			w.wantHealth(f.harmless() || f.silent())

			deadline := soon(0)
			rig.Announce(deadline)
			if f.harmless() {
				w.next(deadline)
			}
			w.polls(4)
			if !f.harmless() {
				w.expect()
			}
			rig.SetFault(None)
			w.next(deadline)
			w.polls(2)
			w.wantHealth(true)

			rig.SetFault(f)
			w.polls(4)
			rig.SetFault(None)
			w.polls(4)
			w.expect(deadline)
			if n := len(w.withdrawals()); n > 0 {
				t.Errorf("%d withdrawals of a notice that holds", n)
			}
		})
	}
}

func testFlapping(t *testing.T, s Suite) {
	rig := s.New(t)
	w := watch(t, rig)
	deadline := soon(0)
	for i := range 100 {
		if i == 50 {
			rig.Announce(deadline)
		}
		f := None
		if i%2 == 0 {
			f = s.quick(i / 2)
		}
		rig.SetFault(f)
		w.polls(1)
	}
	rig.SetFault(None)
	w.next(deadline)
	w.polls(2)
	w.expect(deadline)
}

// testLongOutage is defect 4: an agent that gives up after a few identical errors. 200 polls stand
// for more than six minutes at the usual interval.
func testLongOutage(t *testing.T, s Suite) {
	rig := s.New(t)
	w := watch(t, rig)
	w.polls(1)
	deadline := soon(0)
	rig.SetFault(s.quick(0))
	rig.Announce(deadline)
	w.polls(200)
	w.expect()
	w.wantHealth(false)
	rig.SetFault(None)
	w.next(deadline)
	w.wantHealth(true)
}
