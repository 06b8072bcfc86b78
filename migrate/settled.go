package migrate

import (
	"context"
	"errors"
	"time"
)

// errUnsettled is the verdict as long as there is something to wait for.
var errUnsettled = errors.New("not settled yet")

// Settled returns nil as soon as nothing is queued or in flight, every output being saved or lost, and
// the Observer has heard of it. When work is left but nothing is in flight it returns ErrNoDestination if
// no destination would take any of it (all have gone, are not listed, or refused everything), and
// ErrTooLate if none would be done with any of it before the deadline. Neither is final: the engine
// goes on, more destinations can be listed, and Settled can be called again. It returns ctx's error when
// that ends before.
func (e *Engine) Settled(ctx context.Context) error {
	for {
		changed, verdict := e.ask()
		if !errors.Is(verdict, errUnsettled) {
			return verdict
		}
		select {
		case <-ctx.Done():
			e.unask()
			return ctx.Err()
		case <-changed:
			e.unask()
		}
	}
}

// ask returns the verdict and, if it is errUnsettled, what to wait for before the next question; then
// unask has to follow.
func (e *Engine) ask() (<-chan struct{}, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.verdict()
	if errors.Is(v, errUnsettled) {
		e.waiting++
	}
	return e.changed, v
}

func (e *Engine) unask() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting--
}

// answer wakes the callers of Settled when there may be an answer for them.
func (e *Engine) answer() {
	if e.waiting == 0 || e.busy() {
		return
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

// busy says that it is too early to judge: something is in flight or has not been told yet.
func (e *Engine) busy() bool {
	return e.counts[InFlight].Outputs > 0 || e.phase == running && (e.delivering || len(e.events) > 0)
}

// verdict is what Settled would return now.
func (e *Engine) verdict() error {
	if e.busy() {
		return errUnsettled
	}
	if e.counts[Queued].Outputs == 0 {
		return nil
	}
	e.judge(time.Now())
	verdict := ErrNoDestination
	for _, l := range e.queue.lanes {
		verdict = e.prospect(verdict, l.ranks, l.root.least)
	}
	for _, it := range e.delayed {
		verdict = e.prospect(verdict, string(e.ranks(it)), it.bytes)
	}
	if !errors.Is(verdict, errUnsettled) && e.makeDo() {
		e.poke()
		return errUnsettled // until the Observer has heard of it
	}
	return verdict
}

// prospect improves a verdict by what can be done for an output of so many bytes.
func (e *Engine) prospect(verdict error, ranks string, bytes int64) error {
	for i, p := range e.places {
		if ranks[i] == never || !p.usable() || p.refusing() {
			continue
		}
		if bytes <= p.limit {
			return errUnsettled
		}
		if errors.Is(verdict, ErrNoDestination) {
			verdict = ErrTooLate
		}
	}
	return verdict
}
