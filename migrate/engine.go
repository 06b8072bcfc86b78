package migrate

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Errors of the engine.
var (
	// ErrNoDestination: work is left, and no listed destination would take any of it.
	ErrNoDestination = errors.New("no destination left")
	// ErrTooLate: work is left, and no destination would be done with any of it before the deadline.
	ErrTooLate = errors.New("too late for the outputs that are left")
	// ErrRanAlready: an engine runs once.
	ErrRanAlready = errors.New("the engine has been run already")

	errUnlisted = errors.New("the destination is no longer listed")
	errFailed   = errors.New("the destination has gone")
)

// Engine copies the map outputs of one application (map ids are unique only there) to its destinations:
// every slot of every destination takes the best waiting output that it may take, so that a fast
// destination gets more and a dead one holds nothing up. All methods may be called at any time, by many
// goroutines at once, before, during and after Run.
type Engine struct {
	o    Options
	wake chan struct{} // for Run: something has changed

	mu       sync.Mutex
	phase    phase
	ctx      context.Context // of Run, as long as it runs
	deadline time.Time       // zero: none
	flights  sync.WaitGroup  // added to only by Run

	items   map[OutputID]*item
	found   []*item // in the order in which they were added
	prices  prices
	queue   queue
	delayed delayed
	held    bool // a slot is free, and what is queued is kept from it

	places []*place          // the listed ones
	known  map[Target]*place // all that were ever listed or failed

	counts  [states]Count
	retries int
	meter   meter

	events     []event       // not yet told
	delivering bool          // the observer is being told
	waiting    int           // calls of Settled
	changed    chan struct{} // closed, and made anew, when Settled may have an answer
}

type phase uint8

const (
	idle phase = iota
	running
	ended
)

// NewEngine makes an engine with nothing to do.
func NewEngine(o Options) *Engine {
	o = o.withDefaults()
	return &Engine{
		o: o, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		items: map[OutputID]*item{}, known: map[Target]*place{},
		queue: newQueue(), prices: newPrices(nil, o.OrphansLive),
	}
}

// Add queues outputs, also while the engine runs. Ones that it knows already, by their ID, are ignored.
// After Run has returned they are lost at once.
func (e *Engine) Add(outs ...*Output) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, out := range outs {
		e.add(out)
	}
	e.poke()
}

// add returns the item for an output, which it makes and queues when there was none.
func (e *Engine) add(out *Output) *item {
	if it := e.items[out.ID]; it != nil {
		return it
	}
	it := &item{worth: e.prices.of(out, out.Bytes())}
	e.items[out.ID] = it
	e.found = append(e.found, it)
	e.counts[Queued].add(1, it.bytes)
	if e.phase == ended {
		e.lose(it, ReasonDeadline)
	} else {
		e.enqueue(it)
	}
	return it
}

// Adopt takes over what an earlier run of the agent was told by destinations: such an output counts as
// saved as soon as its target is listed by SetDestinations, and is not sent again. Until then it is
// queued like any other; once it has been sent again, only that counts.
func (e *Engine) Adopt(located ...Located) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range located {
		it := e.add(l.Output)
		if it.state != Queued {
			continue
		}
		at := l.At
		it.claim = &at
		e.adopt(it)
	}
	e.poke()
}

// adopt lets a claim take effect if its place is listed.
func (e *Engine) adopt(it *item) {
	if it.claim == nil || it.state != Queued {
		return
	}
	p := e.known[it.claim.Target]
	if p == nil || !p.usable() {
		return
	}
	e.unqueue(it)
	it.place, it.at, it.claim = p, p.share(*it.claim), nil
	e.move(it, Saved)
}

// SetCosts says how long the tasks took that made the outputs, by map id. It replaces the earlier costs
// and puts what is still queued into a new order.
func (e *Engine) SetCosts(costs map[int64]time.Duration) {
	p := newPrices(maps.Clone(costs), e.o.OrphansLive)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prices = p
	e.reorder()
	e.poke()
}

// SetDestinations says which destinations live and are willing now. New ones start to work at once.
// Ones that are no longer listed get no new output; copies that are under way to them may finish, but
// do not count, and what they had acknowledged is queued again. One that has gone (see Fail) stays away even if
// it is listed again. Those that are leaving live, but not for long: they get no new output either, and what they
// have acknowledged is copied once more where one of the others takes it, and counts otherwise. It returns how many outputs
// were queued again for that. After Run has returned nothing changes any more.
func (e *Engine) SetDestinations(ds []Destination, leaving ...Destination) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == ended {
		return 0
	}
	n := len(ds)
	ds = slices.Concat(ds, leaving)
	var listed []*place
	in := map[*place]bool{}
	changed := false
	for i, d := range ds {
		p := e.place(d.Target())
		if in[p] || p.gone != nil {
			continue
		}
		in[p] = true
		listed = append(listed, p)
		changed = changed || p.leaves != (i >= n)
		p.leaves = i >= n
	}
	changed = changed || len(listed) != len(e.places)
	for _, p := range e.places {
		if !in[p] {
			changed, p.listed = true, false
			e.unsave(p)
		}
	}
	for _, d := range ds {
		if p := e.place(d.Target()); in[p] {
			changed = changed || !p.listed
			p.list(d)
		}
	}
	if changed {
		e.relist(listed)
	}
	again := e.doubtAll(func(p *place) bool { return p.leaves })
	e.poke()
	return again
}

// relist puts new places into effect: the ranks of all that is queued refer to them.
func (e *Engine) relist(listed []*place) {
	e.places = listed
	for i, p := range listed {
		p.index = i
	}
	for _, it := range e.found {
		e.adopt(it)
	}
	e.reorder()
}

// place finds or makes the place of a target.
func (e *Engine) place(t Target) *place {
	p := e.known[t]
	if p == nil {
		p = &place{target: t, slots: e.o.slots(t), backoff: e.o.Backoff.start()}
		e.known[t] = p
	}
	return p
}

// Fail says that a target is certainly no more: the same as an error of kind Gone from it. Copies to it
// are broken off, and what it had acknowledged is queued again. It can't be taken back.
func (e *Engine) Fail(t Target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(e.place(t), &Error{Op: "copy to " + t.String(), Kind: Gone, Err: errFailed})
	e.poke()
}

// Gone says whether a target is known to be no more: by Fail, or by an error of kind Gone.
func (e *Engine) Gone(t Target) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.known[t]
	return p != nil && p.gone != nil
}

// Doubt says that a target does not answer, though it may still live. What it has acknowledged is copied once
// more to destinations about which nothing is in doubt. As long as that has not been done, and if it can't be, the
// acknowledgement counts at the end. It returns how many outputs were queued again for that.
func (e *Engine) Doubt(t Target) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.known[t]
	if p == nil || !p.usable() || e.phase != running {
		return 0
	}
	p.failures = max(p.failures, e.o.GiveUpAfter)
	n := e.doubtAll(func(other *place) bool { return other == p })
	e.poke()
	return n
}

// Pending are the outputs that are neither saved nor given up.
func (e *Engine) Pending() []*Output {
	e.mu.Lock()
	defer e.mu.Unlock()
	outs := make([]*Output, 0, e.counts[Queued].Outputs+e.counts[InFlight].Outputs)
	for _, it := range e.found {
		if it.state == Queued || it.state == InFlight {
			outs = append(outs, it.out)
		}
	}
	return outs
}

// Waiting is how many outputs are saved in object storage of which Spark was not told.
func (e *Engine) Waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, it := range e.found {
		if it.state == Saved && it.at.Target.URL != "" && !it.at.Announced {
			n++
		}
	}
	return n
}

// Results says what became of each output, in the order in which they were added.
func (e *Engine) Results() []Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	rs := make([]Result, len(e.found))
	for i, it := range e.found {
		rs[i] = e.result(it)
	}
	return rs
}

func (e *Engine) result(it *item) Result {
	r := Result{
		Output: it.out, State: it.state, SavedAt: it.savedAt, Tries: int(it.tries), Reason: it.reason,
	}
	if it.at != nil {
		r.Location = *it.at
	}
	if it.trouble != nil {
		r.Err = it.trouble.err
	}
	if c, known := e.prices.cost(it.out); known {
		r.Cost = c
	}
	return r
}

// Progress says how far the rescue is.
func (e *Engine) Progress() Progress {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := Progress{
		Saved: e.counts[Saved], Lost: e.counts[Lost], Queued: e.counts[Queued], InFlight: e.counts[InFlight],
		Retries: e.retries,
	}
	for _, c := range e.counts {
		p.Found.Outputs += c.Outputs
		p.Found.Bytes += c.Bytes
	}
	p.OutputsPerSecond, p.BytesPerSecond = e.meter.rate(time.Now())
	outputs, bytes := p.Queued.Outputs+p.InFlight.Outputs, p.Queued.Bytes+p.InFlight.Bytes
	switch {
	case outputs == 0:
	case p.OutputsPerSecond == 0:
		p.Left = -1
	default: // many small outputs are bound by their number, large ones by their bytes
		s := max(float64(outputs)/p.OutputsPerSecond, float64(bytes)/max(p.BytesPerSecond, 1))
		p.Left = time.Duration(min(s, 1e6) * float64(time.Second))
	}
	return p
}

// poke wakes Run and, when Settled may have an answer, the callers of that.
func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
	e.answer()
}
