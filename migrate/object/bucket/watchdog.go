package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// Body is a body whose reads count as progress.
func (w *Watchdog) Body(b io.ReaderAt) io.ReaderAt { return watched{w, b} }

type watched struct {
	w *Watchdog
	b io.ReaderAt
}

func (x watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := x.b.ReadAt(p, off)
	if n > 0 {
		x.w.Moved()
	}
	return n, err
}
