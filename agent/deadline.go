package agent

import (
	"context"
	"sync"
	"time"
)

// movable is a context whose deadline can still come nearer: a second notice for the same node may
// name an earlier moment than the first.
type movable struct {
	context.Context
	mu    sync.Mutex
	at    time.Time
	timer *time.Timer
	done  chan struct{}
	err   error
}

// withMovable derives a context that ends at the given moment, with its parent, or by cancel.
func withMovable(parent context.Context, at time.Time) (*movable, context.CancelFunc) {
	m := &movable{Context: parent, at: at, done: make(chan struct{})}
	m.mu.Lock() // a deadline that has passed ends it at once, which needs the timer
	m.timer = time.AfterFunc(time.Until(at), func() { m.end(context.DeadlineExceeded) })
	m.mu.Unlock()
	stop := context.AfterFunc(parent, func() { m.end(parent.Err()) })
	return m, func() {
		stop()
		m.end(context.Canceled)
	}
}

// Advance brings the deadline forward; a later one changes nothing. It reports whether it did.
func (m *movable) Advance(at time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !at.Before(m.at) || m.err != nil {
		return false
	}
	m.at = at
	m.timer.Reset(time.Until(at))
	return true
}

// Deadline is where the deadline stands now.
func (m *movable) Deadline() (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at, true
}

func (m *movable) Done() <-chan struct{} { return m.done }

func (m *movable) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *movable) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.err = err
	m.timer.Stop()
	close(m.done)
}
