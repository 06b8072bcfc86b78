package providertest

import (
	"context"
	"math/rand/v2"
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
	rig := s.New(t)
	w := watch(t, rig)
	ids := make(map[string]bool)
	var inRun []time.Time
	for i := range s.Events {
		rig.SetFault(s.random(r))
		d := soon(i)
		rig.Announce(d)
		for range r.IntN(3) {
			w.polls(0) // at least the poll that is under way
			rig.SetFault(s.random(r))
		}
		rig.SetFault(None)
		n := w.next(d)
		if ids[n.ID] {
			t.Fatalf("event %d has the id of an earlier one: %s", i, n.ID)
		}
		ids[n.ID] = true
		inRun = append(inRun, d)
		if i%250 == 249 {
			w.expect(inRun...)
			w.stop()
			w = watch(t, rig)
			if again := w.next(d); again.ID != n.ID {
				t.Fatalf("after a restart event %d is %s, before it was %s", i, again.ID, n.ID)
			}
			inRun = []time.Time{d}
		}
	}
	w.polls(5)
	w.expect(inRun...)
	if len(ids) != s.Events {
		t.Errorf("%d events seen, %d announced", len(ids), s.Events)
	}
}

// testEnd ends runs in the middle of trouble: at once, with the context's error.
func testEnd(t *testing.T, s Suite) {
	for _, f := range append([]Fault{None}, s.Faults...) {
		rig := s.New(t)
		rig.SetFault(f)
		w := watch(t, rig)
		if f != BlackHole {
			w.polls(1)
		}
		w.stop()
	}
	// Nobody reads: sending must not hold the run.
	rig := s.New(t)
	rig.Announce(soon(0))
	reg := prometheus.NewPedanticRegistry()
	source := rig.Source(reg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, make(chan providers.Notice)) }()
	await(t, "a poll", func() bool { return polls(t, reg) > 0 })
	cancel()
	returned(t, done)
}
