package migratetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
)

// Call is one call of Put.
type Call struct {
	N      int // how many calls came before
	Output *migrate.Output
}

// Behaviour is run at the start of each Put of a Memory; an error ends the Put. Several make a script:
// they run one after the other.
type Behaviour func(ctx context.Context, c Call) error

// The errors of behaviours.
var (
	ErrFlaky   = errors.New("connection reset by the test")
	ErrStalled = errors.New("stalled by the test")
	ErrRefused = errors.New("refused by the test")
	ErrGone    = errors.New("gone by the test")
)

func kind(k migrate.Kind, err error) error { return &migrate.Error{Op: "put", Kind: k, Err: err} }

// Wait takes a time, or until ctx ends.
func Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Takes makes a Put take latency plus its size at a speed; 0 is infinitely fast.
func Takes(latency time.Duration, bytesPerSecond float64) Behaviour {
	return func(ctx context.Context, c Call) error {
		d := latency
		if bytesPerSecond > 0 {
			d += time.Duration(float64(c.Output.Bytes()) / bytesPerSecond * float64(time.Second))
		}
		return Wait(ctx, d)
	}
}

// Stalls never answers: a Put ends with its ctx.
func Stalls() Behaviour {
	return func(ctx context.Context, _ Call) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// StallsUntil never answers before a moment; whoever waits for longer than patience gets a transient
// error, as from a stall watchdog. After the moment, those who still wait go on.
func StallsUntil(end time.Time, patience time.Duration) Behaviour {
	return func(ctx context.Context, _ Call) error {
		left := time.Until(end)
		if left <= patience {
			return Wait(ctx, left)
		}
		if err := Wait(ctx, patience); err != nil {
			return err
		}
		return kind(migrate.Transient, ErrStalled)
	}
}

// During limits a behaviour to the calls that begin within a time.
func During(from, to time.Time, b Behaviour) Behaviour {
	return func(ctx context.Context, c Call) error {
		if now := time.Now(); now.Before(from) || !now.Before(to) {
			return nil
		}
		return b(ctx, c)
	}
}

// Calls limits a behaviour to the calls with from <= N < to.
func Calls(from, to int, b Behaviour) Behaviour {
	return func(ctx context.Context, c Call) error {
		if c.N < from || c.N >= to {
			return nil
		}
		return b(ctx, c)
	}
}

// Only limits a behaviour to some outputs.
func Only(which func(*migrate.Output) bool, b Behaviour) Behaviour {
	return func(ctx context.Context, c Call) error {
		if !which(c.Output) {
			return nil
		}
		return b(ctx, c)
	}
}

// Sometimes limits a behaviour to a share of the calls, chosen by a seed.
func Sometimes(share float64, seed uint64, b Behaviour) Behaviour {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 1))
	return func(ctx context.Context, c Call) error {
		mu.Lock()
		hit := r.Float64() < share
		mu.Unlock()
		if !hit {
			return nil
		}
		return b(ctx, c)
	}
}

// Fails is a transient error.
func Fails() Behaviour { return fails(migrate.Transient, ErrFlaky) }

// Refuses will not take the output here.
func Refuses() Behaviour { return fails(migrate.Elsewhere, ErrRefused) }

// Vanishes says that the destination has gone.
func Vanishes() Behaviour { return fails(migrate.Gone, ErrGone) }

// Spoils says that the output can't be read.
func Spoils() Behaviour { return fails(migrate.Corrupt, ErrUnreadable) }

func fails(k migrate.Kind, err error) Behaviour {
	return func(context.Context, Call) error { return kind(k, err) }
}
