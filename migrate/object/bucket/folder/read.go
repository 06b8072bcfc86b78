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
	"sync/atomic"
	"syscall"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Get opens a part of an object.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := b.check("get", key); err != nil {
		return nil, err
	}
	r, err := get(ctx, b, "get", key, func(*bucket.Watchdog) (*reader, error) {
		f, size, err := b.openFile(key)
		if err != nil {
			return nil, err
		}
		if length < 0 {
			length = size - offset
		}
		if offset < 0 || length < 0 || offset+length > size {
			f.Close()
			return nil, &bucket.BodyError{Err: fmt.Errorf("%d bytes from %d on are not within the object's %d", length, offset, size)}
		}
		return &reader{b: b, ctx: ctx, key: key, file: f, section: io.NewSectionReader(f, offset, length), left: length}, nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
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
	f, err := get(ctx, b, "list", prefix, func(*bucket.Watchdog) (*os.File, error) {
		return b.root.Open(path.Join(".", dir))
	})
	if bucket.KindOf(err) == bucket.NotFound && err != nil {
		return nil // removed meanwhile, or never there
	}
	if err != nil {
		return err
	}
	pages := newPages(f)
	defer pages.release()
	for {
		page, err := b.page(ctx, pages, dir, prefix)
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

// pages is a folder that is read. Its file is closed by whoever lets go of it last: a read that was given up may still go on.
type pages struct {
	file  *os.File
	users atomic.Int32
}

func newPages(f *os.File) *pages {
	p := &pages{file: f}
	p.users.Store(1)
	return p
}

// hold is false when nobody wants the folder any more.
func (p *pages) hold() bool {
	for {
		n := p.users.Load()
		if n == 0 {
			return false
		}
		if p.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (p *pages) release() {
	if p.users.Add(-1) == 0 {
		p.file.Close()
	}
}

// page reads some entries; none are left when it is empty.
func (b *Bucket) page(ctx context.Context, p *pages, dir, prefix string) ([]entry, error) {
	const entries = 512
	return get(ctx, b, "list", prefix, func(*bucket.Watchdog) ([]entry, error) {
		if !p.hold() {
			return nil, fs.ErrClosed
		}
		defer p.release()
		for {
			names, err := p.file.ReadDir(entries)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if len(names) == 0 {
				return nil, err
			}
			if page := known(dir, names); len(page) > 0 {
				return page, nil
			}
		}
	})
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
