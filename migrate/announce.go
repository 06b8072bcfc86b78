package migrate

import (
	"context"
	"errors"
	"sync"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
)

const (
	announceParallel = 8  // destinations that announce at the same time
	announceBatch    = 64 // outputs per call of an Announcer
)

// Announce tells Spark again where the saved outputs lie that pick chooses (nil: all), through those
// destinations that are an Announcer; the others are passed over. ctx bounds the whole. Transient errors
// are tried again. It returns the errors of all destinations together.
func (e *Engine) Announce(ctx context.Context, pick func(Result) bool) error {
	var (
		mu   sync.Mutex
		errs []error
		g    errgroup.Group
	)
	g.SetLimit(announceParallel)
	for p, located := range e.announceable(pick) {
		g.Go(func() error {
			err := e.announce(ctx, p, located)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// announceable groups the picked outputs by place.
func (e *Engine) announceable(pick func(Result) bool) map[*place][]Located {
	saved := map[*place][]Result{}
	e.mu.Lock()
	for _, it := range e.found {
		if it.state != Saved {
			continue
		}
		if _, ok := it.place.dest.(Announcer); ok {
			saved[it.place] = append(saved[it.place], e.result(it))
		}
	}
	e.mu.Unlock()
	located := map[*place][]Located{}
	for p, rs := range saved {
		for _, r := range rs {
			if pick == nil || pick(r) {
				located[p] = append(located[p], Located{Output: r.Output, At: r.Location})
			}
		}
	}
	return located
}

// announce goes through one place's outputs in batches, and stops at the first batch that fails for a
// reason that would meet the next one too.
func (e *Engine) announce(ctx context.Context, p *place, located []Located) error {
	var errs []error
	for len(located) > 0 {
		n := min(announceBatch, len(located))
		batch := located[:n]
		located = located[n:]
		err := e.announceBatch(ctx, p, batch)
		if err == nil {
			continue
		}
		errs = append(errs, err)
		if k := KindOf(err); k == Gone || k == Transient {
			break
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) announceBatch(ctx context.Context, p *place, batch []Located) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		dest, gone := e.destination(p)
		if gone != nil {
			return struct{}{}, backoff.Permanent(gone)
		}
		err := dest.(Announcer).Announce(ctx, batch)
		if err != nil && KindOf(err) != Transient {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(e.o.Backoff.start()), backoff.WithMaxTries(uint(e.o.Attempts)), backoff.WithMaxElapsedTime(0))
	switch {
	case err == nil:
		e.announced(p, batch)
	case KindOf(err) == Gone:
		e.mu.Lock()
		e.drop(p, err)
		e.poke()
		e.mu.Unlock()
	}
	return err
}

// destination is the one to talk to for a place, or the reason why there is none any more.
func (e *Engine) destination(p *place) (Destination, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch _, ok := p.dest.(Announcer); {
	case p.gone != nil:
		return nil, p.gone
	case !p.listed, !ok:
		return nil, &Error{Op: "announce at " + p.target.String(), Kind: Elsewhere, Err: errUnlisted}
	}
	return p.dest, nil
}

// announced remembers that Spark knows.
func (e *Engine) announced(p *place, batch []Located) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range batch {
		if it := e.items[l.Output.ID]; it.state == Saved && it.place == p {
			at := *it.at
			at.Announced = true
			it.at = p.share(at)
		}
	}
}
