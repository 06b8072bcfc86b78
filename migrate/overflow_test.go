package migrate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// byPort prefers by the number that class gave a destination.
func byPort(_ *migrate.Output, t migrate.Target) int { return t.Port }

// class makes a destination of a class.
func class(n int, id string, behave ...migratetest.Behaviour) *migratetest.Memory {
	m := migratetest.NewMemory(migrate.Target{Executor: id, Host: "host-" + id, Port: n}, behave...)
	m.Hollow = true
	return m
}

// clock notes when puts began, possibly of several destinations.
type clock struct {
	mu    sync.Mutex
	begun []start
}

type start struct {
	at  time.Time
	out int64 // map id
}

func (c *clock) note(_ context.Context, call migratetest.Call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = append(c.begun, start{time.Now(), call.Output.ID.Map})
	return nil
}

// TestOverflow: a second class works alongside the first one exactly when that is too slow for the deadline.
func TestOverflow(t *testing.T) {
	const mb = 1 << 20
	var mixed []*migrate.Output
	for i := range int64(60) {
		mixed = append(mixed, migratetest.HollowOutput(i, 9*mb+i*17*mb/60))
	}
	slowStart := func(latency time.Duration) []migratetest.Behaviour {
		return []migratetest.Behaviour{migratetest.Calls(0, 8, migratetest.Takes(400*ms, 0)), migratetest.Takes(latency, 0)}
	}
	tests := []struct {
		name         string
		limit        time.Duration // to the deadline
		outs         []*migrate.Output
		peer, object []migratetest.Behaviour
		min, max     int           // outputs that go to the second class
		after        time.Duration // it is not used before
		before       time.Duration // it is used by then; 0 when that is of no interest
		lost         int
	}{
		{name: "time enough", limit: 30 * sec, outs: outputs(1000, mb), // 8 slots: 18.75 s
			peer: []migratetest.Behaviour{migratetest.Takes(150*ms, 0)}},
		{name: "twice too slow", limit: 30 * sec, outs: outputs(2000, mb), // 62.5 s
			peer: []migratetest.Behaviour{migratetest.Takes(250*ms, 0)}, object: []migratetest.Behaviour{migratetest.Takes(100*ms, 0)},
			min: 1000, max: 1500, after: 250 * ms, before: 2 * sec},
		{name: "slow to open connections", limit: 30 * sec, outs: outputs(20_000, mb), // 0.4 s, then 12.5 s
			peer: slowStart(5 * ms)},
		{name: "nothing acknowledged for long", limit: 30 * sec, outs: outputs(100, 100*mb),
			peer: []migratetest.Behaviour{migratetest.Takes(25*sec, 0)}, object: []migratetest.Behaviour{migratetest.Takes(sec, 0)},
			min: 80, max: 100, after: sec, before: 4 * sec},
		{name: "peers that answer nothing", limit: 30 * sec, outs: outputs(100, mb),
			peer: []migratetest.Behaviour{migratetest.Stalls()}, object: []migratetest.Behaviour{migratetest.Takes(sec, 0)},
			min: 92, max: 92, after: sec, before: 4 * sec, lost: 8},
		{name: "one round", limit: 30 * sec, outs: outputs(8, mb), peer: []migratetest.Behaviour{migratetest.Takes(25*sec, 0)}},
		{name: "one more than one round", limit: 30 * sec, outs: outputs(9, mb),
			peer: []migratetest.Behaviour{migratetest.Takes(25*sec, 0)}, object: []migratetest.Behaviour{migratetest.Takes(10*sec, 0)},
			min: 1, max: 1, after: 5 * sec, before: 20 * sec},
		{name: "two rounds", limit: 30 * sec, outs: outputs(16, mb), peer: []migratetest.Behaviour{migratetest.Takes(10*sec, 0)}},
		{name: "the largest one comes last", limit: 30 * sec, // small ones take 11 s, the large one 19
			outs: append(mixed, migratetest.HollowOutput(5000, 220*mb)),
			peer: []migratetest.Behaviour{migratetest.Takes(0, 11.5*mb)}, object: []migratetest.Behaviour{migratetest.Takes(0, 11.5*mb)},
			min: 1, max: 5, after: 700 * ms, before: 8 * sec},
		{name: "slower from the middle on", limit: 30 * sec, outs: outputs(1000, mb), // 18.75 s, but then 60
			peer:   []migratetest.Behaviour{migratetest.Calls(400, 1000, migratetest.Takes(600*ms, 0)), migratetest.Takes(150*ms, 0)},
			object: []migratetest.Behaviour{migratetest.Takes(200*ms, 0)}, min: 300, max: 500, after: 7 * sec, before: 13 * sec},
		{name: "a short notice", limit: 2 * sec, outs: outputs(400, mb), // 5 s
			peer: []migratetest.Behaviour{migratetest.Takes(100*ms, 0)}, object: []migratetest.Behaviour{migratetest.Takes(20*ms, 0)},
			min: 200, max: 350, after: 100 * ms, before: 500 * ms},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run(t, test.limit, migrate.Options{Prefer: byPort}, func(l *lab) {
				c := &clock{}
				peer, object := class(0, "peer", test.peer...), class(1, "object", append([]migratetest.Behaviour{c.note}, test.object...)...)
				l.SetDestinations(destinations(object, peer))
				l.Add(test.outs...)
				<-time.After(test.limit)
				l.stop()
				l.wantCounts(len(test.outs)-test.lost, test.lost)
				if n := len(c.begun); n < test.min || n > test.max {
					t.Errorf("%d went to the second class, want %d to %d", n, test.min, test.max)
				}
				if len(c.begun) == 0 {
					return
				}
				if after := c.begun[0].at.Sub(l.start); after < test.after || after > test.before {
					t.Errorf("the second class began after %v, want %v to %v", after, test.after, test.before)
				}
			})
		})
	}
}

// TestOverflowWithoutDeadline: everything can wait for the best.
func TestOverflowWithoutDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := migrate.NewEngine(migrate.Options{Prefer: byPort})
		peer, object := class(0, "peer", migratetest.Takes(time.Minute, 0)), class(1, "object")
		e.SetDestinations(destinations(object, peer))
		e.Add(outputs(5000, 10)...)
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		if err := e.Settled(ctx); err != nil {
			t.Error(err)
		}
		wantSent(t, object)
		cancel()
		<-done
	})
}

// fleet is a random rescue to destinations of three classes whose speeds stay what they are.
type fleet struct {
	limit   time.Duration
	slots   int
	outs    []*migrate.Output
	costs   map[int64]time.Duration
	classes [3][]*migratetest.Memory
	needs   [3]time.Duration // that the classes up to this one need for all, if nothing is in the way
	latency time.Duration
	clock   clock
}

// newFleet makes up one. Outputs differ in size by a factor of up to spread.
func newFleet(r *rand.Rand, spread int64) *fleet {
	f := &fleet{limit: time.Duration(5+r.IntN(115)) * sec, slots: 1 + r.IntN(16), costs: map[int64]time.Duration{}}
	size := 1 + r.Int64N(1<<24)
	for i := range int64(100 + r.IntN(1200)) {
		f.outs = append(f.outs, migratetest.HollowOutput(i, size*(1+r.Int64N(spread))))
		f.costs[i] = time.Duration(1+r.IntN(100_000)) * ms
	}
	rate := [3]float64{} // of outputs of the mean size, relative
	for c := range f.classes {
		for range 1 + r.IntN(3) {
			x := 0.3 + r.Float64()
			rate[c] += x
			f.classes[c] = append(f.classes[c], class(c, fmt.Sprint(c, len(f.classes[c])), f.clock.note, f.takes(x)))
		}
	}
	// The first class alone needs between a fifth and five times as long as there is.
	share := 0.2 * (1 + 24*r.Float64()*r.Float64())
	f.latency = time.Duration(share * f.limit.Seconds() * rate[0] * float64(f.slots) / float64(len(f.outs)) * float64(sec))
	sum := 0.0
	for c := range rate {
		sum += rate[c]
		f.needs[c] = time.Duration(share * f.limit.Seconds() * rate[0] / sum * float64(sec))
	}
	return f
}

// takes is the mean time of an output, divided by a speed, half of it in proportion to the size.
func (f *fleet) takes(speed float64) migratetest.Behaviour {
	return func(ctx context.Context, c migratetest.Call) error {
		total := int64(0)
		for _, out := range f.outs[:100] {
			total += out.Bytes()
		}
		part := 0.5 + 0.5*float64(c.Output.Bytes())/float64(total/100)
		return migratetest.Wait(ctx, time.Duration(part/speed*float64(f.latency)))
	}
}

func (f *fleet) rescue(t *testing.T, test func(l *lab, used [3]int)) {
	run(t, f.limit, migrate.Options{InFlight: f.slots, Prefer: byPort}, func(l *lab) {
		l.SetCosts(f.costs)
		var all []*migratetest.Memory
		for _, ms := range f.classes {
			all = append(all, ms...)
		}
		l.Add(f.outs...)
		l.SetDestinations(destinations(all...))
		<-time.After(f.limit)
		l.stop()
		used := [3]int{}
		for c, ms := range f.classes {
			for _, m := range ms {
				used[c] += len(m.Calls())
			}
		}
		test(l, used)
	})
}

// TestOverflowProperties: whatever the speeds, a class is left alone when those before it need clearly less than
// the time there is, and all is saved when those that may be used need clearly less.
func TestOverflowProperties(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := newFleet(rand.New(rand.NewPCG(seed, 4)), 1+int64(seed%5))
			f.rescue(t, func(l *lab, used [3]int) {
				t.Logf("%v, needs %v, %d slots, used %v, %v each", f.limit, f.needs, f.slots, used, f.latency)
				for c := 1; c < 3; c++ {
					if f.needs[c-1] < f.limit/2 && f.latency < f.limit/10 && used[c] > 0 {
						t.Errorf("class %d was used %d times, though %v of %v suffice without it", c, used[c], f.needs[c-1], f.limit)
					}
				}
				if f.needs[2] < f.limit*7/10 && f.latency < f.limit/10 && l.Progress().Lost.Outputs > 0 {
					t.Errorf("%d lost, though %v of %v suffice for all", l.Progress().Lost.Outputs, f.needs[2], f.limit)
				}
			})
		})
	}
}

// TestOverflowOrder: alongside or not, of outputs of one size what is worth more is begun first.
func TestOverflowOrder(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := newFleet(rand.New(rand.NewPCG(seed, 5)), 1)
			f.rescue(t, func(*lab, [3]int) {
				position := map[int64]int{}
				for i, out := range migrate.Plan(f.outs, f.costs, false) {
					position[out.ID.Map] = i
				}
				before, now, moment := -1, -1, time.Time{} // the last positions; what begins at one moment has no order
				for _, s := range f.clock.begun {
					if s.at.After(moment) {
						before, moment = now, s.at
					}
					if position[s.out] < before {
						t.Errorf("number %d was begun before number %d", before, position[s.out])
					}
					now = max(now, position[s.out])
				}
			})
		})
	}
}
