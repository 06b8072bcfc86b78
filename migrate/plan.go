package migrate

import (
	"cmp"
	"slices"
	"time"
)

// usualCost is what an output is thought to be worth as long as no cost at all is known. Its size does
// not matter: with equal values the order is small outputs first.
const usualCost = time.Second

// leastCost is the smallest cost that counts: the driver reports whole milliseconds, and a task of
// zero is still a task that has to be scheduled again.
const leastCost = time.Millisecond

// prices says what outputs are worth.
type prices struct {
	costs       map[int64]time.Duration // task time by map id
	usual       time.Duration           // for the outputs whose cost is not known
	orphansLive bool                    // outputs of executors that have gone are worth as much as the others
}

// newPrices takes the median of the known costs for the outputs without one.
func newPrices(costs map[int64]time.Duration, orphansLive bool) prices {
	return prices{costs: costs, usual: median(costs), orphansLive: orphansLive}
}

// median is the middle one of the costs, or usualCost when there are none.
func median(costs map[int64]time.Duration) time.Duration {
	if len(costs) == 0 {
		return usualCost
	}
	all := make([]time.Duration, 0, len(costs))
	for _, c := range costs {
		all = append(all, c)
	}
	slices.Sort(all)
	return max(all[len(all)/2], leastCost)
}

// cost is the task time that it takes to make the output again, and whether it is known.
func (p prices) cost(out *Output) (time.Duration, bool) {
	c, ok := p.costs[out.ID.Map]
	if !ok {
		return p.usual, false
	}
	return max(c, leastCost), true
}

// worth is an output's place in the order.
type worth struct {
	out     *Output
	bytes   int64
	density float64 // seconds of task time per byte
	late    bool    // after all that are not
}

// of values one output; bytes is its size, which callers keep because a Blob may have to ask for it.
func (p prices) of(out *Output, bytes int64) worth {
	c, _ := p.cost(out)
	return worth{
		out:     out,
		bytes:   bytes,
		density: c.Seconds() / float64(max(bytes, 1)),
		late:    out.Executor == "" && !p.orphansLive,
	}
}

// compare is negative when a is to be saved before b. It is a total order over different outputs: the
// ids come last, so that two runs over the same outputs do the same.
func (a worth) compare(b worth) int {
	if a.late != b.late {
		if a.late {
			return 1
		}
		return -1
	}
	return cmp.Or(
		cmp.Compare(b.density, a.density),
		cmp.Compare(a.bytes, b.bytes),
		a.out.Committed.Compare(b.out.Committed),
		cmp.Compare(a.out.ID.Shuffle, b.out.ID.Shuffle),
		cmp.Compare(a.out.ID.Map, b.out.ID.Map),
		cmp.Compare(a.out.ID.App, b.out.ID.App),
	)
}

// Plan returns the outputs in the order in which the engine takes them: the most task time per byte
// first, then the smaller, then the older one. costs is the task time by map id; an output without one
// counts with the median, and without any costs all count the same, so small ones go first. Outputs of
// executors that have already gone come last unless orphansLive: Spark has probably given them up.
func Plan(outs []*Output, costs map[int64]time.Duration, orphansLive bool) []*Output {
	p := newPrices(costs, orphansLive)
	ws := make([]worth, len(outs))
	for i, out := range outs {
		ws[i] = p.of(out, out.Bytes())
	}
	slices.SortFunc(ws, worth.compare)
	plan := make([]*Output, len(ws))
	for i, w := range ws {
		plan[i] = w.out
	}
	return plan
}
