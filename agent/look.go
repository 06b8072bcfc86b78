package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	lookTimeout = 10 * time.Second      // for one look at every source
	lookPause   = 10 * time.Millisecond // between looks whether it is over
	// lookLinger is how long a source that shows nothing is listened to: a file counts when it has not changed for a while.
	lookLinger = 300 * time.Millisecond
)

// Look asks every source once, without an agent that runs, and looks for the cloud if that has to be found. What it sees leads to
// nothing. A source that has not answered after a while says so in its health.
func (a *Agent) Look(ctx context.Context) ([]status.Source, string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := a.openSources(); err != nil {
		return nil, "", err
	}
	sources, detected := a.watched(), ""
	if a.detector != nil {
		detected = a.detector.searching()
		if c, found := a.detector.once(ctx); found {
			more, err := c.sources(a.deps)
			if err != nil {
				return nil, c.name, err
			}
			sources, detected = append(sources, more...), c.name
		}
	}
	views := make([]status.Source, len(sources))
	var looks sync.WaitGroup
	for i, s := range sources {
		looks.Go(func() { views[i] = lookAt(ctx, s) })
	}
	looks.Wait()
	return views, detected, nil
}

// lookAt runs a source until it has asked its origin once.
func lookAt(ctx context.Context, s providers.Source) status.Source {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	notices := make(chan providers.Notice)
	before := viewOf(s).Health
	go func() { ended <- s.Run(ctx, notices) }()
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	var answered time.Time
	for {
		select {
		case <-notices: // what counts is what it shows
		case err := <-ended:
			cancel()
			v := viewOf(s)
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				v.OK, v.Error = false, err.Error()
			}
			return v
		case <-tick.C:
		}
		v := viewOf(s)
		if answered.IsZero() && v.Health != before {
			answered = time.Now()
		}
		if !answered.IsZero() && (!v.OK || len(v.Notices) > 0 || time.Since(answered) > lookLinger) {
			cancel() // and ended says so
		}
	}
}
