package migrate

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQueueModel: the queue gives the same answers as a sorted slice, for random worths, sizes,
// limits, preferences and removals.
func TestQueueModel(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		places := make([]*place, 1+r.IntN(4))
		for i := range places {
			places[i] = &place{index: i, limit: r.Int64N(1200) - 100, healthy: r.IntN(3) > 0}
		}
		q := newQueue()
		p := newPrices(map[int64]time.Duration{}, false)
		var model []*item
		ranks := map[*item][]byte{}
		for step := range 300 {
			switch r.IntN(3) {
			case 0, 1:
				it := &item{}
				it.worth = p.of(output(int64(step), r.Int64N(1000)), 0)
				it.bytes = it.out.Bytes()
				it.density = float64(r.IntN(20))
				rank := make([]byte, len(places))
				for i := range rank {
					rank[i] = []byte{0, 1, never}[r.IntN(3)]
				}
				ranks[it] = rank
				if last := len(model) - 1; last < 0 || model[last].compare(it.worth) < 0 {
					q.follow(it, rank)
				} else {
					q.add(it, rank)
				}
				model = append(model, it)
				slices.SortFunc(model, func(a, b *item) int { return a.compare(b.worth) })
			case 2:
				pl := places[r.IntN(len(places))]
				want := slices.IndexFunc(model, func(it *item) bool { return may(it, ranks[it], pl, places) })
				got := q.take(pl, places, nil)
				switch {
				case want < 0 && got != nil:
					t.Fatalf("seed %d: took %v, want nothing", seed, got.out.ID)
				case want >= 0 && got != model[want]:
					t.Fatalf("seed %d: took %v, want %v", seed, got, model[want].out.ID)
				case want >= 0:
					model = slices.Delete(model, want, want+1)
				}
			}
			if len(model) > 0 && r.IntN(10) == 0 {
				i := r.IntN(len(model))
				q.remove(model[i])
				model = slices.Delete(model, i, i+1)
			}
		}
		for _, it := range model {
			q.remove(it)
		}
		if len(q.lanes) != 0 {
			t.Fatalf("seed %d: %d lanes left", seed, len(q.lanes))
		}
	}
}

// may is what a lane's window says, in plain words.
func may(it *item, ranks []byte, p *place, places []*place) bool {
	if ranks[p.index] == never || it.bytes > p.limit {
		return false
	}
	for _, other := range places {
		if other.healthy && ranks[other.index] < ranks[p.index] && it.bytes <= other.limit {
			return false
		}
	}
	return true
}

// BenchmarkQueue is 100,000 outputs of which the first half fits no slot.
func BenchmarkQueue(b *testing.B) {
	const n = 100_000
	p := newPrices(nil, false)
	pl := &place{limit: n / 2, healthy: true}
	for b.Loop() {
		q := newQueue()
		for i := range int64(n) {
			it := &item{worth: p.of(output(i, i), i)}
			it.density = float64(i)
			q.add(it, []byte{0})
		}
		for range n / 2 {
			if q.take(pl, []*place{pl}, nil) == nil {
				b.Fatal("empty")
			}
		}
	}
}
