package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	// maxErrands that wait at once. A rescue of a full node has some hundred; what comes beyond is given up.
	maxErrands = 1024
	// atOnce is how many requests of errands are on their way at the same time.
	atOnce = 4
	// firstTry is the deadline of an errand's first attempt, laterTry of each further one.
	firstTry, laterTry = 2 * time.Second, 5 * time.Second
	// tooOld is when an errand is given up that the API server has not taken: what it says is of no use any more.
	tooOld = 15 * time.Minute
	// refusedFor is how long a missing permission may be missing: an API server that has just started refuses what it allows
	// a moment later, until it has read its roles.
	refusedFor = time.Minute
	// awayFor is how long after an attempt without an answer nobody waits for one.
	awayFor = 10 * time.Second
)

// errPointless ends an errand whose object has gone, or is another one of the same name.
var errPointless = errors.New("there is nothing left to say it of")

// errand is one thing to be said or marked at the API server. Doing it twice has to be as good as once: an answer may get
// lost.
type errand struct {
	rescue string // id of its report
	what   string // for people, as "event SparkRescueEnded on pod spark/a"
	do     func(ctx context.Context) error
}

// task is an errand on its way.
type task struct {
	errand
	over chan struct{} // closed when nothing more is tried
	err  error         // why it was given up; valid once over is closed
}

// await waits until the errand is done or given up, and not longer than ctx.
func (t *task) await(ctx context.Context) error {
	select {
	case <-t.over:
		return t.err
	case <-ctx.Done():
		return fmt.Errorf("%s: not yet: %w", t.what, context.Cause(ctx))
	}
}

// later carries errands out in the background: each is tried at once, and then again and again until the API server
// has taken it, it is pointless, or it is too old. Who has something to say never waits for it, unless it wants to.
type later struct {
	log   *zap.Logger
	life  context.Context
	end   context.CancelFunc
	slots chan struct{}
	hurry chan struct{} // closed when the agent is about to end
	tasks sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting []*task // in the order in which they came
	failed  []*task // that were given up
	away    time.Time
}

func newLater(log *zap.Logger) *later {
	l := &later{log: log, slots: make(chan struct{}, atOnce), hurry: make(chan struct{})}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

var (
	errClosed  = errors.New("the agent ends")
	errTooMany = fmt.Errorf("more than %d others wait", maxErrands)
)

// add begins an errand.
func (l *later) add(e errand) *task {
	t := &task{errand: e, over: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		l.giveUp(t, errClosed)
	case len(l.waiting) >= maxErrands:
		l.giveUp(t, errTooMany)
	default:
		l.waiting = append(l.waiting, t)
		l.tasks.Go(func() { l.carryOut(t) })
	}
	return t
}

// carryOut tries until there is no reason to try again.
func (l *later) carryOut(t *task) {
	pauses := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, MaxInterval: 10 * time.Second, Multiplier: 2, RandomizationFactor: 0.3}
	pauses.Reset()
	began, limit := time.Now(), firstTry
	for {
		err := l.try(t, limit)
		limit = laterTry
		if done, reason := settled(err, time.Since(began)); done {
			l.settle(t, reason)
			return
		}
		wait, least := pauses.NextBackOff(), pauses.InitialInterval
		var refused *kube.StatusError
		if errors.As(err, &refused) {
			wait, least = max(wait, refused.RetryAfter), max(least, refused.RetryAfter)
		}
		if !l.pause(wait, least) {
			l.settle(t, fmt.Errorf("%w before it was said: %w", errClosed, err))
			return
		}
	}
}

// try makes one attempt. How many are made at once is bounded, so that an API server that comes back is not run over.
func (l *later) try(t *task, limit time.Duration) error {
	select {
	case l.slots <- struct{}{}:
	case <-l.life.Done():
		return errClosed
	}
	defer func() { <-l.slots }()
	ctx, cancel := context.WithTimeout(l.life, limit)
	defer cancel()
	err := t.do(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = time.Time{}
	if errors.Is(err, kube.ErrAway) {
		l.away = time.Now()
	}
	return err
}

// settled says whether an attempt was the last one, and why when it failed.
func settled(err error, age time.Duration) (done bool, reason error) {
	var refused *kube.StatusError
	code := 0
	if errors.As(err, &refused) {
		code = refused.Code
	}
	switch {
	case err == nil, errors.Is(err, kube.ErrNotFound), errors.Is(err, errPointless):
		return true, nil
	case code == http.StatusBadRequest, code == http.StatusMethodNotAllowed, code == http.StatusRequestEntityTooLarge,
		code == http.StatusUnprocessableEntity:
		return true, err // the same again gets the same answer
	case errors.Is(err, kube.ErrForbidden) && age > refusedFor, age > tooOld:
		return true, err
	}
	return false, nil
}

// pause waits, less long when the agent is about to end; false when it has ended.
func (l *later) pause(d, least time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.hurry:
		timer.Reset(min(d, least))
	case <-timer.C:
		return l.life.Err() == nil
	case <-l.life.Done():
		return false
	}
	select {
	case <-timer.C:
	case <-l.life.Done():
	}
	return l.life.Err() == nil
}

func (l *later) settle(t *task, reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, t); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	if reason != nil {
		l.giveUp(t, reason)
		return
	}
	close(t.over)
}

// giveUp ends an errand that was not done. mu is held.
func (l *later) giveUp(t *task, reason error) {
	t.err = fmt.Errorf("%s: %w", t.what, reason)
	t.do = nil // what it holds is not kept
	close(t.over)
	l.log.Warn("not said to Kubernetes", zap.String("what", t.what), zap.String("rescue", t.rescue), zap.Error(reason))
	if len(l.failed) >= maxErrands {
		l.failed = l.failed[1:]
	}
	l.failed = append(l.failed, t)
}

// reachable is false right after an attempt that got no answer.
func (l *later) reachable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.away.IsZero() || time.Since(l.away) > awayFor
}

// unsaid is what still waits of a rescue, and what was given up, in words. "" asks for all rescues.
func (l *later) unsaid(rescue string) (waiting, failed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.waiting {
		if rescue == "" || t.rescue == rescue {
			waiting = append(waiting, t.what)
		}
	}
	for _, t := range l.failed {
		if rescue == "" || t.rescue == rescue {
			failed = append(failed, t.err.Error())
		}
	}
	return waiting, failed
}

// behind are the rescues of which something waits or was given up.
func (l *later) behind() (rescues []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range slices.Concat(l.waiting, l.failed) {
		if t.rescue != "" && !slices.Contains(rescues, t.rescue) {
			rescues = append(rescues, t.rescue)
		}
	}
	return rescues
}

// close takes no errands any more, and gives those that wait until ctx ends.
func (l *later) close(ctx context.Context) {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.hurry)
	}
	l.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.tasks.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	l.end()
	<-done
}
