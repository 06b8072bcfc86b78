package wire

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Dialer makes connections. Authentication and TLS come in here.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Body is what an upload carries. Reads at different offsets may run at the same time. A body that is
// also a syscall.Conn (as a pinned file is) goes to a TCP connection without passing through the heap.
type Body interface {
	io.ReaderAt
	// Size is the number of bytes to send.
	Size() int64
}

// Options of a connection. The zero value means the defaults.
type Options struct {
	// Stall is how long nothing may leave and nothing arrive while an answer is due, before the
	// connection is closed with ErrStalled. Default 15 s: a peer acknowledges only after the driver
	// answered it, so a driver that pauses for garbage collection looks like a stall.
	Stall time.Duration
	// MaxReply is the largest answer accepted, in bytes. Default 16 MiB: the list of a big
	// application's executors fits.
	MaxReply int
}

const (
	defaultStall    = 15 * time.Second
	defaultMaxReply = 16 << 20
	// drainTime is how long answers are still read after writing has failed: an executor that refuses
	// an upload says why and closes at once.
	drainTime = time.Second
)

func (o Options) withDefaults() Options {
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	if o.MaxReply <= 0 {
		o.MaxReply = defaultMaxReply
	}
	return o
}

// Conn is one connection to a block manager or driver. Many requests may run at the same time: their
// frames are written one after the other, and answers find their requests by id. Block managers handle
// the uploads of one connection one after another, so several connections are faster than one.
type Conn struct {
	nc       net.Conn
	opts     Options
	raw      syscall.RawConn // the socket, when sendfile can write to it; otherwise nil
	epoch    time.Time
	progress atomic.Int64 // when a byte last moved, in nanoseconds since epoch
	lastID   atomic.Int64
	frames   framePool

	// writer is the right to write frames: a channel, so that waiting for it can end with a context.
	writer chan struct{}

	mu      sync.Mutex
	pending map[int64]chan answer
	left    int   // what unsent was at the last look
	broken  error // why writing has failed: answers are read for drainTime more
	err     error // why the connection has ended

	done       chan struct{} // closed when err is set
	readerDone chan struct{}
}

type answer struct {
	payload []byte
	err     error
}

// Address is what to dial for a host and port. Spark writes IPv6 addresses with brackets and wants them so
// in its own messages; the host may be given with or without.
func Address(host string, port int) string {
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// Dial connects to host:port. ctx bounds only the dialling.
func Dial(ctx context.Context, d Dialer, addr string, o Options) (*Conn, error) {
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("dial %s: %w", addr, ContextError(ctx))
		}
		return nil, err
	}
	return NewConn(nc, o), nil
}

// NewConn speaks over a connection that exists already, and owns it from here on.
func NewConn(nc net.Conn, o Options) *Conn {
	c := &Conn{
		nc:         nc,
		opts:       o.withDefaults(),
		epoch:      time.Now(),
		writer:     make(chan struct{}, 1),
		pending:    make(map[int64]chan answer),
		done:       make(chan struct{}),
		readerDone: make(chan struct{}),
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	_ = c.nc.SetReadDeadline(c.epoch.Add(c.opts.Stall / looks)) // the watchdog's first look
	go c.read()
	return c
}

// Call sends an RPC and returns the payload of its answer. A failure reported by the other side is a
// *RemoteError. When ctx ends while the answer is awaited, Call returns at once and the connection lives on.
func (c *Conn) Call(ctx context.Context, body []byte) ([]byte, error) {
	id := c.lastID.Add(1)
	if len(body) > inlineBody {
		return c.roundTrip(ctx, id, appendRPCHead(c.frames.get(), TypeRPCRequest, id, len(body)), bytes.NewReader(body))
	}
	return c.roundTrip(ctx, id, RPCRequest{ID: id, Body: body}.Append(c.frames.get()), nil)
}

// Upload streams a block and returns the payload of the acknowledgement, which comes after the block is
// stored (and, for an index, after the driver was told). meta is what UploadBlockStream returns; a nil body
// has no bytes. A failure reported by the other side is a *RemoteError; the other side then closes the
// connection in most cases.
//
// When ctx ends while the answer is awaited, Upload returns at once and the connection lives on; in the
// middle of the body the connection is closed. It is closed too by the *BodyError of a large body.
func (c *Conn) Upload(ctx context.Context, meta []byte, body Body) ([]byte, error) {
	var size int64
	if body != nil {
		size = body.Size()
	}
	if size < 0 {
		return nil, &BodyError{Err: fmt.Errorf("size of %d bytes", size)}
	}
	id := c.lastID.Add(1)
	frame := UploadStream{ID: id, Meta: meta, Length: size}.Append(c.frames.get())
	switch {
	case size == 0:
		body = nil
	case size <= inlineBody:
		// Read before anything is written: a bad file costs no connection, a slow disk blocks no writer.
		head := len(frame)
		frame = append(frame, make([]byte, size)...)
		if err := readBody(body, frame[head:], 0); err != nil {
			c.frames.put(frame)
			return nil, err
		}
		body = nil
	}
	return c.roundTrip(ctx, id, frame, body)
}

// roundTrip writes one frame, which goes back to the pool, with the streamed body if there is one, and
// waits for the answer.
func (c *Conn) roundTrip(ctx context.Context, id int64, frame []byte, body Body) ([]byte, error) {
	due, err := c.expect(ctx, id)
	if err != nil {
		c.frames.put(frame)
		return nil, err
	}
	defer c.forget(id)
	whole, err := c.write(ctx, due, frame, body)
	c.frames.put(frame)
	if err != nil {
		return nil, err
	}
	a := c.await(ctx, due)
	if !whole && a.err == nil {
		return nil, fmt.Errorf("%w: acknowledged before it was sent", ErrProtocol)
	}
	return a.payload, a.err
}

// await waits for an answer.
func (c *Conn) await(ctx context.Context, due <-chan answer) (a answer) {
	select {
	case a = <-due:
		return a
	case <-ctx.Done():
		a.err = ContextError(ctx)
	case <-c.done:
		a.err = c.Err()
	}
	select {
	case a = <-due: // it came at the same moment
	default:
	}
	return a
}

// expect makes an answer due.
func (c *Conn) expect(ctx context.Context, id int64) (chan answer, error) {
	if ctx.Err() != nil {
		return nil, ContextError(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmp.Or(c.err, c.broken); err != nil {
		return nil, err
	}
	if len(c.pending) == 0 {
		c.touch() // idle time before the first request is no stall
	}
	due := make(chan answer, 1)
	c.pending[id] = due
	return due, nil
}

// forget drops an answer that nobody awaits any more. A connection that only drained answers then ends.
func (c *Conn) forget(id int64) {
	c.mu.Lock()
	delete(c.pending, id)
	var over error
	if len(c.pending) == 0 {
		over = c.broken
	}
	c.mu.Unlock()
	if over != nil {
		c.fail(over)
	}
}

// touch notes that a byte moved.
func (c *Conn) touch() { c.progress.Store(int64(time.Since(c.epoch))) }

// Done is closed when the connection has ended and nothing more will be answered; Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the connection takes requests. It may say so a moment before Done is closed, while
// answers still arrive.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.err, c.broken)
}

// Close ends the connection and all its requests with ErrClosed. It returns when nothing of the
// connection runs any more.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	<-c.readerDone
	return nil
}

// fail ends the connection for the first reason that is given.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		close(c.done)
	}
	c.mu.Unlock()
	if first {
		c.nc.Close()
	}
}
