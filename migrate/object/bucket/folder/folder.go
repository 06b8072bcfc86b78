// Package folder is a bucket in a file system that all nodes share, under file:///folder: what Spark's fallback
// storage takes as well, and what tests use where no server is wanted.
package folder

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Options of a folder.
type Options struct {
	Place    bucket.Place // of the scheme file, without authority
	Settings bucket.Settings
}

// Bucket is a bucket.Bucket. Nothing that it does leads out of its folder: symbolic links are never objects,
// and folders that are links are followed only within it.
type Bucket struct {
	place    bucket.Place
	settings bucket.Settings
	root     *os.Root
	owner    owner
	busy     *semaphore.Weighted // a file system that hangs must not collect threads without end
}

var _ bucket.Bucket = (*Bucket)(nil)

// maxBusy is how many operations may be under way, those given up included.
const maxBusy = 64

// Open opens the folder, which must exist: a path that was mistyped or is not mounted must not fill another disk.
func Open(ctx context.Context, o Options) (*Bucket, error) {
	b := &Bucket{place: o.Place, settings: o.Settings, busy: semaphore.NewWeighted(maxBusy)}
	if o.Place.Authority != "" || o.Place.Prefix == "" {
		return nil, b.place.Fail("open", "", bucket.Misplaced, errors.New("want file:///folder"))
	}
	root, err := get(ctx, b, "open", "", func(w *bucket.Watchdog) (*os.Root, error) {
		st, err := os.Stat("/" + o.Place.Prefix)
		if err != nil {
			return nil, notThere(err)
		}
		if !st.IsDir() {
			return nil, errNoFolder
		}
		root, err := os.OpenRoot("/" + o.Place.Prefix)
		if err != nil {
			return nil, notThere(err)
		}
		sweep(w.Context(), root)
		return root, nil
	})
	if err != nil {
		return nil, err
	}
	b.root = root
	b.owner = ownerOf(b.root)
	return b, nil
}

// URL is file:///folder.
func (b *Bucket) URL() string { return b.place.String() }

// Close lets go of the folder.
func (b *Bucket) Close() error { return b.root.Close() }

// Stat says what is known of one object.
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Object, error) {
	if err := b.check("stat", key); err != nil {
		return bucket.Object{}, err
	}
	return get(ctx, b, "stat", key, func(*bucket.Watchdog) (bucket.Object, error) {
		st, err := b.root.Lstat(key)
		switch {
		case err != nil:
			return bucket.Object{}, err
		case !st.Mode().IsRegular():
			return bucket.Object{}, fs.ErrNotExist
		}
		return object(key, st), nil
	})
}

func object(key string, st fs.FileInfo) bucket.Object {
	return bucket.Object{Key: key, Size: st.Size(), Modified: st.ModTime()}
}

// Delete removes one object, and the folders that are then empty.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return b.do(ctx, "delete", key, func(w *bucket.Watchdog) error {
		err := b.remove(w, key)
		if kindOf(err) == bucket.NotFound {
			err = nil
		}
		for dir := path.Dir(key); err == nil && dir != "."; dir = path.Dir(dir) {
			if w.Context().Err() != nil || b.root.Remove(dir) != nil {
				break // not empty
			}
		}
		return err
	})
}

func (b *Bucket) remove(w *bucket.Watchdog, key string) error {
	st, err := b.root.Lstat(key)
	if err != nil || st.IsDir() {
		return err
	}
	if err := w.Context().Err(); err != nil {
		return err
	}
	return b.root.Remove(key)
}

// do is run for a key, which it checks.
func (b *Bucket) do(ctx context.Context, op, key string, f func(*bucket.Watchdog) error) error {
	if err := b.check(op, key); err != nil {
		return err
	}
	return b.run(ctx, op, key, f)
}

// check says whether an object can have this key.
func (b *Bucket) check(op, key string) error {
	err := bucket.CheckKey(key)
	if err == nil && hidden(key) {
		err = errors.New("the name is taken for temporary files")
	}
	if err != nil {
		return b.place.Fail(op, key, bucket.Misplaced, err)
	}
	return nil
}

// get is run with a result. One that comes when it was given up belongs to nobody and is closed, if it can be.
func get[T any](ctx context.Context, b *Bucket, op, key string, f func(*bucket.Watchdog) (T, error)) (T, error) {
	const (
		open = iota
		taken
		givenUp
	)
	var state atomic.Int32
	var result T
	err := b.run(ctx, op, key, func(w *bucket.Watchdog) error {
		got, err := f(w)
		if err != nil {
			return err
		}
		result = got
		if !state.CompareAndSwap(open, taken) {
			discard(got)
		}
		return nil
	})
	if err == nil {
		return result, nil
	}
	if !state.CompareAndSwap(open, givenUp) { // it came at the same moment
		discard(result)
	}
	var none T
	return none, err
}

func discard(v any) {
	if c, ok := v.(io.Closer); ok {
		c.Close()
	}
}

// run calls f in a goroutine, as a hanging file system can't be interrupted: it is given up when ctx ends or nothing
// moves for too long. The watchdog's context is over then, and f must not change anything any more.
func (b *Bucket) run(ctx context.Context, op, key string, f func(*bucket.Watchdog) error) error {
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	if err := b.busy.Acquire(w.Context(), 1); err != nil {
		return b.place.Fail(op, key, bucket.Unavailable, w.Explain(err))
	}
	done := make(chan error, 1)
	go func() {
		defer b.busy.Release(1)
		done <- f(w)
	}()
	var err error
	select {
	case err = <-done:
	case <-w.Context().Done():
		err = w.Explain(w.Context().Err())
	}
	return b.place.Fail(op, key, kindOf(err), err)
}
