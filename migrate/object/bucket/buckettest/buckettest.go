// Package buckettest is the suite that every bucket.Bucket has to pass. Nothing of it runs in a rescue.
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Rig is one fresh, empty bucket, and the means to harm it. A nil fault is not tested.
type Rig struct {
	Bucket bucket.Bucket
	// Other is a client of the same bucket of its own; nil: Bucket itself.
	Other bucket.Bucket
	// Hasty is one whose Settings.Stall is so short that a test can wait for it, say 1 s; nil: Bucket.
	Hasty bucket.Bucket
	// Large is a size that is sent in parts, in bytes; default 20 MiB.
	Large int
	// Leftovers are the names of what is stored or half-stored and no object; nil: they are not looked for.
	Leftovers func() []string

	Deny     func() // from now on access is denied
	Throttle func() // from now on fewer requests are asked for
	Stall    func() // from now on nothing is answered
	Break    func() // from now on connections break
	Spoil    func() // from now on what arrives is not what was sent, and the server finds out
	Heal     func() // the end of these; wanted if one of them is there
}

const (
	// longest is how long one call may take that nothing harms, and patience how long one may go on after its context.
	longest  = 60 * time.Second
	patience = 10 * time.Second
)

// Conform runs the contract of bucket.Bucket against fresh buckets made by setup, which cleans up with t.Cleanup.
func Conform(t *testing.T, setup func(t *testing.T) Rig) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Rig)
	}{
		{"stores", testStores}, {"ranges", testRanges}, {"replaces", testReplaces}, {"names", testNames},
		{"bad keys", testBadKeys}, {"not found", testNotFound}, {"deletes", testDeletes}, {"lists", testLists},
		{"lists many", testListsMany}, {"if absent", testIfAbsent}, {"one of many writers", testWriters},
		{"bad body", testBadBody}, {"context over", testContextOver}, {"concurrent", testConcurrent},
		{"whole or not at all", testWhole}, {"faults", testFaults}, {"spoiled", testSpoiled}, {"stall", testStall},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := setup(t)
			if r.Large == 0 {
				r.Large = 20 << 20
			}
			if r.Other == nil {
				r.Other = r.Bucket
			}
			if r.Hasty == nil {
				r.Hasty = r.Bucket
			}
			c.test(t, r)
			r.clean(t)
		})
	}
}

// clean wants that nothing is left that nobody would ever remove, soon.
func (r Rig) clean(t *testing.T) {
	t.Helper()
	if r.Leftovers == nil {
		return
	}
	late := time.After(patience)
	for {
		left := r.Leftovers()
		if len(left) == 0 {
			return
		}
		select {
		case <-late:
			t.Errorf("left behind: %q", left)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	t.Cleanup(cancel)
	return ctx
}

// Bytes are size bytes that depend on the seed and do not repeat within any part.
func Bytes(seed uint64, size int) []byte {
	b := make([]byte, size)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return b
}

func (r Rig) put(t *testing.T, key string, content []byte) {
	t.Helper()
	if err := r.Bucket.Put(within(t), key, bytes.NewReader(content), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func get(ctx context.Context, b bucket.Bucket, key string, offset, length int64) ([]byte, error) {
	body, err := b.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// check wants an object with this content.
func (r Rig) check(t *testing.T, key string, want []byte) {
	t.Helper()
	got, err := get(within(t), r.Other, key, 0, -1)
	if err != nil {
		t.Errorf("%s: %v", key, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that differ from the %d stored", key, len(got), len(want))
	}
}

// absent wants that there is no such object.
func (r Rig) absent(t *testing.T, key string) {
	t.Helper()
	if _, err := r.Other.Stat(within(t), key); err == nil || bucket.KindOf(err) != bucket.NotFound {
		t.Errorf("%s: %v, want not found", key, err)
	}
}

// wantKind fails the test unless err is a bucket.Error of a kind.
func wantKind(t *testing.T, what string, err error, want bucket.Kind) {
	t.Helper()
	var e *bucket.Error
	switch {
	case err == nil:
		t.Errorf("%s: no error", what)
	case !errors.As(err, &e):
		t.Errorf("%s: %v is no *bucket.Error", what, err)
	case e.Kind != want:
		t.Errorf("%s: %v is of the kind %v, want %v", what, err, e.Kind, want)
	}
}

func testStores(t *testing.T, r Rig) {
	for i, size := range []int{0, 1, 1000, 64 << 10, 1 << 20, r.Large - 1, r.Large, r.Large + 12345} {
		key, content := fmt.Sprintf("app-1/3/%d/shuffle_3_%d_0.data", i, i), Bytes(uint64(size), size)
		r.put(t, key, content)
		r.check(t, key, content)
		o, err := r.Other.Stat(within(t), key)
		if err != nil || o.Key != key || o.Size != int64(size) || time.Since(o.Modified).Abs() > time.Hour {
			t.Errorf("%d bytes: %+v, %v", size, o, err)
		}
	}
}

func testRanges(t *testing.T, r Rig) {
	content := Bytes(1, 100_000)
	r.put(t, "a/b", content)
	for _, c := range []struct{ offset, length int64 }{
		{0, 1}, {0, 100_000}, {50_000, 10}, {99_999, 1}, {99_999, -1}, {1, -1}, {7, 0}, {0, 0},
	} {
		want := content[c.offset:]
		if c.length >= 0 {
			want = want[:c.length]
		}
		got, err := get(within(t), r.Bucket, "a/b", c.offset, c.length)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%+v: %d bytes, %v", c, len(got), err)
		}
	}
	for _, c := range []struct{ offset, length int64 }{{99_999, 2}, {100_001, 1}, {200_000, -1}, {-1, 5}} {
		if got, err := get(within(t), r.Bucket, "a/b", c.offset, c.length); err == nil {
			t.Errorf("%+v beyond the end: %d bytes and no error", c, len(got))
		}
	}
}

func testReplaces(t *testing.T, r Rig) {
	for i, size := range []int{1000, r.Large, 10, 0, 500} {
		content := Bytes(uint64(i), size)
		r.put(t, "k", content)
		r.check(t, "k", content)
	}
}

func testNames(t *testing.T, r Rig) {
	keys := []string{
		"a b", "a+b", "a%20b", "a?b", "a#b", "a&b=c", "ü/\u20AC", "a:b", "x/y/z/.hidden", "~", "'quoted'", "a,b;c", "a*b", "(x)",
	}
	for i, key := range keys {
		r.put(t, key, Bytes(uint64(i), 10+i))
	}
	for i, key := range keys {
		r.check(t, key, Bytes(uint64(i), 10+i))
	}
	wantList(t, r.Bucket, "", keys...)
}

func testBadKeys(t *testing.T, r Rig) {
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../../b", ".", "a\x00b"} {
		_, errGet := r.Bucket.Get(within(t), key, 0, -1)
		_, errStat := r.Bucket.Stat(within(t), key)
		errPut := r.Bucket.Put(within(t), key, bytes.NewReader([]byte("x")), bucket.PutOptions{})
		for _, err := range []error{errGet, errStat, errPut, r.Bucket.Delete(within(t), key)} {
			wantKind(t, fmt.Sprintf("%q", key), err, bucket.Misplaced)
		}
	}
	wantList(t, r.Bucket, "")
}

func testNotFound(t *testing.T, r Rig) {
	_, err := r.Bucket.Get(within(t), "a/b", 0, -1)
	wantKind(t, "get", err, bucket.NotFound)
	_, err = r.Bucket.Get(within(t), "a/b", 5, 10)
	wantKind(t, "get a part", err, bucket.NotFound)
	_, err = r.Bucket.Stat(within(t), "a/b")
	wantKind(t, "stat", err, bucket.NotFound)
	r.put(t, "a/b/c", []byte("x"))
	r.absent(t, "a/b")
	r.absent(t, "a")
}

func testDeletes(t *testing.T, r Rig) {
	r.put(t, "a/b/c", []byte("x"))
	r.put(t, "a/d", []byte("y"))
	for range 2 {
		if err := r.Bucket.Delete(within(t), "a/b/c"); err != nil {
			t.Error(err)
		}
		if err := r.Bucket.Delete(within(t), "never/there"); err != nil {
			t.Error(err)
		}
		if err := r.Bucket.Delete(within(t), "a"); err != nil {
			t.Error(err)
		}
	}
	r.absent(t, "a/b/c")
	r.check(t, "a/d", []byte("y"))
	r.put(t, "a/b/c", []byte("z"))
	r.check(t, "a/b/c", []byte("z"))
}
