package providertest

import (
	"slices"
	"testing"
	"time"
)

// Untimed is a rig whose origin names no time and gives an event no id of its own: the deadline is the time of seeing plus
// Lead, and only an end in between makes another event.
type Untimed interface {
	Lead() time.Duration
}

// Machines is a rig whose origin announces no more than once in a machine's life.
type Machines interface {
	// Replace puts another machine, without a notice, in the place of the one that is gone. No source runs meanwhile.
	Replace()
}

// Clock is a rig whose origin's clock can be wrong, or this machine's, which is the same. From then on Announce's deadline
// is a time by the origin's clock.
type Clock interface {
	SetClock(ahead time.Duration) // of this machine's
}

// Odd is a rig that can say things that no client knows yet.
type Odd interface {
	// AnnounceExtended is Announce with fields beside the known ones that nobody has heard of.
	AnnounceExtended(deadline time.Time)
	// AnnounceUnknown shows an event of a kind that nobody has heard of. Whether it counts is the source's choice.
	AnnounceUnknown(deadline time.Time)
}

// Elsewhere is a rig whose origin shows what is announced to other machines, too.
type Elsewhere interface {
	// AnnounceElsewhere adds a notice for another machine to what is shown.
	AnnounceElsewhere(deadline time.Time)
}

// Partial is a rig whose notices are for some executors of one application.
type Partial interface {
	Executors() (app string, ids []string)
}

// Several is a rig whose origin can show more than one notice at once.
type Several interface {
	// AnnounceAll shows exactly these, each for the whole node.
	AnnounceAll(deadlines ...time.Time)
}

func testSeveral(t *testing.T, s Suite) {
	c := newScene(t, s)
	rig := c.Rig.(Several)
	w := c.watch()
	a, b, d := soon(1), soon(2), soon(3)
	rig.AnnounceAll(a, b)
	first, second := w.next(a), w.next(b)
	if first.ID == second.ID {
		t.Errorf("two events have the id %s", first.ID)
	}
	w.polls(5)
	w.expect(a, b)
	w.wantSight(first.ID, second.ID)
	rig.AnnounceAll(b, d) // one has ended, which says nothing about the other
	third := w.next(d)
	if s.Withdraws {
		w.await("a withdrawal", func() bool { return len(w.withdrawals()) > 0 })
	}
	w.polls(5)
	w.expect(a, b, d)
	var want []string
	if s.Withdraws {
		want = []string{first.ID}
		w.wantSight(second.ID, third.ID)
	}
	if got := w.withdrawals(); !slices.Equal(got, want) {
		t.Errorf("withdrawn: %v, want %v", got, want)
	}
}

func testUnknownFields(t *testing.T, s Suite) {
	c := newScene(t, s)
	rig := c.Rig.(Odd)
	w := c.watch()
	c.note(soon(0))
	rig.AnnounceExtended(soon(0))
	w.next(soon(0))
	w.polls(5)
	w.expect(soon(0))
	w.wantHealth(true)
}

func testUnknownKind(t *testing.T, s Suite) {
	c := newScene(t, s)
	rig := c.Rig.(Odd)
	w := c.watch()
	c.note(soon(0))
	rig.AnnounceUnknown(soon(0))
	w.polls(5)
	w.wantHealth(true)
	for _, n := range w.all() {
		if n.ID == "" || n.Kind == "" || n.Deadline.IsZero() {
			t.Errorf("notice: %+v", n)
		}
	}
	if c.ready() {
		w = c.watch()
	}
	c.announce(soon(1))
	w.next(soon(1))
}

func testElsewhere(t *testing.T, s Suite) {
	c := newScene(t, s)
	rig := c.Rig.(Elsewhere)
	w := c.watch()
	rig.AnnounceElsewhere(soon(5))
	w.polls(10)
	w.expect()
	w.wantHealth(true)
	w.wantSight()
	c.announce(soon(0))
	w.next(soon(0))
	rig.AnnounceElsewhere(soon(6))
	w.polls(10)
	w.expect(soon(0))
	if n := len(w.withdrawals()); n > 0 {
		t.Errorf("%d withdrawals of a notice that holds", n)
	}
}

// testClock lets the origin's clock be ahead of this machine's by this much.
func testClock(t *testing.T, s Suite, ahead time.Duration) {
	c := newScene(t, s)
	rig := c.Rig.(Clock)
	rig.SetClock(ahead)
	c.announce(soon(0))
	w := c.watch()
	w.await("a notice", func() bool { return len(w.all()) > 0 })
	n := w.all()[0]
	want := soon(0).Add(-ahead)
	if c.lead > 0 {
		want = n.Seen.Add(c.lead)
	}
	// HTTP's Date has whole seconds, and an answer takes its time.
	if off := n.Deadline.Sub(want).Abs(); off > 3*time.Second {
		t.Errorf("deadline %v is off by %v", n.Deadline, off)
	}
	if skew := w.health().Skew; (skew + ahead).Abs() > 3*time.Second {
		t.Errorf("the clock is said to be ahead by %v, want %v", skew, -ahead)
	}
	w.polls(20)
	if got := w.all(); len(got) != 1 {
		t.Errorf("sent %d times: %v", len(got), got)
	}
}
