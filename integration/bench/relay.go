package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// relay passes on what a source says and notes when. Between machines it takes a new source.
type relay struct {
	origin
	seen  chan arrival
	again chan struct{}
}

type arrival struct {
	providers.Notice
	at time.Time
}

func newRelay(o origin) *relay {
	return &relay{origin: o, seen: make(chan arrival, 16), again: make(chan struct{})}
}

// Name is the source's.
func (r *relay) Name() string { return r.name }

// Run runs the source, and after each renew a new one. Its notices are another machine's then, with other ids.
func (r *relay) Run(ctx context.Context, to chan<- providers.Notice) error {
	for machine := 0; ; machine++ {
		s, err := r.source()
		if err != nil {
			return err
		}
		life, end := context.WithCancel(ctx)
		from, done := make(chan providers.Notice), make(chan error, 1)
		go func() { done <- s.Run(life, from) }()
		renewed := r.forward(life, from, to, machine)
		end()
		err = <-done
		if !renewed {
			return err
		}
	}
}

// forward passes on until the run ends or, then it returns true, another machine is wanted.
func (r *relay) forward(ctx context.Context, from <-chan providers.Notice, to chan<- providers.Notice, machine int) bool {
	for {
		select {
		case n := <-from:
			if r.machines {
				n.ID = fmt.Sprintf("%s-machine-%d", n.ID, machine)
			}
			if r.rescues {
				// While the deadline of a rescue lies ahead, the agent counts further notices for the node as the
				// same departure. Here each is one of its own.
				n.Deadline = n.Seen.Add(time.Millisecond)
			}
			select {
			case to <- n:
				r.seen <- arrival{n, time.Now()}
			case <-ctx.Done():
				return false
			}
		case <-r.again:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// renew ends the source and begins another.
func (r *relay) renew(ctx context.Context) error {
	select {
	case r.again <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next waits for the next notice of the source that is, or is not, a withdrawal. Others are passed over.
func (r *relay) next(ctx context.Context, withdrawn bool) (providers.Notice, time.Time, error) {
	for {
		select {
		case a := <-r.seen:
			if a.Withdrawn == withdrawn {
				return a.Notice, a.at, nil
			}
		case <-ctx.Done():
			return providers.Notice{}, time.Time{}, fmt.Errorf("the source says nothing: %w", ctx.Err())
		}
	}
}
