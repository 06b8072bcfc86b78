package migrate

import "math/rand/v2"

// queue holds the outputs that wait for a slot. It answers in O(log n) the one question that each free
// slot asks: which is the best output that this destination may take and can finish in time?
//
// Outputs that may go to the same destinations with the same preference share a lane; there are few
// lanes, since outputs differ only by what Options.Prefer says and by where they failed. A lane is a treap in
// the order of worth whose nodes know the smallest and largest output below them, so that the first
// output of a fitting size is found without a walk over those that do not fit.
type queue struct {
	lanes map[string]*lane
}

// never is the rank of a destination that an output is not offered to.
const never = 255

// lane holds the outputs with the same ranks: one byte per listed destination, the lower ones
// preferred.
type lane struct {
	ranks string
	root  *item
	n     int   // items
	bytes int64 // all together
}

func newQueue() queue { return queue{lanes: map[string]*lane{}} }

// add puts an item into the lane for its ranks.
func (q *queue) add(it *item, ranks []byte) {
	l := q.enter(it, ranks)
	l.root = insert(l.root, it)
}

// follow is add for an item that comes after all others in the queue, which is several times cheaper.
func (q *queue) follow(it *item, ranks []byte) {
	l := q.enter(it, ranks)
	l.root = join(l.root, it)
}

// enter makes the item a tree of its own that belongs to the lane for its ranks.
func (q *queue) enter(it *item, ranks []byte) *lane {
	l := q.lanes[string(ranks)]
	if l == nil {
		l = &lane{ranks: string(ranks)}
		q.lanes[l.ranks] = l
	}
	l.n++
	l.bytes += it.bytes
	it.lane, it.left, it.right, it.heap = l, nil, nil, rand.Uint32()
	it.update()
	return l
}

// remove takes an item out; one that is in no lane is left alone.
func (q *queue) remove(it *item) {
	l := it.lane
	if l == nil {
		return
	}
	l.root = remove(l.root, it)
	l.n--
	l.bytes -= it.bytes
	it.lane, it.left, it.right = nil, nil, nil
	if l.root == nil {
		delete(q.lanes, l.ranks)
	}
}

// take removes and returns the best item that p may take now, nil when there is none. Every place's
// judge must have run. Without an overflow everything is kept that a better place can take.
func (q *queue) take(p *place, places []*place, o *overflow) *item {
	var best *item
	for _, l := range q.lanes {
		above, limit := l.window(p, places, o)
		it := l.root.first(above, limit)
		if it != nil && (best == nil || it.compare(best.worth) < 0) {
			best = it
		}
	}
	if best != nil {
		q.remove(best)
	}
	return best
}

// window is the range of sizes, above < bytes <= limit, that p may take from the lane: what it can finish in time,
// except what a healthy place that the lane prefers can.
func (l *lane) window(p *place, places []*place, o *overflow) (above, limit int64) {
	rank := l.ranks[p.index]
	if rank == never {
		return 0, -1
	}
	above, limit = -1, p.limit
	for _, other := range places {
		if other.healthy && l.ranks[other.index] < rank {
			above = max(above, other.limit)
		}
	}
	if o != nil && above >= 0 {
		above = o.from(l, rank)
	}
	return above, limit
}

// first is the first item in order with above < bytes <= limit in the treap under it.
func (it *item) first(above, limit int64) *item {
	for it != nil && it.least <= limit && it.most > above {
		if found := it.left.first(above, limit); found != nil {
			return found
		}
		if it.bytes > above && it.bytes <= limit {
			return it
		}
		it = it.right
	}
	return nil
}

// update makes the sizes known below an item right after its children changed.
func (it *item) update() {
	it.least, it.most = it.bytes, it.bytes
	for _, child := range [...]*item{it.left, it.right} {
		if child != nil {
			it.least, it.most = min(it.least, child.least), max(it.most, child.most)
		}
	}
}

// insert adds one item to a treap and returns the new root.
func insert(root, it *item) *item {
	if root == nil {
		return it
	}
	if it.heap > root.heap {
		it.left, it.right = split(root, it)
		it.update()
		return it
	}
	if it.compare(root.worth) < 0 {
		root.left = insert(root.left, it)
	} else {
		root.right = insert(root.right, it)
	}
	root.update()
	return root
}

// split divides a treap into what comes before at and what comes after it.
func split(root, at *item) (before, after *item) {
	if root == nil {
		return nil, nil
	}
	if root.compare(at.worth) < 0 {
		root.right, after = split(root.right, at)
		before = root
	} else {
		before, root.left = split(root.left, at)
		after = root
	}
	root.update()
	return before, after
}

// remove takes one item out of a treap that holds it and returns the new root.
func remove(root, it *item) *item {
	if root == it {
		return join(it.left, it.right)
	}
	if it.compare(root.worth) < 0 {
		root.left = remove(root.left, it)
	} else {
		root.right = remove(root.right, it)
	}
	root.update()
	return root
}

// join makes one treap of two where all of a comes before all of b.
func join(a, b *item) *item {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.heap > b.heap:
		a.right = join(a.right, b)
		a.update()
		return a
	}
	b.left = join(a, b.left)
	b.update()
	return b
}
