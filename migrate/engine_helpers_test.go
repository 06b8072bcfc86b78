package migrate_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// recorder is an Observer that checks the order of what it hears.
type recorder struct {
	mu      sync.Mutex
	t       *testing.T
	over    bool
	state   map[migrate.OutputID]migrate.State
	unsure  map[migrate.OutputID]bool // adopted, perhaps: nothing is known of them
	saved   int
	unsaved int
	retried int
	reasons map[migrate.Reason]int
	errs    []error
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t: t, state: map[migrate.OutputID]migrate.State{}, unsure: map[migrate.OutputID]bool{}, reasons: map[migrate.Reason]int{}}
}

func (r *recorder) hear(out *migrate.Output, from, to migrate.State) {
	if r.over {
		r.t.Errorf("%v: heard of after the end of Run", out.ID)
	}
	if got := r.state[out.ID]; got != from && !r.unsure[out.ID] {
		r.t.Errorf("%v: %v, but it was %v and not %v", out.ID, to, got, from)
	}
	r.state[out.ID] = to
}

func (r *recorder) Saved(out *migrate.Output, _ migrate.Location, _ time.Duration, tries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hear(out, migrate.Queued, migrate.Saved)
	r.saved++
	if tries < 1 {
		r.t.Errorf("%v: saved after %d tries", out.ID, tries)
	}
}

func (r *recorder) Retried(out *migrate.Output, _ migrate.Target, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hear(out, migrate.Queued, migrate.Queued)
	r.retried++
	r.errs = append(r.errs, err)
}

func (r *recorder) Unsaved(out *migrate.Output, _ migrate.Location) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hear(out, migrate.Saved, migrate.Queued)
	r.unsaved++
}

func (r *recorder) Lost(out *migrate.Output, why migrate.Reason, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hear(out, migrate.Queued, migrate.Lost)
	r.reasons[why]++
	if (why == migrate.ReasonCorrupt || why == migrate.ReasonAttempts) && err == nil {
		r.t.Errorf("%v: lost (%s) without an error", out.ID, why)
	}
}

// lab is an engine that runs.
type lab struct {
	*migrate.Engine
	t      *testing.T
	rec    *recorder
	start  time.Time
	cancel context.CancelFunc
	done   chan error
}

// run starts an engine in a bubble of its own time and stops it at the end of the test.
func run(t *testing.T, limit time.Duration, o migrate.Options, test func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, rec: newRecorder(t), start: time.Now(), done: make(chan error, 1)}
		o.Observer = l.rec
		l.Engine = migrate.NewEngine(o)
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		l.cancel = cancel
		go func() { l.done <- l.Run(ctx) }()
		test(l)
		l.stop()
	})
}

// stop ends Run and holds what it left behind against what the observer heard.
func (l *lab) stop() {
	l.t.Helper()
	if l.done == nil {
		return
	}
	l.cancel()
	if err := <-l.done; err == nil {
		l.t.Error("Run returned nil")
	}
	l.done = nil
	l.rec.mu.Lock()
	defer l.rec.mu.Unlock()
	l.rec.over = true
	for _, r := range l.Results() {
		heard := l.rec.state[r.Output.ID]
		adopted := r.State == migrate.Saved && r.Tries == 0
		if r.State != heard && !adopted && !l.rec.unsure[r.Output.ID] {
			l.t.Errorf("%v: the result is %v, the observer heard %v", r.Output.ID, r.State, heard)
		}
		if r.State != migrate.Saved && r.State != migrate.Lost {
			l.t.Errorf("%v: %v after the end", r.Output.ID, r.State)
		}
		if (r.State == migrate.Lost) != (r.Reason != "") {
			l.t.Errorf("%v: %v with reason %q", r.Output.ID, r.State, r.Reason)
		}
	}
}

// settled wants Settled to say so within a time.
func (l *lab) settled(want error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Hour)
	defer cancel()
	if err := l.Settled(ctx); !errors.Is(err, want) {
		l.t.Fatalf("settled after %v: %v, want %v", time.Since(l.start), err, want)
	}
}

func (l *lab) elapsed() time.Duration { return time.Since(l.start) }

// wantCounts compares saved and lost.
func (l *lab) wantCounts(saved, lost int) {
	l.t.Helper()
	if p := l.Progress(); p.Saved.Outputs != saved || p.Lost.Outputs != lost {
		l.t.Errorf("%d saved, %d lost, want %d and %d; lost by %v", p.Saved.Outputs, p.Lost.Outputs, saved, lost, l.rec.reasons)
	}
}

func outputs(n int, bytes int64) []*migrate.Output {
	outs := make([]*migrate.Output, n)
	for i := range outs {
		outs[i] = migratetest.HollowOutput(int64(i), bytes)
	}
	return outs
}

func memory(id string, behave ...migratetest.Behaviour) *migratetest.Memory {
	m := migratetest.NewMemory(migratetest.Executor(id), behave...)
	m.Hollow = true
	return m
}

func destinations(ms ...*migratetest.Memory) []migrate.Destination {
	ds := make([]migrate.Destination, len(ms))
	for i, m := range ms {
		ds[i] = m
	}
	return ds
}

// sent is the map ids in the order in which they were sent.
func sent(m *migratetest.Memory) []int64 {
	ids := []int64{}
	for _, c := range m.Calls() {
		ids = append(ids, c.Output.ID.Map)
	}
	return ids
}

func wantSent(t *testing.T, m *migratetest.Memory, want ...int64) {
	t.Helper()
	if got := sent(m); !slices.Equal(got, want) {
		t.Errorf("sent to %v: %v, want %v", m.Target(), got, want)
	}
}
