package object

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// gate says how many puts may be under way. When the storage asks for fewer it lets nobody in for a while, and then
// half as many; each success gives a little of it back. So a storage that throttles gets the rate that it bears.
type gate struct {
	most int

	mu    sync.Mutex
	limit float64
	busy  int
	until time.Time     // nobody is let in before
	pause time.Duration // the last one; 0 after a success
	freed chan struct{} // closed, and made anew, when somebody may be let in
}

const (
	firstPause = 200 * time.Millisecond
	// longestPause caps also what a storage asks for: a rescue has two minutes.
	longestPause = 10 * time.Second
)

func newGate(most int) *gate {
	return &gate{most: most, limit: float64(most), freed: make(chan struct{})}
}

// enter waits for its turn; the error is that of ctx.
func (g *gate) enter(ctx context.Context) error {
	for {
		wait, freed, ok := g.ask()
		if ok {
			if ctx.Err() == nil {
				return nil
			}
			g.leave(ctx.Err())
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-freed:
		case <-timer:
		}
	}
}

// ask takes a turn, or says when to ask again: after a time, or when somebody has left.
func (g *gate) ask() (wait time.Duration, freed <-chan struct{}, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait = time.Until(g.until); wait > 0 {
		return wait, nil, false
	}
	if g.busy < int(g.limit) {
		g.busy++
		return 0, nil, true
	}
	return 0, g.freed, false
}

// leave gives a turn back with what came of it.
func (g *gate) leave(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
	switch {
	case err == nil:
		g.pause = 0
		g.limit = min(g.limit+1/g.limit, float64(g.most))
	case bucket.KindOf(err) == bucket.Throttled:
		g.slow(err)
	}
	close(g.freed)
	g.freed = make(chan struct{})
}

// slow begins a pause. The failures of puts that were under way together count once.
func (g *gate) slow(err error) {
	if time.Now().Before(g.until) {
		return
	}
	g.limit = max(g.limit/2, 1)
	g.pause = min(max(2*g.pause, firstPause), longestPause)
	d := g.pause + rand.N(g.pause/4)
	var asked *bucket.Error
	if errors.As(err, &asked) {
		d = max(d, min(asked.RetryAfter, longestPause))
	}
	g.until = time.Now().Add(d)
}
