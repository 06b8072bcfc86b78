package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
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
	quiet, all  *time.Timer
}

// Watch begins a request. Stop must be called at its end.
func Watch(ctx context.Context, s Settings) *Watchdog {
	s = s.Defaults()
	w := &Watchdog{parent: ctx, stall: s.Stall}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.quiet = time.AfterFunc(s.Stall, func() { w.cancel(fmt.Errorf("%w (%v)", ErrStalled, s.Stall)) })
	w.all = time.AfterFunc(s.Timeout, func() { w.cancel(fmt.Errorf("%w (%v)", ErrTooSlow, s.Timeout)) })
	return w
}

// Context is the request's.
func (w *Watchdog) Context() context.Context { return w.ctx }

// Moved says that there was progress.
func (w *Watchdog) Moved() { w.quiet.Reset(w.stall) }

// Stop ends the request's context.
func (w *Watchdog) Stop() {
	w.quiet.Stop()
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
	n, err := s.body.ReadAt(p, off)
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
