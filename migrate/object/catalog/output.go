package catalog

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// stall is how long one read from the bucket may take.
const stall = 15 * time.Second

// Output is a map output that lies in the bucket, to be read from there until ctx ends. Nothing is asked of the bucket
// before it is read.
func (c *Catalog) Output(ctx context.Context, app string, e Entry, layout Layout) *migrate.Output {
	data, index := layout(e.In(app))
	out := &migrate.Output{
		ID: e.In(app), Executor: e.Executor, Committed: time.UnixMilli(e.Committed),
		Index: &blob{ctx: ctx, bucket: c.bucket, key: index, size: e.Index},
	}
	if e.Data != NoData {
		out.Data = &blob{ctx: ctx, bucket: c.bucket, key: data, size: e.Data}
	}
	return out
}

// blob reads an object. Reads that follow each other, as a copy makes them, are one request.
type blob struct {
	ctx    context.Context // of the salvage, which ends what is still open
	bucket bucket.Bucket
	key    string
	size   int64

	mu     sync.Mutex
	body   io.ReadCloser // nil, or open at the offset at
	cancel context.CancelFunc
	at     int64
}

func (b *blob) Size() int64 { return b.size }

// ReadAt reads as io.ReaderAt says. An object that has gone, or is shorter than the manifest says, is Corrupt.
func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= b.size {
		return 0, io.EOF
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	want := p[:min(int64(len(p)), b.size-off)]
	n, err := b.read(want, off)
	switch {
	case err != nil:
		b.close()
		return n, b.explain(err)
	case b.at == b.size:
		b.close()
	}
	if len(want) < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b *blob) read(p []byte, off int64) (int, error) {
	if b.body == nil || b.at != off {
		b.close()
		ctx, cancel := context.WithCancel(b.ctx)
		timer := time.AfterFunc(stall, cancel)
		body, err := b.bucket.Get(ctx, b.key, off, -1)
		timer.Stop()
		if err != nil {
			cancel()
			return 0, err
		}
		b.body, b.cancel, b.at = body, cancel, off
	}
	timer := time.AfterFunc(stall, b.cancel)
	defer timer.Stop()
	n, err := io.ReadFull(b.body, p)
	b.at += int64(n)
	return n, err
}

func (b *blob) close() {
	if b.body != nil {
		_ = b.body.Close()
		b.cancel()
	}
	b.body = nil
}

func (b *blob) explain(err error) error {
	kind := migrate.Transient
	switch bucket.KindOf(err) {
	case bucket.NotFound, bucket.BadBody:
		kind = migrate.Corrupt
	case bucket.Denied, bucket.Misplaced:
		kind = migrate.Corrupt // no other destination would make it readable
	}
	return &migrate.Error{Op: fmt.Sprintf("read %s/%s", b.bucket.URL(), b.key), Kind: kind, Err: err}
}
