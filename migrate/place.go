package migrate

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// refusalsInARow is after how many refusals without an acknowledgement between them a destination is
// taken to refuse everything: an executor that decommissions itself, a full disk.
const refusalsInARow = 3

// place is a destination as the engine knows it. It outlives its listing: one that comes back is
// remembered.
type place struct {
	dest   Destination
	target Target
	slots  int  // copies to it at once
	index  int  // in Engine.places, and in the ranks of a lane
	listed bool // by the last SetDestinations
	leaves bool // so that one says: it gets nothing new
	gone   error

	ctx    context.Context // of the copies to it; ended when it is gone
	cancel context.CancelFunc

	flights []*flight
	first   time.Time // when the first copy began
	probes  int       // in flight since the last pause ended
	begun   uint64    // copies begun ever, which numbers them from 1
	proof   uint64    // the highest number that was acknowledged

	failures int // in a row: since the last acknowledgement that proves anything
	refusals int // in a row
	rounds   int // pauses in a row because of refusals
	pauses   int // ever
	until    time.Time
	backoff  *backoff.ExponentialBackOff

	estimate estimate
	at       *Location // the last acknowledgement, to share it

	// Set by judge for one pass.
	limit   int64 // the largest output that it can finish in time
	healthy bool  // nothing speaks against it: what it may take is kept from those that come after it
}

// usable says that it may take outputs, now or after a pause.
func (p *place) usable() bool { return p.listed && p.gone == nil }

// paused says that it is left alone now.
func (p *place) paused(now time.Time) bool { return now.Before(p.until) }

// doubtful says that it has to prove itself: after a pause it gets one output at a time until it
// acknowledges one.
func (p *place) doubtful(giveUpAfter int) bool {
	return p.failures >= giveUpAfter || p.refusals >= refusalsInARow
}

// refusing says that it refused everything, also after a pause.
func (p *place) refusing() bool { return p.rounds >= 2 }

// judge prepares one pass: how much it can still finish, and whether it counts as healthy.
func (p *place) judge(now, deadline time.Time, giveUpAfter int) {
	p.limit = anySize
	if !deadline.IsZero() {
		p.limit = p.estimate.fits(deadline.Sub(now))
	}
	p.healthy = p.usable() && !p.paused(now) && !p.doubtful(giveUpAfter)
}

// free says that it has a slot to fill.
func (p *place) free(now time.Time, o Options) bool {
	if !p.usable() || len(p.flights) >= p.slots || p.paused(now) {
		return false
	}
	return p.probes == 0 || !p.doubtful(o.GiveUpAfter)
}

// list takes a destination in, possibly again: it starts without a pause and without the doubts of an
// earlier listing.
func (p *place) list(d Destination) {
	p.dest = d
	if p.listed {
		return
	}
	p.listed = true
	p.settle()
}

// settle forgets all doubts.
func (p *place) settle() {
	p.failures, p.refusals, p.rounds, p.until = 0, 0, 0, time.Time{}
	p.backoff.Reset()
}

// acknowledged records a success of its copy number n that began after so many pauses. One that was under
// way when the last pause began ends no doubts: it says nothing about what is begun now.
func (p *place) acknowledged(n uint64, pausesAtStart int) {
	p.proof = max(p.proof, n)
	if pausesAtStart == p.pauses {
		p.settle()
	}
}

// failed records a failed try that began after so many pauses, and says whether the place has to be
// left alone. Tries that were already under way when a pause began belong to the same outage: they do
// not make the next pause longer.
func (p *place) failed(pausesAtStart, giveUpAfter int) bool {
	if pausesAtStart != p.pauses {
		return false
	}
	p.failures++
	return p.failures >= giveUpAfter
}

// refused is failed for a refusal.
func (p *place) refused(pausesAtStart int) bool {
	if pausesAtStart != p.pauses {
		return false
	}
	p.refusals++
	if p.refusals < refusalsInARow {
		return false
	}
	p.rounds++
	return true
}

// pause leaves it alone for the next delay of its backoff, shortened by cap.
func (p *place) pause(now time.Time, cut func(time.Duration) time.Duration) time.Duration {
	d := cut(p.backoff.NextBackOff())
	p.until = now.Add(d)
	p.pauses++
	p.probes = 0
	return d
}

// share returns a pointer to the location, the same one for equal ones in a row.
func (p *place) share(at Location) *Location {
	if p.at == nil || *p.at != at {
		p.at = &at
	}
	return p.at
}
