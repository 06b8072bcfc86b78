package providertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
)

// patience is how long the suite waits for anything before it calls it missing.
const patience = 10 * time.Second

// base is far enough from now that no deadline of the suite is ever past.
var base = time.Now().Add(time.Hour).Truncate(time.Second).UTC()

// soon is the deadline of the i-th event.
func soon(i int) time.Time { return base.Add(time.Duration(i) * time.Second) }

// watcher is one run of a source with everything that it sent.
type watcher struct {
	t      *testing.T
	scene  *scene
	source providers.Source
	reg    *prometheus.Registry
	stop   func() // ends the run and checks how it ended; may be called again

	mu     sync.Mutex // guards scene.shown, too
	seen   []arrival
	events map[string]time.Time // of an Untimed origin: id -> event
}

// arrival is a notice with the event that it is about and when it was received.
type arrival struct {
	providers.Notice
	event time.Time
	at    time.Time
}

// newWatcher starts a run.
func newWatcher(c *scene, source providers.Source, reg *prometheus.Registry) *watcher {
	c.t.Helper()
	w := &watcher{t: c.t, scene: c, source: source, reg: reg, events: make(map[string]time.Time)}
	ctx, cancel := context.WithCancel(c.t.Context())
	notices, done := make(chan providers.Notice), make(chan error, 1)
	go func() {
		done <- w.source.Run(ctx, notices)
		close(notices)
	}()
	go func() {
		for n := range notices {
			w.take(n, time.Now())
		}
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		returned(w.t, done)
	})
	w.t.Cleanup(w.stop)
	return w
}

// take notes a notice. An event is known by its deadline, or, where the origin names none, by when its id came up first.
func (w *watcher) take(n providers.Notice, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	event := n.Deadline.UTC()
	if w.scene.lead > 0 {
		if _, known := w.events[n.ID]; !known {
			w.events[n.ID] = w.scene.shown.UTC()
		}
		event = w.events[n.ID]
	}
	w.seen = append(w.seen, arrival{n, event, at})
}

// returned waits for the end of a Run whose context has ended.
func returned(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want the context's error", err)
		}
	case <-time.After(patience):
		t.Error("Run does not return after its context has ended")
	}
}

// all returns what was sent so far.
func (w *watcher) all() []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// next waits until the notice of this event was sent.
func (w *watcher) next(event time.Time) arrival {
	w.t.Helper()
	var found arrival
	w.await("the notice for "+event.String(), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		// The last ones are the ones that are waited for.
		for _, a := range slices.Backward(w.seen) {
			if !a.Withdrawn && a.event.Equal(event) {
				found = a
				return true
			}
		}
		return false
	})
	return found
}

// expect checks that exactly the notices of these events were sent, each once.
func (w *watcher) expect(events ...time.Time) {
	w.t.Helper()
	want := make(map[time.Time]int)
	for _, d := range events {
		want[d.UTC()] = 0
	}
	for _, n := range w.all() {
		if n.Withdrawn {
			continue
		}
		if _, known := want[n.event]; !known {
			w.t.Errorf("sent, but never announced: %+v", n.Notice)
			continue
		}
		want[n.event]++
		if lead := n.Deadline.Sub(n.Seen); w.scene.lead > 0 && lead != w.scene.lead {
			w.t.Errorf("the deadline is %v after the time of seeing, want %v", lead, w.scene.lead)
		}
	}
	for d, times := range want {
		if times != 1 {
			w.t.Errorf("the notice for %v was sent %d times", d, times)
		}
	}
}

// withdrawals returns the ids that were withdrawn.
func (w *watcher) withdrawals() []string {
	var ids []string
	for _, n := range w.all() {
		if n.Withdrawn {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// polls waits until n polls were begun and finished after the call.
func (w *watcher) polls(n int) {
	w.t.Helper()
	// The poll that is under way now may have begun before.
	want := polls(w.t, w.reg) + float64(n) + 1
	w.await("polls", func() bool { return polls(w.t, w.reg) >= want })
}

// health is the source's own view of itself; the zero value when it has none.
func (w *watcher) health() providers.Health {
	if sight, can := w.source.(providers.Sight); can {
		return sight.Health()
	}
	return providers.Health{}
}

// wantHealth checks it.
func (w *watcher) wantHealth(ok bool) {
	w.t.Helper()
	if _, can := w.source.(providers.Sight); !can {
		return
	}
	var h providers.Health
	w.await("health", func() bool { h = w.health(); return h.OK == ok })
	if h.Source != w.source.Name() || ok != (h.Error == "") {
		w.t.Errorf("health: %+v", h)
	}
}

// wantSight waits until the source sees exactly these notices, by id.
func (w *watcher) wantSight(ids ...string) {
	w.t.Helper()
	sight, can := w.source.(providers.Sight)
	if !can {
		return
	}
	slices.Sort(ids)
	w.await("these notices in sight", func() bool {
		var got []string
		for _, n := range sight.Notices() {
			got = append(got, n.ID)
		}
		slices.Sort(got)
		return slices.Equal(got, ids)
	})
}

func (w *watcher) await(what string, cond func() bool) {
	w.t.Helper()
	await(w.t, what, cond)
}

// await checks a condition again and again.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("no sign of %s after %v", what, patience)
		}
		<-tick.C
	}
}

// polls reads lifeboat_notice_polls_total, which every source counts.
func polls(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != "lifeboat_notice_polls_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}
