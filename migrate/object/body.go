package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/lifeboat/lifeboat/migrate"
)

// body is a blob on its way into a bucket. It remembers why it could not be read, which no client of a storage
// passes on reliably, and takes part in the bandwidth that all share.
type body struct {
	ctx     context.Context // of the Put that reads it
	blob    migrate.Blob
	limiter Limiter

	mu  sync.Mutex
	err error
}

// Size is the blob's.
func (b *body) Size() int64 { return b.blob.Size() }

// ReadAt is io.ReaderAt's.
func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if b.limiter != nil {
		if burst := b.limiter.Burst(); burst > 0 && len(p) > burst {
			return b.inPieces(p, off, burst)
		}
		if err := b.limiter.WaitN(b.ctx, len(p)); err != nil {
			return 0, err
		}
	}
	return b.read(p, off)
}

// inPieces reads no more at once than the limiter can allow at once.
func (b *body) inPieces(p []byte, off int64, burst int) (int, error) {
	done := 0
	for done < len(p) {
		n, err := b.ReadAt(p[done:min(len(p), done+burst)], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (b *body) read(p []byte, off int64) (int, error) {
	n, err := b.blob.ReadAt(p, off)
	if n == len(p) || err != nil && errors.Is(err, io.EOF) && off+int64(n) >= b.blob.Size() {
		return n, err
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.fail(err)
	return n, err
}

func (b *body) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

// failure is the first error of reading, as one of migrate's; nil when there was none.
func (b *body) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var known *migrate.Error
	if b.err == nil || errors.As(b.err, &known) {
		return b.err
	}
	return &migrate.Error{Op: fmt.Sprintf("read %d bytes", b.blob.Size()), Kind: migrate.Corrupt, Err: b.err}
}
