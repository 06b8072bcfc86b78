package migrate

import (
	"slices"
	"time"

	"go.uber.org/zap"
)

// All methods in this file want e.mu to be held.

// move changes an item's state and the counts with it.
func (e *Engine) move(it *item, to State) {
	e.counts[it.state].add(-1, it.bytes)
	it.state = to
	e.counts[to].add(1, it.bytes)
}

// enqueue puts an item into the lane for what may be done with it now.
func (e *Engine) enqueue(it *item) { e.queue.add(it, e.ranks(it)) }

// unqueue takes an item out of wherever it waits.
func (e *Engine) unqueue(it *item) {
	e.queue.remove(it)
	e.delayed.remove(it)
}

// requeue makes an item wait for its next try, after a delay if that is above zero.
func (e *Engine) requeue(it *item, now time.Time, delay time.Duration) {
	if e.phase == ended {
		e.lose(it, ReasonNoDestination)
		return
	}
	e.move(it, Queued)
	if delay > 0 {
		e.delayed.put(it, now.Add(delay))
	} else {
		e.enqueue(it)
	}
}

// ranks is the item's lane: how gladly it goes to each of the listed places. Where it has failed it goes less
// gladly, also when the failure was none of its own: a place that has stopped would hold it up until its stall
// again, while another one that is idle could take it.
func (e *Engine) ranks(it *item) []byte {
	ranks := make([]byte, len(e.places))
	for i, p := range e.places {
		class := 0
		if e.o.Prefer != nil {
			class = e.o.Prefer(it.out, p.target)
		}
		g := it.grudge(p)
		switch {
		case p.leaves, class < 0, g != nil && g.refused:
			ranks[i] = never
			continue
		case g != nil && g.since > 0:
			class += max(int(g.counted), 1)
		}
		ranks[i] = byte(min(class, never-1))
	}
	return ranks
}

// reorder builds the queue anew, after prices or places have changed.
func (e *Engine) reorder() {
	var queued []*item
	for _, it := range e.found {
		it.worth = e.prices.of(it.out, it.bytes)
		if it.lane != nil {
			queued = append(queued, it)
		}
	}
	slices.SortFunc(queued, func(a, b *item) int { return a.compare(b.worth) })
	e.queue = newQueue()
	for _, it := range queued {
		e.queue.follow(it, e.ranks(it))
	}
}

// drop takes a place out for good.
func (e *Engine) drop(p *place, err error) {
	if p.gone != nil {
		return
	}
	p.gone, p.listed = err, false
	if p.cancel != nil {
		p.cancel()
	}
	e.o.Log.Warn("destination gone", zap.Stringer("target", p.target), zap.Error(err))
	e.unsave(p)
}

// unsave queues again whatever a place had acknowledged.
func (e *Engine) unsave(p *place) {
	now := time.Now()
	for _, it := range e.found {
		if it.doubted != nil && it.doubted.place == p {
			it.doubted = nil
		}
		if it.state == Saved && it.place == p {
			e.revoke(it, now)
		}
	}
}

// revoke queues a saved item again.
func (e *Engine) revoke(it *item, now time.Time) {
	at := *it.at
	it.place, it.at, it.savedAt = nil, nil, time.Time{}
	if e.phase != ended {
		e.note(event{kind: eventUnsaved, out: it.out, at: at})
	}
	e.requeue(it, now, 0)
}

// doubtAll doubts what lies at some places, as far as another would take it, and says how much that is.
func (e *Engine) doubtAll(some func(p *place) bool) (n int) {
	if e.phase != running || !slices.ContainsFunc(e.places, some) {
		return 0
	}
	now := time.Now()
	e.judge(now)
	for _, it := range e.found {
		if it.state == Saved && some(it.place) && e.elsewhere(it) {
			e.doubt(it, now)
			n++
		}
	}
	return n
}

// doubt puts an item's copy in question.
func (e *Engine) doubt(it *item, now time.Time) {
	p := it.place
	it.doubted = &doubted{place: p, at: it.at, savedAt: it.savedAt}
	it.troubled(e.o.Backoff).against(p).since = max(p.begun, 1)
	e.revoke(it, now)
}

// believe makes a doubted copy count again; false when there is none.
func (e *Engine) believe(it *item) bool {
	d := it.doubted
	if d == nil {
		return false
	}
	e.unqueue(it)
	it.place, it.at, it.savedAt, it.doubted = d.place, d.at, d.savedAt, nil
	e.move(it, Saved)
	e.note(event{kind: eventSaved, out: it.out, at: *it.at, tries: max(int(it.tries), 1)})
	return true
}

// makeDo believes the copies at places that leave of whatever is queued: nothing else takes any of that. It says whether
// there were any.
func (e *Engine) makeDo() (found bool) {
	for _, it := range e.found {
		if it.state == Queued && it.doubted != nil && it.doubted.place.leaves {
			found = e.believe(it) || found
		}
	}
	return found
}

// save records an acknowledgement.
func (e *Engine) save(it *item, p *place, at Location, took time.Duration) {
	now := time.Now()
	it.place, it.at, it.savedAt, it.doubted = p, p.share(at), now, nil
	e.move(it, Saved)
	e.meter.add(now, it.bytes)
	e.note(event{kind: eventSaved, out: it.out, at: at, took: took, tries: int(it.tries)})
}

// lose gives an item up, unless it has a copy that was only in doubt.
func (e *Engine) lose(it *item, why Reason) {
	if e.believe(it) {
		return
	}
	e.unqueue(it)
	e.move(it, Lost)
	it.reason = why
	ev := event{kind: eventLost, out: it.out, why: why}
	if it.trouble != nil {
		ev.err = it.trouble.err
	}
	if e.phase != ended {
		e.note(ev)
	}
}

// retried records that a try failed and the output will be tried again.
func (e *Engine) retried(it *item, to Target, err error) {
	it.troubled(e.o.Backoff).err = err
	e.retries++
	e.note(event{kind: eventRetried, out: it.out, at: Location{Target: to}, err: err})
}

// note keeps an event for the observer until Run can tell it.
func (e *Engine) note(ev event) {
	if e.o.Observer != nil {
		e.events = append(e.events, ev)
	}
}

// cut shortens a delay to a quarter of the time left: waiting out a backoff past the deadline would
// lose what it is meant to save.
func (e *Engine) cut(d time.Duration) time.Duration {
	if e.deadline.IsZero() {
		return d
	}
	return min(d, max(time.Until(e.deadline)/4, time.Millisecond))
}

// open says that some listed place is left that may take the item, now or after a pause.
func (e *Engine) open(it *item) bool {
	ranks := e.ranks(it)
	for i, p := range e.places {
		if p.usable() && !p.refusing() && ranks[i] != never {
			return true
		}
	}
	return false
}

// elsewhere says that some healthy place would take the item, and that this has not been tried in vain. Every place's judge must
// have run.
func (e *Engine) elsewhere(it *item) bool {
	if t := it.trouble; t != nil && (KindOf(t.err) == Corrupt || t.counted >= e.o.Attempts && !e.untried(it)) {
		return false
	}
	ranks := e.ranks(it)
	for i, p := range e.places {
		if p.healthy && p != it.place && ranks[i] != never && it.bytes <= p.limit {
			return true
		}
	}
	return false
}

// untried says that some listed place is left that may take the item and where it has not failed yet.
func (e *Engine) untried(it *item) bool {
	ranks := e.ranks(it)
	for i, p := range e.places {
		g := it.grudge(p)
		if p.usable() && ranks[i] != never && (g == nil || g.counted == 0) {
			return true
		}
	}
	return false
}
