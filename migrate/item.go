package migrate

import (
	"container/heap"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// item is an output as the engine knows it. Kept small: there may be a hundred thousand.
type item struct {
	worth
	state   State
	reason  Reason
	tries   uint32
	savedAt time.Time
	place   *place    // where it is saved
	at      *Location // as the place acknowledged it; shared between items
	claim   *Location // an earlier run's acknowledgement, until its place is listed or the item is sent again
	doubted *doubted  // the copy that was put in question, until there is another
	trouble *trouble  // nil as long as nothing failed

	// The queue's.
	lane        *lane
	left, right *item
	least, most int64
	heap        uint32
}

// doubted is a copy at a place that does not answer, or leaves. It counts when no other can be made.
type doubted struct {
	place   *place
	at      *Location
	savedAt time.Time
}

// trouble is what is remembered of an output's failed tries.
type trouble struct {
	err      error // the last one
	counted  int   // failures that count as the output's own
	places   []grudge
	backoff  *backoff.ExponentialBackOff
	due      time.Time // when it returns to the queue, if it is in the delayed heap
	position int       // in the delayed heap, -1 when it is not there
}

// grudge is what one output and one place have against each other.
type grudge struct {
	place   *place
	refused bool
	counted uint8  // failures here that count
	since   uint64 // the copies begun there when the output failed there the last time, 0 for never
}

// troubled returns the item's trouble, which it makes when there was none.
func (it *item) troubled(b Backoff) *trouble {
	if it.trouble == nil {
		it.trouble = &trouble{backoff: b.start(), position: -1}
	}
	return it.trouble
}

// grudge finds what the item has against a place; nil for nothing.
func (it *item) grudge(p *place) *grudge {
	if it.trouble == nil {
		return nil
	}
	for i := range it.trouble.places {
		if it.trouble.places[i].place == p {
			return &it.trouble.places[i]
		}
	}
	return nil
}

// against is grudge, made when there was none.
func (t *trouble) against(p *place) *grudge {
	for i := range t.places {
		if t.places[i].place == p {
			return &t.places[i]
		}
	}
	t.places = append(t.places, grudge{place: p})
	return &t.places[len(t.places)-1]
}

// blame decides whether a failed try, the place's copy number n, counts against the output, and records
// it. It counts only when the place has acknowledged a copy that was begun after this output's last
// failure there (or, the first time, after this try): then the place works, and the output is what is odd. Without
// such a proof it may be the place as a whole (a dead connection, a driver that was stopped), and then
// all outputs would burn their attempts on it together. So one outage costs an output at most one
// attempt, however long it lasts. Conversely an output that fails although nothing else is left to prove
// that the place works is tried until the deadline: only time can be lost by that.
func (t *trouble) blame(p *place, n uint64) bool {
	g := t.against(p)
	since := n
	if g.since > 0 {
		since = g.since
	}
	counts := p.proof > since
	g.since = p.begun
	if counts {
		t.counted++
		g.counted = min(g.counted+1, never-1)
	}
	return counts
}

// delayed is a heap of the items that wait for their backoff to end, the first one due on top.
type delayed []*item

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, j int) bool { return d[i].trouble.due.Before(d[j].trouble.due) }
func (d delayed) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].trouble.position, d[j].trouble.position = i, j
}

// Push is heap.Interface's; callers use put.
func (d *delayed) Push(x any) {
	it := x.(*item)
	it.trouble.position = len(*d)
	*d = append(*d, it)
}

// Pop is heap.Interface's; callers use remove.
func (d *delayed) Pop() any {
	last := len(*d) - 1
	it := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	it.trouble.position = -1
	return it
}

func (d *delayed) put(it *item, due time.Time) {
	it.trouble.due = due
	heap.Push(d, it)
}

func (d *delayed) remove(it *item) {
	if it.trouble != nil && it.trouble.position >= 0 {
		heap.Remove(d, it.trouble.position)
	}
}

// next is the item that is due first, nil when none waits.
func (d delayed) next() *item {
	if len(d) == 0 {
		return nil
	}
	return d[0]
}
