package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/migrate/socket"
)

// The reasons why a Watchdog ends a request.
var (
	ErrStalled = errors.New("nothing moved for too long")
	ErrTooSlow = errors.New("the request took too long")
)

// Watchdog bounds one request: it ends it when nothing moves for Settings.Stall, and in any case after
// Settings.Timeout. Against a black hole only a context ends a call of most clients.
type Watchdog struct {
	parent, ctx context.Context
	cancel      context.CancelCauseFunc
	stall       time.Duration
	timeout     time.Duration
	epoch       time.Time
	moved       atomic.Int64 // since epoch, in nanoseconds
	excused     atomic.Int64 // nanoseconds that the body took, not the storage
	all         *time.Timer

	mu     sync.Mutex
	over   bool
	rests  bool
	next   *time.Timer
	conn   syscall.RawConn // that carries the request, over HTTP/1
	unsent int             // at the last look
}

// looks is how often in the time of a stall the connection's buffer is looked at.
const looks = 4

// Watch begins a request. Stop must be called at its end.
func Watch(ctx context.Context, s Settings) *Watchdog {
	s = s.Defaults()
	w := &Watchdog{parent: ctx, stall: s.Stall, timeout: s.Timeout, epoch: time.Now()}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.ctx = httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{GotConn: w.carried})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = time.AfterFunc(w.timeout, w.last)
	w.next = time.AfterFunc(w.stall/looks, w.look)
	return w
}

// carried learns of the connection that a client of net/http has chosen.
func (w *Watchdog) carried(info httptrace.GotConnInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn, w.unsent = socket.Raw(info.Conn), 0
	w.Moved()
}

// look ends the request when nothing has moved for too long, or sets the time of the next look. Bytes that leave this
// machine's buffers move, too.
func (w *Watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.rests {
		w.next.Reset(w.stall / looks)
		return
	}
	unsent := socket.Unsent(w.conn)
	if unsent < w.unsent {
		w.Moved()
	}
	w.unsent = unsent
	idle := time.Since(w.epoch) - time.Duration(w.moved.Load())
	if idle >= w.stall {
		w.cancel(fmt.Errorf("%w (%v)", ErrStalled, w.stall))
		return
	}
	w.next.Reset(min(w.stall-idle, w.stall/looks))
}

// last ends the request when its time is over. What its body took, which may be under a limit of bandwidth, is added.
func (w *Watchdog) last() {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := w.timeout + time.Duration(w.excused.Load()) - time.Since(w.epoch)
	switch {
	case w.over || w.rests:
	case left > 0:
		w.all.Reset(left)
	default:
		w.cancel(fmt.Errorf("%w (%v)", ErrTooSlow, w.timeout))
	}
}

// Context is the request's.
func (w *Watchdog) Context() context.Context { return w.ctx }

// Moved says that there was progress.
func (w *Watchdog) Moved() { w.moved.Store(int64(time.Since(w.epoch))) }

// Rest says that nobody waits for the request now, as between two reads of an answer that is passed on to somebody slower:
// until Wake it can't stall, and from now on it may take any time altogether.
func (w *Watchdog) Rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rests = true
	w.all.Stop()
}

// Wake says that somebody waits for the request again.
func (w *Watchdog) Wake() {
	w.Moved()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rests = false
}

// Stop ends the request's context.
func (w *Watchdog) Stop() {
	w.mu.Lock()
	w.over = true
	w.next.Stop()
	w.mu.Unlock()
	w.all.Stop()
	w.cancel(nil)
}

// Explain says why a request failed: the end of the caller's context as such, whatever a client made of it, and
// the watchdog's own reason without any of context's errors, as it is none of the caller's deadlines.
func (w *Watchdog) Explain(err error) error {
	if err == nil {
		return nil
	}
	if over, cause := w.parent.Err(), context.Cause(w.parent); over != nil {
		if cause == nil || errors.Is(cause, over) {
			return over
		}
		return fmt.Errorf("%w: %w", over, cause)
	}
	if cause := context.Cause(w.ctx); errors.Is(cause, ErrStalled) || errors.Is(cause, ErrTooSlow) {
		return cause
	}
	return err
}

// Body is a body on its way: its reads count as progress, and end with the request.
func (w *Watchdog) Body(b Body) *Source { return &Source{w: w, body: b} }

// Source reads a Body and remembers why it could not be read, which no client passes on reliably.
type Source struct {
	w    *Watchdog
	body Body

	mu  sync.Mutex
	err error
}

// Size is the body's.
func (s *Source) Size() int64 { return s.body.Size() }

// Section is a part of it, as clients want it.
func (s *Source) Section(offset, length int64) *io.SectionReader {
	return io.NewSectionReader(s, offset, length)
}

// ReadAt is io.ReaderAt's.
func (s *Source) ReadAt(p []byte, off int64) (int, error) {
	if err := s.w.ctx.Err(); err != nil {
		return 0, err
	}
	begin := time.Now()
	n, err := s.body.ReadAt(p, off)
	s.w.excused.Add(int64(time.Since(begin)))
	if n > 0 {
		s.w.Moved()
	}
	if n == len(p) {
		return n, nil
	}
	if off+int64(n) >= s.body.Size() && (err == nil || errors.Is(err, io.EOF)) {
		return n, io.EOF
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("it ends after %d bytes of %d: %w", off+int64(n), s.body.Size(), io.ErrUnexpectedEOF)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return n, err
}

// Err is the first error of the body itself.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
