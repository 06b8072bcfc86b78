package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Get opens a part of an object.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	opened := make(chan *reader, 1)
	err := b.do(ctx, "get", key, func(*bucket.Watchdog) error {
		f, size, err := b.openFile(key)
		if err != nil {
			return err
		}
		if length < 0 {
			length = size - offset
		}
		if offset < 0 || length < 0 || offset+length > size {
			f.Close()
			return &bucket.BodyError{Err: fmt.Errorf("%d bytes from %d on are not within the object's %d", length, offset, size)}
		}
		opened <- &reader{b: b, ctx: ctx, key: key, file: f, section: io.NewSectionReader(f, offset, length), left: length}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return <-opened, nil
}

// openFile opens a regular file that is no link.
func (b *Bucket) openFile(key string) (*os.File, int64, error) {
	before, err := b.root.Lstat(key)
	if err != nil {
		return nil, 0, err
	}
	if !before.Mode().IsRegular() {
		return nil, 0, fs.ErrNotExist
	}
	f, err := b.root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// reader reads a file, whose end is an error when it comes early.
type reader struct {
	b       *Bucket
	ctx     context.Context // of the Get
	key     string
	file    *os.File
	section *io.SectionReader
	left    int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, r.b.place.Fail("get", r.key, bucket.Unavailable, err)
	}
	n, err := r.section.Read(p)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left == 0 {
		return n, io.EOF
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, r.b.place.Fail("get", r.key, kindOf(err), err)
}

func (r *reader) Close() error { return r.file.Close() }

// List walks the folders that can hold keys with the prefix.
func (b *Bucket) List(ctx context.Context, prefix string, each func(bucket.Object) error) error {
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
	}
	if dir != "" {
		if err := bucket.CheckKey(dir); err != nil {
			return b.place.Fail("list", prefix, bucket.Misplaced, err)
		}
	}
	return b.walk(ctx, dir, prefix, each)
}

// walk goes through one folder, page by page, and down into those in it.
func (b *Bucket) walk(ctx context.Context, dir, prefix string, each func(bucket.Object) error) error {
	opened := make(chan *os.File, 1)
	err := b.run(ctx, "list", prefix, func(*bucket.Watchdog) error {
		f, err := b.root.Open(path.Join(".", dir))
		if err == nil {
			opened <- f
		}
		return err
	})
	if bucket.KindOf(err) == bucket.NotFound && err != nil {
		return nil // removed meanwhile, or never there
	}
	if err != nil {
		return err
	}
	f := <-opened
	defer f.Close()
	for {
		page, err := b.page(ctx, f, dir, prefix)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, e := range page {
			if err := b.visit(ctx, e, prefix, each); err != nil {
				return err
			}
		}
	}
}

func (b *Bucket) visit(ctx context.Context, e entry, prefix string, each func(bucket.Object) error) error {
	switch {
	case e.folder && (strings.HasPrefix(e.Key+"/", prefix) || strings.HasPrefix(prefix, e.Key+"/")):
		return b.walk(ctx, e.Key, prefix, each)
	case !e.folder && strings.HasPrefix(e.Key, prefix):
		return each(e.Object)
	}
	return nil
}

// entry is an object, or a folder of which only the key is known.
type entry struct {
	bucket.Object
	folder bool
}

// page reads some entries; none are left when it is empty.
func (b *Bucket) page(ctx context.Context, f *os.File, dir, prefix string) ([]entry, error) {
	const entries = 512
	read := make(chan []entry, 1)
	err := b.run(ctx, "list", prefix, func(*bucket.Watchdog) error {
		for {
			names, err := f.ReadDir(entries)
			if len(names) == 0 {
				read <- nil
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if page := known(dir, names); len(page) > 0 {
				read <- page
				return nil
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return <-read, nil
}

// known leaves out what is no part of the bucket: links, special files, temporary ones, and names that are no keys.
func known(dir string, names []fs.DirEntry) []entry {
	var page []entry
	for _, n := range names {
		key := path.Join(dir, n.Name())
		if hidden(key) || bucket.CheckKey(key) != nil {
			continue
		}
		if n.IsDir() {
			page = append(page, entry{bucket.Object{Key: key}, true})
			continue
		}
		if st, err := n.Info(); err == nil && st.Mode().IsRegular() {
			page = append(page, entry{object(key, st), false})
		}
	}
	return page
}
