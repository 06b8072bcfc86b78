package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

var onlyNew = bucket.PutOptions{IfAbsent: true}

func testIfAbsent(t *testing.T, r Rig) {
	for _, size := range []int{0, 1000, r.Large} {
		key, first := fmt.Sprintf("claims/%d", size), Bytes(1, size)
		if err := r.Bucket.Put(within(t), key, bytes.NewReader(first), onlyNew); err != nil {
			t.Fatal(err)
		}
		for _, again := range []int{0, 1000, r.Large} {
			err := r.Other.Put(within(t), key, bytes.NewReader(Bytes(2, again)), onlyNew)
			wantKind(t, fmt.Sprintf("%d bytes upon %d", again, size), err, bucket.Exists)
		}
		r.check(t, key, first)
		if err := r.Bucket.Delete(within(t), key); err != nil {
			t.Fatal(err)
		}
		if err := r.Other.Put(within(t), key, bytes.NewReader(first), onlyNew); err != nil {
			t.Errorf("after the delete: %v", err)
		}
	}
}

// testWriters: of several writers at once exactly one succeeds.
func testWriters(t *testing.T, r Rig) {
	for _, size := range []int{100, r.Large} {
		var puts sync.WaitGroup
		var won atomic.Int64
		key := fmt.Sprintf("claim-%d", size)
		won.Store(-1)
		for i := range 6 {
			b := r.Bucket
			if i%2 == 1 {
				b = r.Other
			}
			puts.Go(func() {
				err := b.Put(within(t), key, bytes.NewReader(Bytes(uint64(i), size)), onlyNew)
				switch {
				case err != nil:
					wantKind(t, key, err, bucket.Exists)
				case !won.CompareAndSwap(-1, int64(i)):
					t.Errorf("%s: two writers succeeded", key)
				}
			})
		}
		puts.Wait()
		if won.Load() < 0 {
			t.Fatalf("%s: no writer succeeded", key)
		}
		r.check(t, key, Bytes(uint64(won.Load()), size))
	}
}

var errUnreadable = errors.New("made unreadable by the test")

// broken can be read only up to an offset.
type broken struct {
	*bytes.Reader
	from int64
	err  error
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.from {
		return 0, b.err
	}
	n, err := b.Reader.ReadAt(p[:min(int64(len(p)), b.from-off)], off)
	if n < len(p) && err == nil {
		err = b.err
	}
	return n, err
}

// testBadBody: a body that can't be read to its end leaves what was there.
func testBadBody(t *testing.T, r Rig) {
	for _, size := range []int{1000, r.Large} {
		old := Bytes(1, 50)
		for _, err := range []error{errUnreadable, io.EOF} {
			for _, from := range []int{0, size / 2, size - 1} {
				body := broken{bytes.NewReader(Bytes(2, size)), int64(from), err}
				wantKind(t, fmt.Sprintf("%d of %d bytes", from, size), r.Bucket.Put(within(t), "new", body, bucket.PutOptions{}), bucket.BadBody)
				r.absent(t, "new")
				r.put(t, "old", old)
				wantKind(t, "replace", r.Bucket.Put(within(t), "old", body, bucket.PutOptions{}), bucket.BadBody)
				r.check(t, "old", old)
			}
		}
	}
}

func testContextOver(t *testing.T, r Rig) {
	r.put(t, "old", []byte("x"))
	cause := errors.New("the test wants it")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, cause)
	defer cancel()
	_, errGet := r.Bucket.Get(ctx, "old", 0, -1)
	_, errStat := r.Bucket.Stat(ctx, "old")
	for what, err := range map[string]error{
		"put": r.Bucket.Put(ctx, "new", bytes.NewReader([]byte("x")), bucket.PutOptions{}), "get": errGet, "stat": errStat,
		"delete": r.Bucket.Delete(ctx, "old"),
		"list":   r.Bucket.List(ctx, "", func(bucket.Object) error { return nil }),
	} {
		wantKind(t, what, err, bucket.Unavailable)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v does not say that the context is over", what, err)
		}
	}
	r.absent(t, "new")
	r.check(t, "old", []byte("x"))
}

func testConcurrent(t *testing.T, r Rig) {
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			key, content := fmt.Sprintf("a/%d/x", i%12), Bytes(uint64(i%12), 5000*(i%12))
			if err := r.Bucket.Put(within(t), key, bytes.NewReader(content), bucket.PutOptions{}); err != nil {
				t.Error(err)
				return
			}
			r.check(t, key, content)
		})
	}
	all.Wait()
}

// testWhole reads an object while it is replaced: it is the old one or the new one.
func testWhole(t *testing.T, r Rig) {
	contents := [][]byte{Bytes(1, r.Large), Bytes(2, 200_000), Bytes(3, r.Large+1)}
	r.put(t, "k", contents[0])
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				got, err := get(within(t), r.Other, "k", 0, -1)
				if err == nil && !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) && !bytes.Equal(got, contents[2]) {
					t.Errorf("%d bytes that nobody has stored", len(got))
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 4 {
		r.put(t, "k", contents[(i+1)%3])
	}
	close(done)
	readers.Wait()
}

// testFaults: each kind of trouble is reported as what it is, leaves nothing behind, and ends.
func testFaults(t *testing.T, r Rig) {
	for _, f := range []struct {
		name   string
		inject func()
		want   bucket.Kind
	}{
		{"deny", r.Deny, bucket.Denied}, {"throttle", r.Throttle, bucket.Throttled}, {"break", r.Break, bucket.Unavailable},
	} {
		if f.inject == nil {
			continue
		}
		r.put(t, "old", []byte("x"))
		f.inject()
		for _, size := range []int{1000, r.Large} {
			body := bytes.NewReader(Bytes(1, size))
			wantKind(t, fmt.Sprintf("%s: put of %d", f.name, size), r.Bucket.Put(within(t), "new", body, bucket.PutOptions{}), f.want)
		}
		_, err := get(within(t), r.Bucket, "old", 0, -1)
		wantKind(t, f.name+": get", err, f.want)
		_, err = r.Bucket.Stat(within(t), "old")
		wantKind(t, f.name+": stat", err, f.want)
		wantKind(t, f.name+": list", r.Bucket.List(within(t), "", func(bucket.Object) error { return nil }), f.want)
		wantKind(t, f.name+": delete", r.Bucket.Delete(within(t), "old"), f.want)
		r.Heal()
		r.recovers(t)
		r.absent(t, "new")
	}
}

// recovers wants everything to work again within a few tries: connections made before may have to be given up.
func (r Rig) recovers(t *testing.T) {
	t.Helper()
	var err error
	for range 5 {
		if err = r.Bucket.Put(within(t), "healed", bytes.NewReader([]byte("y")), bucket.PutOptions{}); err == nil {
			r.check(t, "healed", []byte("y"))
			return
		}
	}
	t.Errorf("does not recover: %v", err)
}

func testSpoiled(t *testing.T, r Rig) {
	if r.Spoil == nil {
		return
	}
	r.Spoil()
	for _, size := range []int{1000, r.Large} {
		body := bytes.NewReader(Bytes(1, size))
		wantKind(t, fmt.Sprintf("%d bytes", size), r.Bucket.Put(within(t), "new", body, bucket.PutOptions{}), bucket.BadBody)
	}
	r.Heal()
	r.recovers(t)
	r.absent(t, "new")
}

// testStall: what hangs ends with its context, and without one after a time of its own.
func testStall(t *testing.T, r Rig) {
	if r.Stall == nil {
		return
	}
	r.put(t, "old", []byte("x"))
	r.Stall()
	for what, call := range map[string]func(context.Context) error{
		"put": func(ctx context.Context) error {
			return r.Hasty.Put(ctx, "new", bytes.NewReader(Bytes(1, 1000)), bucket.PutOptions{})
		},
		"put large": func(ctx context.Context) error {
			return r.Hasty.Put(ctx, "new", bytes.NewReader(Bytes(1, r.Large)), bucket.PutOptions{})
		},
		"get": func(ctx context.Context) error {
			_, err := get(ctx, r.Hasty, "old", 0, -1)
			return err
		},
		"list": func(ctx context.Context) error {
			return r.Hasty.List(ctx, "", func(bucket.Object) error { return nil })
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		begin := time.Now()
		err := call(ctx)
		took := time.Since(begin)
		cancel()
		wantKind(t, what, err, bucket.Unavailable)
		if !errors.Is(err, context.DeadlineExceeded) || took > patience {
			t.Errorf("%s ended after %v: %v", what, took, err)
		}
		begin = time.Now()
		err = call(context.WithoutCancel(t.Context()))
		wantKind(t, what+" without deadline", err, bucket.Unavailable)
		if took := time.Since(begin); took > longest/2 || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s without deadline ended after %v: %v", what, took, err)
		}
	}
	r.Heal()
	r.recovers(t)
	r.absent(t, "new")
}
