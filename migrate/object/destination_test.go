package object

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// open makes a bucket in a folder of its own.
func open(t *testing.T) bucket.Bucket {
	t.Helper()
	b, err := Open(t.Context(), "file://"+t.TempDir(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// stored reads what Spark would.
func stored(b bucket.Bucket, id migrate.OutputID) (index, data []byte, ok bool) {
	index, err := read(b, IndexKey(id))
	if err != nil {
		return nil, nil, false
	}
	data, _ = read(b, DataKey(id))
	return index, data, true
}

func read(b bucket.Bucket, key string) ([]byte, error) {
	r, err := b.Get(context.Background(), key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// faulty is a bucket whose Put does something else first.
type faulty struct {
	bucket.Bucket
	before atomic.Pointer[func(ctx context.Context, key string) error]
}

func (f *faulty) behave(before func(ctx context.Context, key string) error) { f.before.Store(&before) }

func (f *faulty) Put(ctx context.Context, key string, body bucket.Body, o bucket.PutOptions) error {
	if before := f.before.Load(); before != nil {
		if err := (*before)(ctx, key); err != nil {
			return err
		}
	}
	return f.Bucket.Put(ctx, key, body, o)
}

func fails(k bucket.Kind) func(context.Context, string) error {
	return func(context.Context, string) error {
		return &bucket.Error{Op: "put", Kind: k, Err: errors.New("by the test")}
	}
}

func TestConforms(t *testing.T) {
	migratetest.Conform(t, func(t *testing.T) migratetest.Harness {
		b := &faulty{Bucket: open(t)}
		return migratetest.Harness{
			Destination: New(Options{Bucket: b, App: "app-1"}),
			Stored:      func(id migrate.OutputID) (index, data []byte, ok bool) { return stored(b, id) },
			Stall: func() {
				b.behave(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
			},
			Refuse: func() { b.behave(fails(bucket.Denied)) },
			Break:  func() { b.behave(fails(bucket.Unavailable)) },
			Heal:   func() { b.behave(func(context.Context, string) error { return nil }) },
		}
	})
}

// TestKinds: what the engine may do about each kind of trouble.
func TestKinds(t *testing.T) {
	for k, want := range map[bucket.Kind]migrate.Kind{
		bucket.Unavailable: migrate.Transient, bucket.Throttled: migrate.Transient, bucket.NotFound: migrate.Transient,
		bucket.BadBody: migrate.Transient, bucket.Denied: migrate.Elsewhere, bucket.Full: migrate.Elsewhere,
		bucket.Misplaced: migrate.Elsewhere,
	} {
		b := &faulty{Bucket: open(t)}
		b.behave(fails(k))
		_, err := New(Options{Bucket: b, App: "app-1", Attempts: 1}).Put(t.Context(), migratetest.Output("app-1", 0, 1, 100))
		if err == nil || migrate.KindOf(err) != want || bucket.KindOf(err) != k {
			t.Errorf("%v: %v of kind %v, want %v", k, err, migrate.KindOf(err), want)
		}
	}
	d := New(Options{Bucket: open(t), App: "app-1"})
	if _, err := d.Put(t.Context(), migratetest.Output("app-2", 0, 1, 100)); migrate.KindOf(err) != migrate.Elsewhere {
		t.Errorf("another application: %v", err)
	}
}

// announcements records what was told, and what of it could be read then.
type announcements struct {
	b   bucket.Bucket
	err error

	mu   sync.Mutex
	told map[migrate.OutputID]int
	half []migrate.OutputID
}

func (a *announcements) announce(_ context.Context, at []migrate.Located) error {
	if a.err != nil {
		return a.err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range at {
		a.told[l.Output.ID]++
		index, data, ok := stored(a.b, l.Output.ID)
		size := int64(0)
		if l.Output.Data != nil {
			size = l.Output.Data.Size()
		}
		if !ok || int64(len(index)) != l.Output.Index.Size() || int64(len(data)) != size {
			a.half = append(a.half, l.Output.ID)
		}
	}
	return nil
}

func (a *announcements) Stored(out *migrate.Output) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told[out.ID] > 0 {
		a.half = append(a.half, out.ID) // recorded after it was announced
	}
}

func TestAnnounces(t *testing.T) {
	b := open(t)
	a := &announcements{b: b, told: map[migrate.OutputID]int{}}
	d := New(Options{Bucket: b, App: "app-1", Announce: a.announce, Recorder: a})
	outs := []*migrate.Output{migratetest.Output("app-1", 0, 1, 0), migratetest.Output("app-1", 0, 2, 50_000)}
	var located []migrate.Located
	for _, out := range outs {
		at, err := d.Put(t.Context(), out)
		if err != nil || !at.Announced || at.Target.URL != b.URL() {
			t.Fatalf("%+v, %v", at, err)
		}
		located = append(located, migrate.Located{Output: out, At: at})
	}
	if err := d.Announce(t.Context(), located); err != nil {
		t.Error(err)
	}
	for _, out := range outs {
		if a.told[out.ID] != 2 {
			t.Errorf("%v told %d times", out.ID, a.told[out.ID])
		}
	}
	if len(a.half) > 0 {
		t.Errorf("announced without being stored: %v", a.half)
	}
	located[0].At.Target.URL = "file:///elsewhere"
	if err := d.Announce(t.Context(), located); migrate.KindOf(err) != migrate.Elsewhere {
		t.Errorf("stored elsewhere: %v", err)
	}
	a.err = errors.New("the driver is slow")
	if _, err := d.Put(t.Context(), outs[0]); !errors.Is(err, a.err) || migrate.KindOf(err) != migrate.Transient {
		t.Errorf("%v", err)
	}
}

func TestOnlyStores(t *testing.T) {
	d := New(Options{Bucket: open(t), App: "app-1"})
	out := migratetest.Output("app-1", 0, 1, 10)
	at, err := d.Put(t.Context(), out)
	if err != nil || at.Announced {
		t.Errorf("%+v, %v", at, err)
	}
	if err := d.Announce(t.Context(), []migrate.Located{{Output: out, At: at}}); migrate.KindOf(err) != migrate.Elsewhere {
		t.Errorf("%v", err)
	}
}

// TestLargeIsNotSentTwice: one of the same size that is young enough is the same; any other is replaced.
func TestLargeIsNotSentTwice(t *testing.T) {
	b := &faulty{Bucket: open(t)}
	var puts atomic.Int64
	b.behave(func(_ context.Context, key string) error {
		puts.Add(1)
		return nil
	})
	d := New(Options{Bucket: b, App: "app-1"})
	out := migratetest.Output("app-1", 0, 1, worthAsking)
	for i, want := range []int64{2, 3} { // the index is always sent
		if _, err := d.Put(t.Context(), out); err != nil || puts.Load() != want {
			t.Errorf("put %d: %d objects sent, want %d, %v", i, puts.Load(), want, err)
		}
	}
	out.Committed = time.Now().Add(time.Hour)
	if _, err := d.Put(t.Context(), out); err != nil || puts.Load() != 5 {
		t.Errorf("older than the output: %d objects sent, %v", puts.Load(), err)
	}
	larger := migratetest.Output("app-1", 0, 1, worthAsking+1)
	if _, err := d.Put(t.Context(), larger); err != nil || puts.Load() != 7 {
		t.Errorf("another size: %d objects sent, %v", puts.Load(), err)
	}
}

// TestThrottled: the storage is left alone by all while it asks for that, and then gets fewer at once.
func TestThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(16)
		ctx := t.Context()
		for range 16 {
			if err := g.enter(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for range 16 { // one wave, which counts once
			g.leave(&bucket.Error{Kind: bucket.Throttled, RetryAfter: 3 * time.Second, Err: errors.New("slow down")})
		}
		begin := time.Now()
		var entered atomic.Int64
		for range 16 {
			go func() {
				if g.enter(ctx) == nil {
					entered.Add(1)
				}
			}()
		}
		synctest.Wait()
		if entered.Load() != 0 {
			t.Error("somebody was let in during the pause")
		}
		for entered.Load() == 0 {
			<-time.After(100 * time.Millisecond)
		}
		synctest.Wait()
		if took, n := time.Since(begin), entered.Load(); took < 3*time.Second || took > 4*time.Second || n != 8 {
			t.Errorf("%d let in after %v, want half of 16 after 3 s", n, took)
		}
		for range 8 {
			g.leave(nil)
		}
		synctest.Wait()
		if n := entered.Load(); n != 16 {
			t.Errorf("%d let in altogether", n)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		g.leave(&bucket.Error{Kind: bucket.Throttled, RetryAfter: time.Hour, Err: errors.New("slow down")})
		if err := g.enter(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		for range 7 {
			g.leave(nil)
		}
		if err := g.enter(ctx); err != nil || time.Since(begin) > time.Minute {
			t.Errorf("a storage can ask for a pause of an hour: %v", err)
		}
	})
}

// TestThrottledPut: throttling now and then makes no Put fail.
func TestThrottledPut(t *testing.T) {
	b := &faulty{Bucket: open(t)}
	var tried sync.Map
	b.behave(func(ctx context.Context, key string) error {
		if _, again := tried.LoadOrStore(key, true); !again {
			return fails(bucket.Throttled)(ctx, key)
		}
		return nil
	})
	d := New(Options{Bucket: b, App: "app-1"})
	var puts sync.WaitGroup
	for i := range 6 {
		puts.Go(func() {
			if _, err := d.Put(t.Context(), migratetest.Output("app-1", 0, int64(i), 100)); err != nil {
				t.Error(err)
			}
		})
	}
	puts.Wait()
}

// tokens counts what a Limiter was asked for.
type tokens struct {
	burst int
	taken atomic.Int64
}

func (l *tokens) Burst() int { return l.burst }

func (l *tokens) WaitN(ctx context.Context, n int) error {
	l.taken.Add(int64(n))
	if n > l.burst {
		return errors.New("more than the burst")
	}
	return ctx.Err()
}

func TestLimiter(t *testing.T) {
	l := &tokens{burst: 1000}
	d := New(Options{Bucket: open(t), App: "app-1", Limiter: l})
	out := migratetest.Output("app-1", 0, 1, 300_000)
	if _, err := d.Put(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if got := l.taken.Load(); got < out.Bytes() {
		t.Errorf("%d of %d bytes were limited", got, out.Bytes())
	}
}

// updates plays a driver.
type updates struct {
	mu     sync.Mutex
	blocks []string
	accept bool
	err    error
}

func (u *updates) UpdateBlock(_ context.Context, at java.BlockManagerID, block string, _, _ int64) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at != java.FallbackBlockManager() {
		return false, errors.New("another place")
	}
	u.blocks = append(u.blocks, block)
	return u.accept, u.err
}

func TestTell(t *testing.T) {
	u := &updates{accept: true}
	full, empty := migratetest.Output("app-1", 0, 1, 100), migratetest.Output("app-1", 0, 2, 0)
	if err := Tell(u)(t.Context(), []migrate.Located{{Output: full}}); err != nil {
		t.Error(err)
	}
	if len(u.blocks) != 2 || u.blocks[0] != full.ID.DataBlock() || u.blocks[1] != full.ID.IndexBlock() {
		t.Errorf("%q", u.blocks)
	}
	u.blocks = nil
	if err := Tell(u)(t.Context(), []migrate.Located{{Output: empty}}); err != nil || len(u.blocks) != 1 {
		t.Errorf("%q, %v", u.blocks, err)
	}
	u.accept = false
	if err := Tell(u)(t.Context(), []migrate.Located{{Output: full}, {Output: empty}}); !errors.Is(err, errNotAccepted) {
		t.Errorf("%v", err)
	}
	u.accept, u.err = true, errors.New("connection lost")
	if err := Tell(u)(t.Context(), []migrate.Located{{Output: full}}); !errors.Is(err, u.err) {
		t.Errorf("%v", err)
	}
}
