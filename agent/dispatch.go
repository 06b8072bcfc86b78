package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

// What is made of a notice.
const (
	noticeRescue    = "rescue"
	noticeMerged    = "merged"    // part of the running rescue
	noticeRepeated  = "repeated"  // was acted on before
	noticeRecorded  = "recorded"  // no reason to end anything
	noticeWithdrawn = "withdrawn" // ends a rescue that has told nobody yet; any other is finished
)

// dispatcher decides what each notice leads to, and runs one rescue after the other. Only its own goroutine
// uses it.
type dispatcher struct {
	*Agent
	done     chan struct{} // gets a value when the running rescue has ended
	busy     bool
	waiting  []providers.Notice // for the end of the running rescue, or until a journal can be begun
	again    <-chan time.Time   // when to try again to begin one; nil: nothing is to be tried
	trouble  string             // why none could be begun
	caughtUp bool               // nothing is left of earlier runs of the agent
	later    <-chan time.Time   // when to look again whether something is; nil: now
	resumed  string             // the last rescue that was taken up
}

// busyPause is the pause between attempts to go on with a rescue that another process may be at: an agent that is being
// replaced, or a rescue by hand.
const busyPause = time.Second

func newDispatcher(a *Agent) *dispatcher { return &dispatcher{Agent: a, done: make(chan struct{}, 1)} }

// run goes on until intake ends or something has failed that can't be mended; then the running rescue goes on for
// shutdown.grace, or until ctx ends.
func (d *dispatcher) run(ctx, intake context.Context, notices <-chan providers.Notice, failed <-chan error) error {
	rescues, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		d.next(rescues)
		select {
		case err := <-failed:
			d.log.Error("the agent can't go on", zap.Error(err))
			d.stopping.Store(true)
			d.drain(ctx, cancel)
			return err
		case <-d.done:
			d.busy = false
		case <-d.again:
			d.again = nil
		case <-d.later:
			d.later = nil
		case n := <-notices:
			d.take(n)
		case <-intake.Done():
			d.drain(ctx, cancel)
			return nil
		}
	}
}

// drain lets a running rescue go on for the grace that the agent was given.
func (d *dispatcher) drain(ctx context.Context, cancel context.CancelFunc) {
	if !d.busy {
		return
	}
	d.log.Info("stopping when the running rescue has ended", zap.Duration("grace", d.cfg.Shutdown.Grace))
	grace, end := context.WithTimeout(ctx, d.cfg.Shutdown.Grace)
	defer end()
	select {
	case <-d.done:
		return
	case <-grace.Done():
	}
	d.log.Warn("the grace is over: the rescue is interrupted and can be resumed")
	cancel()
	<-d.done
}

// next begins a rescue if none runs: for a notice that waits, or else what an earlier run of the agent left.
func (d *dispatcher) next(ctx context.Context) {
	for !d.busy && d.again == nil && len(d.waiting) > 0 {
		n := d.waiting[0]
		d.waiting = d.waiting[1:]
		if d.store.Acted(n.ID) {
			continue
		}
		r, err := d.begin(order{notice: n})
		if err != nil {
			d.postpone(n, err)
			return
		}
		d.start(ctx, r)
	}
	if !d.busy && d.again == nil && d.later == nil && !d.caughtUp {
		d.resume(ctx)
	}
}

// postpone keeps a notice for which no rescue could be begun: a disk may be full for a moment, and a rescue by hand
// may be running.
func (d *dispatcher) postpone(n providers.Notice, err error) {
	if time.Until(n.Deadline) <= 0 {
		d.log.Error("no rescue could be begun before the deadline", zap.String("notice", n.ID), zap.Error(err))
		return
	}
	if text := err.Error(); text != d.trouble {
		d.trouble = text
		d.log.Warn("no rescue can be begun yet", zap.String("notice", n.ID), zap.Error(err))
	}
	d.waiting = slices.Insert(d.waiting, 0, n)
	d.again = time.After(retryPause)
}

// resume goes on with a rescue that an earlier run of the agent had begun and not finished, the newest first.
func (d *dispatcher) resume(ctx context.Context) {
	replay, err := d.store.Unfinished()
	if err != nil {
		d.log.Error("journals of unfinished rescues not readable", zap.Error(err))
	}
	if replay == nil || replay.ID == d.resumed {
		d.caughtUp = true
		return
	}
	r, err := d.begin(order{resume: replay})
	var busy *journal.BusyError
	switch {
	case errors.As(err, &busy):
		d.later = time.After(busyPause)
	case err != nil:
		d.log.Error("rescue not resumed", zap.String("rescue", replay.ID), zap.Error(err))
		d.caughtUp = true
	default:
		d.resumed = replay.ID
		d.log.Info("resuming", zap.String("rescue", replay.ID), zap.Int("saved", len(replay.Saved)))
		d.start(ctx, r)
	}
}

// start carries a rescue out in the background. Nothing that goes wrong in it ends the daemon.
func (d *dispatcher) start(ctx context.Context, r *rescue) {
	d.busy, d.trouble = true, ""
	d.waiting = slices.DeleteFunc(d.waiting, r.merge)
	go func() {
		if _, err := d.carryOut(ctx, r); err != nil {
			r.log.Error("rescue failed", zap.Error(err))
		}
		d.done <- struct{}{}
	}()
}

// take decides what a notice leads to.
func (d *dispatcher) take(n providers.Notice) {
	if n.Deadline.IsZero() {
		n.Deadline = time.Now().Add(d.cfg.Deadline.Default)
	}
	what := d.judge(n)
	d.metrics.Notice(n, what)
	d.log.Info("notice", zap.String("notice", n.ID), zap.String("kind", string(n.Kind)),
		zap.Time("deadline", n.Deadline), zap.String("leads to", what))
	same := func(w providers.Notice) bool { return w.ID == n.ID }
	switch what {
	case noticeWithdrawn:
		d.waiting = slices.DeleteFunc(d.waiting, same)
	case noticeRescue:
		if i := slices.IndexFunc(d.waiting, same); i >= 0 {
			d.waiting[i] = n
		} else {
			d.waiting = append(d.waiting, n)
		}
	}
}

func (d *dispatcher) judge(n providers.Notice) string {
	d.mu.Lock()
	running := d.running
	d.mu.Unlock()
	switch {
	case n.Withdrawn:
		if running != nil {
			running.withdraw(n)
		}
		return noticeWithdrawn
	case n.Kind != providers.Preemption && n.Kind != providers.Drain:
		return noticeRecorded
	case running != nil && running.merge(n):
		return noticeMerged
	case running != nil && running.calledOff():
		return noticeRescue // it came again; whether it was acted on is known when that rescue has ended
	case d.store.Acted(n.ID):
		return noticeRepeated
	}
	return noticeRescue
}
