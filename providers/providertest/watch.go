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
	source providers.Source
	reg    *prometheus.Registry
	stop   func() // ends the run and checks how it ended; may be called again

	mu     sync.Mutex
	seen   []providers.Notice
	latest map[time.Time]providers.Notice // by deadline, without withdrawals
}

// watch starts a run.
func watch(t *testing.T, rig Rig) *watcher {
	t.Helper()
	w := &watcher{t: t, reg: prometheus.NewPedanticRegistry(), latest: make(map[time.Time]providers.Notice)}
	w.source = rig.Source(w.reg)
	ctx, cancel := context.WithCancel(t.Context())
	notices, done := make(chan providers.Notice), make(chan error, 1)
	go func() {
		done <- w.source.Run(ctx, notices)
		close(notices)
	}()
	go func() {
		for n := range notices {
			w.mu.Lock()
			w.seen = append(w.seen, n)
			if !n.Withdrawn {
				w.latest[n.Deadline.UTC()] = n
			}
			w.mu.Unlock()
		}
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		returned(t, done)
	})
	t.Cleanup(w.stop)
	return w
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
func (w *watcher) all() []providers.Notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// next waits until the notice with this deadline was sent.
func (w *watcher) next(deadline time.Time) providers.Notice {
	w.t.Helper()
	var found providers.Notice
	w.await("the notice for "+deadline.String(), func() (ok bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		found, ok = w.latest[deadline.UTC()]
		return ok
	})
	return found
}

// expect checks that exactly the notices with these deadlines were sent, each once.
func (w *watcher) expect(deadlines ...time.Time) {
	w.t.Helper()
	want := make(map[time.Time]int)
	for _, d := range deadlines {
		want[d.UTC()] = 0
	}
	for _, n := range w.all() {
		if n.Withdrawn {
			continue
		}
		if _, known := want[n.Deadline.UTC()]; !known {
			w.t.Errorf("sent, but never announced: %+v", n)
			continue
		}
		want[n.Deadline.UTC()]++
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

// wantHealth checks the source's own view of itself.
func (w *watcher) wantHealth(ok bool) {
	w.t.Helper()
	r, can := w.source.(providers.Sight)
	if !can {
		return
	}
	var h providers.Health
	w.await("health", func() bool { h = r.Health(); return h.OK == ok })
	if h.Source != w.source.Name() || ok != (h.Error == "") {
		w.t.Errorf("health: %+v", h)
	}
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
