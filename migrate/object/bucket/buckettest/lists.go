package buckettest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

func list(t *testing.T, b bucket.Bucket, prefix string) []string {
	t.Helper()
	var keys []string
	err := b.List(within(t), prefix, func(o bucket.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		t.Errorf("list %q: %v", prefix, err)
	}
	slices.Sort(keys)
	return keys
}

func wantList(t *testing.T, b bucket.Bucket, prefix string, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	if got := list(t, b, prefix); !slices.Equal(got, want) {
		t.Errorf("list %q: %q, want %q", prefix, got, want)
	}
}

func testLists(t *testing.T, r Rig) {
	wantList(t, r.Bucket, "")
	wantList(t, r.Bucket, "never/there")
	all := []string{"app-1/0/5/x", "app-1/0/6/y", "app-1/1/5/x", "app-10/0/5/x", "app-2"}
	for i, key := range all {
		r.put(t, key, Bytes(0, 100+i))
	}
	wantList(t, r.Other, "", all...)
	wantList(t, r.Other, "app-1/", all[:3]...)
	wantList(t, r.Other, "app-1", all[:4]...)
	wantList(t, r.Other, "app-1/0/", all[:2]...)
	wantList(t, r.Other, "app-1/0/5/x", all[0])
	wantList(t, r.Other, "app-3")
	for i, key := range all {
		err := r.Other.List(within(t), key, func(o bucket.Object) error {
			if o.Key == key && o.Size != int64(100+i) || o.Modified.IsZero() {
				return fmt.Errorf("%+v", o)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	enough, calls := errors.New("enough"), 0
	err := r.Bucket.List(within(t), "", func(bucket.Object) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls, want the first error that was returned", err, calls)
	}
}

// testListsMany needs more than one page of every storage.
func testListsMany(t *testing.T, r Rig) {
	const many = 1050
	var g errgroup.Group
	g.SetLimit(16)
	var keys []string
	ctx := within(t)
	for i := range many {
		key := fmt.Sprintf("app-1/%d/%d/x", i%3, i)
		keys = append(keys, key)
		g.Go(func() error { return r.Bucket.Put(ctx, key, bytes.NewReader([]byte("x")), bucket.PutOptions{}) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantList(t, r.Bucket, "app-1/", keys...)
	enough, calls := errors.New("enough"), 0
	err := r.Bucket.List(within(t), "", func(bucket.Object) error {
		if calls++; calls == many-1 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || calls != many-1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
