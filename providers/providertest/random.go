package providertest

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
)

// quick picks a fault that makes polls fail without making them last.
func (s Suite) quick(i int) Fault {
	var able []Fault
	for _, f := range s.Faults {
		if !f.harmless() && !f.silent() && f != BlackHole && f != Huge {
			able = append(able, f)
		}
	}
	return able[i%len(able)]
}

// random picks any fault; those that cost time are rare.
func (s Suite) random(r *rand.Rand) Fault {
	f := s.Faults[r.IntN(len(s.Faults))]
	if (f == BlackHole || f == Slow || f == Huge) && r.IntN(20) > 0 {
		return None
	}
	return f
}

// testRandomFaults announces many events, each under random faults and then with one chance to be
// read, and starts the source anew now and then. None may be missed, sent twice in a run, or invented.
func testRandomFaults(t *testing.T, s Suite) {
	const seed = 20260101
	r := rand.New(rand.NewPCG(seed, seed))
	c := newScene(t, s)
	w := c.watch()
	ids := make(map[string]bool)
	var inRun []time.Time
	var waits []time.Duration
	check := func() { w.expect(inRun...) }
	for i := range s.Events {
		if c.ready() {
			check()
			w, inRun = c.watch(), nil
			clear(ids) // they are another machine's
		}
		c.SetFault(s.random(r))
		d := soon(i)
		c.announce(d)
		for range r.IntN(3) {
			w.polls(0) // at least the poll that is under way
			c.SetFault(s.random(r))
		}
		readable := time.Now()
		c.SetFault(None)
		n := w.next(d)
		waits = append(waits, max(0, n.at.Sub(readable)))
		if ids[n.ID] {
			t.Fatalf("event %d has the id of an earlier one: %s", i, n.ID)
		}
		ids[n.ID] = true
		inRun = append(inRun, d)
		if i%250 == 249 {
			check()
			w.stop()
			w = c.watch()
			again := w.next(d)
			if c.countsEvents() {
				clear(ids) // a new run counts anew
			} else if again.ID != n.ID {
				t.Fatalf("after a restart event %d is %s, before it was %s", i, again.ID, n.ID)
			}
			inRun = []time.Time{d}
		}
	}
	w.polls(5)
	check()
	if len(waits) != s.Events {
		t.Errorf("%d events seen, %d announced", len(waits), s.Events)
	}
	t.Logf("%s: %d notices under random faults: none missed, none twice, none invented; from readable to sent p50 %v, p99 %v, max %v",
		w.source.Name(), s.Events, quantile(waits, 0.5), quantile(waits, 0.99), quantile(waits, 1))
}

// quantile is the value that the share q of the list does not exceed.
func quantile(list []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[max(0, int(q*float64(len(sorted))+0.5)-1)].Round(time.Microsecond)
}

// testEnd ends runs in the middle of trouble: at once, with the context's error.
func testEnd(t *testing.T, s Suite) {
	for _, f := range append([]Fault{None}, s.Faults...) {
		c := newScene(t, s)
		c.SetFault(f)
		w := c.watch()
		if f != BlackHole {
			w.polls(1)
		}
		w.stop()
	}
	// Nobody reads: sending must not hold the run.
	c := newScene(t, s)
	c.announce(soon(0))
	reg := prometheus.NewPedanticRegistry()
	source := c.Source(reg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, make(chan providers.Notice)) }()
	await(t, "a poll", func() bool { return polls(t, reg) > 0 })
	cancel()
	returned(t, done)
}
