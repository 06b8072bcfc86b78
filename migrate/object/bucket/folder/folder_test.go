package folder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/buckettest"
)

func open(t *testing.T, dir string) *Bucket {
	t.Helper()
	place, err := bucket.Parse("file://" + dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), Options{Place: place})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConforms(t *testing.T) {
	buckettest.Conform(t, func(t *testing.T) buckettest.Rig {
		dir := t.TempDir()
		return buckettest.Rig{
			Bucket: open(t, dir), Other: open(t, dir), Large: 3 << 20,
			Leftovers: func() []string {
				left, _ := filepath.Glob(filepath.Join(dir, tempDir, "*"))
				return left
			},
		}
	})
}

func kind(t *testing.T, what string, err error, want bucket.Kind) {
	t.Helper()
	if err == nil || bucket.KindOf(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func put(t *testing.T, b *Bucket, key string) error {
	t.Helper()
	return b.Put(t.Context(), key, bytes.NewReader([]byte("new")), bucket.PutOptions{})
}

// TestLinks: what a hostile user of the shared folder puts there leads nowhere.
func TestLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"file": secret, "folder": outside, "up": "..", "inner": "real"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, dir)
	if err := put(t, b, "real"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"file", "inner"} {
		_, err := b.Get(t.Context(), key, 0, -1)
		kind(t, "get "+key, err, bucket.NotFound)
		_, err = b.Stat(t.Context(), key)
		kind(t, "stat "+key, err, bucket.NotFound)
	}
	for _, key := range []string{"folder/secret", "up/x", "folder/new/x"} {
		if _, err := b.Get(t.Context(), key, 0, -1); err == nil {
			t.Errorf("get %s: no error", key)
		}
		if err := put(t, b, key); err == nil {
			t.Errorf("put %s: no error", key)
		}
		if err := b.Delete(t.Context(), key); err == nil {
			t.Errorf("delete %s: no error", key)
		}
	}
	if err := put(t, b, "file"); err != nil {
		t.Errorf("a link is replaced by an object: %v", err)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "old" {
		t.Errorf("the file outside: %q, %v", got, err)
	}
	var keys []string
	err := b.List(t.Context(), "", func(o bucket.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil || len(keys) != 2 {
		t.Errorf("%q, %v", keys, err)
	}
}

func TestTakenNames(t *testing.T) {
	b := open(t, t.TempDir())
	if err := put(t, b, "a/b"); err != nil {
		t.Fatal(err)
	}
	kind(t, "a folder's name", put(t, b, "a"), bucket.Misplaced)
	kind(t, "a file as folder", put(t, b, "a/b/c"), bucket.Misplaced)
	kind(t, "a temporary name", put(t, b, tempDir+"/x"), bucket.Misplaced)
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"file://" + filepath.Join(t.TempDir(), "none"), "file://" + file, "file://host/x", "file:///"} {
		place, err := bucket.Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), Options{Place: place})
		kind(t, url, err, bucket.Misplaced)
	}
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	kind(t, "the folder was removed", put(t, b, "a"), bucket.Misplaced)
}

// TestSweep: what an agent that died left behind goes after a day, what another one is writing stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := put(t, b, "a"); err != nil {
		t.Fatal(err)
	}
	old, fresh := filepath.Join(dir, tempDir, "old"), filepath.Join(dir, tempDir, "fresh")
	for _, f := range []string{old, fresh} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * tempAge)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("fresh: %v", err)
	}
}

// TestGivenUp: a call may be given up at any moment; what it was doing goes on and harms nothing, and what it gets later
// is closed.
func TestGivenUp(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	for i := range 600 { // more than a page
		if err := put(t, b, fmt.Sprintf("a/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	given := 0
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%50)*20*time.Microsecond)
		if err := b.List(ctx, "a/", func(bucket.Object) error { return nil }); err != nil {
			given++
		}
		r, err := b.Get(ctx, "a/1", 0, -1)
		if err == nil {
			err = r.Close()
		}
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		cancel()
	}
	if given == 0 {
		t.Error("no call was given up")
	}
	if err := b.busy.Acquire(t.Context(), maxBusy); err != nil { // what was given up has ended
		t.Fatal(err)
	}
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, _ := os.Readlink(f); strings.HasPrefix(to, filepath.Join(dir, "a")) {
			t.Errorf("still open: %s", to)
		}
	}
}
