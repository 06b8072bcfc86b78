package shuffle

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

// handle is a descriptor that is closed when it is no longer wanted and its last user is done. It is
// 8 bytes where an *os.File is some 200: there are two for each map output.
type handle struct {
	fd    int32
	users atomic.Int32 // negative: closed as soon as nobody uses it
}

const handleClosed = math.MinInt32

func (h *handle) acquire() bool {
	for {
		n := h.users.Load()
		if n < 0 {
			return false
		}
		if h.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release reports whether this was the end of the descriptor.
func (h *handle) release() bool {
	if h.users.Add(-1) != handleClosed {
		return false
	}
	unix.Close(int(h.fd))
	return true
}

// close reports the same as release.
func (h *handle) close() bool {
	for {
		n := h.users.Load()
		if n < 0 {
			return false
		}
		if !h.users.CompareAndSwap(n, n|handleClosed) {
			continue
		}
		if n > 0 {
			return false
		}
		unix.Close(int(h.fd))
		return true
	}
}

// output is what the store keeps of a map output that it has returned.
type output struct {
	migrate.Output
	index, data blob
}

func (o *output) key() key { return key{int32(o.ID.Shuffle), o.ID.Map} }

// blob is one file of an output: a migrate.Blob and a syscall.Conn.
type blob struct {
	handle   // closed from the beginning when the file is not pinned
	out      *output
	at       *bucket
	size     int64
	identity uint64
}

// identity is what must not change between verifying a file and reading it, in 8 bytes.
func (f *folder) identity(st *unix.Stat_t) uint64 {
	return maphash.Comparable(f.seed, [4]int64{int64(st.Dev), int64(st.Ino), st.Size, st.Mtim.Nano()})
}

var (
	_ migrate.Blob = (*blob)(nil)
	_ syscall.Conn = (*blob)(nil)
)

// fill sets everything but the descriptor; the blob is not pinned.
func (b *blob) fill(out *output, at *bucket, st *unix.Stat_t) {
	b.out, b.at, b.size = out, at, st.Size
	b.identity = at.folder.identity(st)
	b.fd = -1
	b.users.Store(handleClosed)
}

func (b *blob) pin(fd int) {
	b.fd = int32(fd)
	b.users.Store(0)
}

// unpin gives the descriptor back, now or when the last reader is done.
func (b *blob) unpin() {
	if b.close() {
		b.at.folder.store.Load().limit.give(1)
	}
}

// Size is the verified length of the file in bytes.
func (b *blob) Size() int64 { return b.size }

// ReadAt reads as io.ReaderAt says, up to the verified size. Errors are of the kind migrate.Corrupt:
// what was verified is no longer there.
func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("shuffle: negative offset")
	}
	if off >= b.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), b.size-off)]
	var n int
	var failed error
	if err := b.use(func(fd int) { n, failed = readFull(fd, want, off) }); err != nil {
		return 0, err
	}
	switch {
	case failed != nil:
		return n, b.corrupt(failed)
	case n < len(want):
		return n, b.corrupt(io.ErrUnexpectedEOF)
	case len(want) < len(p):
		return n, io.EOF
	}
	return n, nil
}

// SyscallConn gives access to the descriptor, for sendfile. Only Control and Read work.
func (b *blob) SyscallConn() (syscall.RawConn, error) { return rawBlob{b}, nil }

// use calls f with a descriptor of the file: the pinned one, or one opened for this call.
func (b *blob) use(f func(fd int)) error {
	if b.acquire() {
		defer func() {
			if b.release() {
				b.at.folder.store.Load().limit.give(1)
			}
		}()
		f(int(b.fd))
		return nil
	}
	folder := b.at.folder
	if folder.store.Load().closed.Load() {
		return fmt.Errorf("%v: %w", b.name(), os.ErrClosed)
	}
	if !folder.acquire() {
		return b.corrupt(errors.New("its folder was removed"))
	}
	defer folder.release()
	fd, st, err := openRegular(int(folder.fd), b.at.path(b.name()))
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return &migrate.Error{Op: "open " + b.name().String(), Kind: migrate.Transient, Err: err}
	}
	if err != nil {
		return b.corrupt(err)
	}
	defer unix.Close(fd)
	if folder.identity(&st) != b.identity {
		return b.corrupt(errors.New("it has changed since it was verified"))
	}
	f(fd)
	return nil
}

func (b *blob) name() name {
	n := name{mapID: b.out.ID.Map, shuffle: int32(b.out.ID.Shuffle), kind: indexFile}
	if b == &b.out.data {
		n.kind = dataFile
	}
	return n
}

func (b *blob) corrupt(err error) error {
	return &migrate.Error{Op: "read " + b.name().String() + " in " + b.at.folder.name, Kind: migrate.Corrupt, Err: err}
}

type rawBlob struct{ b *blob }

func (r rawBlob) Control(f func(fd uintptr)) error {
	return r.b.use(func(fd int) { f(uintptr(fd)) })
}

// Read calls f once: a regular file is always ready.
func (r rawBlob) Read(f func(fd uintptr) bool) error {
	ready := false
	if err := r.b.use(func(fd int) { ready = f(uintptr(fd)) }); err != nil || ready {
		return err
	}
	return errors.New("shuffle: a file can't be waited for")
}

func (r rawBlob) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }
