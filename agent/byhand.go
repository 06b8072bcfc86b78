package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// byHandPatience is how long a rescue by hand waits for the API server's first word.
const byHandPatience = 3 * time.Second

// withKubernetes lets a rescue by hand know of Kubernetes what an agent's rescue knows, until the function that it returns is
// called. What the watches take for notices is nobody's business here. Without Kubernetes, and where it does not answer,
// the rescue goes on without.
func (a *Agent) withKubernetes(ctx context.Context) (end func()) {
	alone := a.cfg
	alone.State = "" // what the next run of the agent has to know is the agent's own to write
	// Whether a notice stands is known to the agent only: a mark that has outlived its deadline is its own to take back.
	client, watches, err := openKubernetes(alone, a.deps, func() bool { return true })
	if err != nil {
		a.log.Warn("the rescue goes on without Kubernetes", zap.Error(err))
	}
	if client == nil {
		return func() {}
	}
	a.mu.Lock()
	a.kube = client
	a.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	notices := make(chan providers.Notice)
	var background sync.WaitGroup
	background.Go(func() { client.Run(ctx) })
	for _, s := range watches {
		background.Go(func() { _ = s.Run(ctx, notices) })
	}
	background.Go(func() {
		for {
			select {
			case <-notices:
			case <-ctx.Done():
				return
			}
		}
	})
	if !awaitAnswers(ctx, watches, byHandPatience) {
		a.log.Warn("the API server does not answer: executors may have to be ended by a signal")
	}
	return func() {
		cancel()
		background.Wait()
	}
}

// awaitAnswers is false when not all of the sources have heard something in time.
func awaitAnswers(ctx context.Context, sources []providers.Source, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	silent := func(s providers.Source) bool {
		sight, ok := s.(providers.Sight)
		return ok && sight.Health().LastAnswer.IsZero()
	}
	for slices.ContainsFunc(sources, silent) {
		if pause(ctx, retryPause/10) != nil {
			return false
		}
	}
	return true
}
