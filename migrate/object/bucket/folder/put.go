package folder

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const (
	// tempDir holds files that are being written; it is no part of the bucket.
	tempDir = ".lifeboat-tmp"
	// tempAge is after what time a file there was left behind by an agent that died.
	tempAge = 24 * time.Hour
	// copyBuffer is how much of a body is in memory at once, in bytes.
	copyBuffer = 256 << 10
)

var errTaken = errors.New("a folder has this name, or a file the name of one of its folders")

func hidden(key string) bool { return key == tempDir || strings.HasPrefix(key, tempDir+"/") }

// Put writes a temporary file, has it on the disk, and then gives it its name.
func (b *Bucket) Put(ctx context.Context, key string, body bucket.Body, o bucket.PutOptions) error {
	return b.do(ctx, "put", key, func(w *bucket.Watchdog) error {
		temp := tempDir + "/" + rand.Text()
		if err := b.mkdir(tempDir); err != nil {
			return err
		}
		defer func() { _ = b.root.Remove(temp) }() // mostly renamed by then
		if err := b.write(w, temp, body); err != nil {
			return err
		}
		return b.name(w, temp, key, o)
	})
}

func (b *Bucket) write(w *bucket.Watchdog, temp string, body bucket.Body) error {
	f, err := b.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	size := body.Size()
	source := w.Body(body)
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, source.Section(0, size), make([]byte, min(max(size, 1), copyBuffer)))
	if failed := source.Err(); failed != nil && w.Context().Err() == nil {
		return &bucket.BodyError{Err: failed}
	}
	if err != nil {
		return err
	}
	b.owner.take(f)
	if err := f.Sync(); err != nil {
		return err
	}
	w.Moved()
	return f.Close()
}

// name makes the file visible. The folder is made anew when a Delete has just removed it as empty.
func (b *Bucket) name(w *bucket.Watchdog, temp, key string, o bucket.PutOptions) error {
	const tries = 5
	dir := path.Dir(key)
	for try := 1; ; try++ {
		err := b.mkdir(dir)
		if err == nil {
			if err := w.Context().Err(); err != nil {
				return err
			}
			err = b.move(temp, key, o)
		}
		switch {
		case err == nil:
			return b.sync(dir)
		case errors.Is(err, fs.ErrNotExist) && try < tries:
		case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTEMPTY):
			return fmt.Errorf("%w (%w)", errTaken, err)
		default:
			return err
		}
	}
}

// move renames, or links where the name must be a new one: unlike a rename a link never replaces.
func (b *Bucket) move(temp, key string, o bucket.PutOptions) error {
	if o.IfAbsent {
		return b.root.Link(temp, key)
	}
	if st, err := b.root.Lstat(key); err == nil && st.IsDir() {
		return syscall.EISDIR
	}
	return b.root.Rename(temp, key)
}

// mkdir makes a folder with those above it, all of the root's owner.
func (b *Bucket) mkdir(dir string) error {
	if dir == "." {
		return nil
	}
	err := b.root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.mkdir(path.Dir(dir)); err != nil {
			return err
		}
		err = notThere(b.root.Mkdir(dir, 0o755))
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		b.owner.give(b.root, dir)
	}
	return err
}

// sync makes a name as durable as what it names.
func (b *Bucket) sync(dir string) error {
	f, err := b.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // already deleted again
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems sync no folders
		return err
	}
	return nil
}

// owner is who owns the root: Spark's user, who has to read what is stored, and to remove it.
type owner struct {
	uid, gid int
	known    bool
}

func ownerOf(root *os.Root) owner {
	st, err := root.Stat(".")
	if err != nil || os.Geteuid() != 0 {
		return owner{}
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{}
	}
	return owner{int(sys.Uid), int(sys.Gid), true}
}

// take and give change who owns a file or folder. A file system that knows no owners refuses, and needs none.
func (o owner) take(f *os.File) {
	if o.known {
		_ = f.Chown(o.uid, o.gid)
	}
}

func (o owner) give(root *os.Root, name string) {
	if o.known {
		_ = root.Lchown(name, o.uid, o.gid)
	}
}

// sweep removes what agents that died had not finished.
func sweep(ctx context.Context, root *os.Root) {
	const most = 1000
	dir, err := root.Open(tempDir)
	if err != nil {
		return
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(most) // what is left out is removed at another time
	for _, e := range entries {
		st, err := e.Info()
		if ctx.Err() == nil && err == nil && st.Mode().IsRegular() && time.Since(st.ModTime()) > tempAge {
			_ = root.Remove(tempDir + "/" + e.Name())
		}
	}
}
