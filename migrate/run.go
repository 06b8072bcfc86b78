package migrate

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.uber.org/zap"
)

// flight is one output on its way to one place.
type flight struct {
	item   *item
	place  *place
	dest   Destination
	began  time.Time
	number uint64 // of the place's copies
	pauses int    // the place's, at the start
}

// Run copies until ctx ends and returns ctx's error. ctx's deadline is the last moment for an
// acknowledgement, and may come nearer on the way: what would not make it is not begun. When ctx ends, the copies under way are broken
// off and waited for, so that nothing is in flight and no Observer is called after Run has returned.
// That takes as long as the destinations take to return from Put once its context has ended: they must
// honour it at once. Whatever is not saved then is lost. An acknowledgement that a destination
// returns although the time is over still counts: it is a fact.
func (e *Engine) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if !e.start(ctx) {
		return ErrRanAlready
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		events, wait := e.pass(ctx)
		e.deliver(events)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-timer.C:
		}
	}
	e.flights.Wait()
	e.deliver(e.finish())
	e.close()
	return ctx.Err()
}

func (e *Engine) start(ctx context.Context) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != idle {
		return false
	}
	e.phase, e.ctx = running, ctx
	e.deadline, _ = ctx.Deadline()
	return true
}

// pass fills the free slots. It returns what the observer has to hear first, and how long Run may
// sleep if nothing else happens.
func (e *Engine) pass(ctx context.Context) ([]event, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deadline, _ = ctx.Deadline()
	now := time.Now()
	for it := e.delayed.next(); it != nil && !it.trouble.due.After(now); it = e.delayed.next() {
		e.delayed.remove(it)
		e.enqueue(it)
	}
	e.judge(now)
	for ctx.Err() == nil && e.fill(now, false) {
	}
	for ctx.Err() == nil && e.fill(now, true) {
	}
	return e.collect(), e.wait(now)
}

// judge prepares all places for questions about now.
func (e *Engine) judge(now time.Time) {
	for _, p := range e.places {
		p.judge(now, e.deadline, e.o.GiveUpAfter)
	}
}

// fill begins at most one output on each place with a free slot, the idlest place first, so that a
// short queue is spread over all. It says whether it began any. Only with help do places take what better ones will
// not be done with in time; that can be known when those have got all that they can take now.
func (e *Engine) fill(now time.Time, help bool) bool {
	e.held = false
	if len(e.queue.lanes) == 0 {
		return false
	}
	var free []*place
	for _, p := range e.places {
		if p.free(now, e.o) {
			free = append(free, p)
		}
	}
	var o *overflow
	if help && len(free) > 0 {
		o = e.newOverflow(now)
	}
	slices.SortStableFunc(free, func(a, b *place) int { return cmp.Compare(len(a.flights), len(b.flights)) })
	began := false
	for _, p := range free {
		if it := e.queue.take(p, e.places, o); it != nil {
			e.begin(it, p, now)
			began = true
		}
		if o != nil && began {
			return true // what was begun changes what the others have to do
		}
	}
	e.held = !began && len(free) > 0
	return began
}

func (e *Engine) begin(it *item, p *place, now time.Time) {
	if p.ctx == nil {
		p.ctx, p.cancel = context.WithCancel(e.ctx)
	}
	it.claim = nil
	it.tries++
	e.move(it, InFlight)
	p.begun++
	if p.first.IsZero() {
		p.first = now
	}
	f := &flight{item: it, place: p, dest: p.dest, began: now, number: p.begun, pauses: p.pauses}
	p.flights = append(p.flights, f)
	p.probes++
	ctx, out := p.ctx, it.out
	e.flights.Go(func() {
		at, err := f.dest.Put(ctx, out)
		e.land(f, at, err)
	})
}

// land records how a copy ended.
func (e *Engine) land(f *flight, at Location, err error) {
	took := time.Since(f.began)
	e.mu.Lock()
	defer e.mu.Unlock()
	p := f.place
	p.flights = slices.DeleteFunc(p.flights, func(other *flight) bool { return other == f })
	if f.pauses == p.pauses {
		p.probes--
	}
	if err == nil {
		e.landed(f, at, took)
	} else {
		e.crashed(f, err)
	}
	e.poke()
}

// landed records an acknowledgement, which is worth nothing if the place is no longer listed.
func (e *Engine) landed(f *flight, at Location, took time.Duration) {
	p, it := f.place, f.item
	p.acknowledged(f.number, f.pauses)
	p.estimate.observe(it.bytes, took)
	switch {
	case p.usable():
		e.save(it, p, at, took)
	case p.gone != nil:
		e.again(it, p, p.gone)
	default:
		e.again(it, p, &Error{Op: "copy to " + p.target.String(), Kind: Elsewhere, Err: errUnlisted})
	}
}

// again queues an item at once whose failure is none of its own.
func (e *Engine) again(it *item, p *place, err error) {
	e.retried(it, p.target, err)
	e.requeue(it, time.Now(), 0)
}

// crashed decides by the kind of the error what becomes of the item and of the place.
func (e *Engine) crashed(f *flight, err error) {
	p, it := f.place, f.item
	kind := KindOf(err)
	switch {
	case kind == Corrupt:
		it.troubled(e.o.Backoff).err = err
		e.lose(it, ReasonCorrupt)
	case kind == Gone:
		e.drop(p, err)
		e.again(it, p, err)
	case e.ctx.Err() != nil:
		e.requeue(it, time.Now(), 0)
	case !p.usable(): // broken off by drop, or closed by whoever has unlisted it
		e.again(it, p, err)
	case kind == Elsewhere:
		e.refused(f, err)
	default:
		e.failed(f, err)
	}
}

// refused rules the place out for the item, and pauses the place when it refuses one after the other.
func (e *Engine) refused(f *flight, err error) {
	p, it, now := f.place, f.item, time.Now()
	it.troubled(e.o.Backoff).against(p).refused = true
	if p.refused(f.pauses) {
		e.pause(p, now, err)
	}
	e.again(it, p, err)
}

// failed lets the item wait, and pauses the place when it fails one after the other. A failure that is
// the place's own costs the item only the shortest delay: the place is what backs off.
func (e *Engine) failed(f *flight, err error) {
	p, it, now := f.place, f.item, time.Now()
	t := it.troubled(e.o.Backoff)
	counts := t.blame(p, f.number)
	if p.failed(f.pauses, e.o.GiveUpAfter) {
		e.pause(p, now, err)
	}
	if counts && t.counted >= e.o.Attempts && !e.untried(it) {
		t.err = err
		e.lose(it, ReasonAttempts)
		return
	}
	delay := e.o.Backoff.Initial
	if counts {
		delay = t.backoff.NextBackOff()
	}
	e.retried(it, p.target, err)
	e.requeue(it, now, e.cut(delay))
}

func (e *Engine) pause(p *place, now time.Time, err error) {
	d := p.pause(now, e.cut)
	e.o.Log.Info("destination left alone for a while", zap.Stringer("target", p.target), zap.Duration("for", d),
		zap.Int("failures", p.failures), zap.Int("refusals", p.refusals), zap.Error(err))
}

// wait is how long nothing will happen by the clock alone.
func (e *Engine) wait(now time.Time) time.Duration {
	d := time.Hour
	if it := e.delayed.next(); it != nil {
		d = min(d, it.trouble.due.Sub(now))
	}
	for _, p := range e.places {
		if p.paused(now) {
			d = min(d, p.until.Sub(now))
		}
	}
	if e.held && !e.deadline.IsZero() {
		d = min(d, max(time.Duration(glance*float64(e.deadline.Sub(now))), shortestGlance))
	}
	return max(d, 0)
}

// finish gives up whatever is not saved, once nothing is in flight any more.
func (e *Engine) finish() []event {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, it := range e.found {
		switch {
		case it.state != Queued:
		case e.open(it):
			e.lose(it, ReasonDeadline)
		default:
			e.lose(it, ReasonNoDestination)
		}
	}
	e.phase = ended
	return e.collect()
}

// collect takes the events that are to be told.
func (e *Engine) collect() []event {
	events := e.events
	e.events = nil
	e.delivering = true
	return events
}

// deliver tells the observer, without the lock: it may want to ask the engine.
func (e *Engine) deliver(events []event) {
	for i := range events {
		events[i].tell(e.o.Observer)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.delivering = false
	e.answer()
}

// close lets go of what only a running engine needs.
func (e *Engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue, e.delayed = newQueue(), nil
	e.answer()
}
