package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

// dispatcher decides what each notice leads to, and runs one rescue after the other. Only its own goroutine
// uses it.
type dispatcher struct {
	*Agent
	policy    policy
	done      chan struct{} // gets a value when the running rescue has ended
	busy      bool
	over      bool               // a rescue has just ended
	current   *rescue            // that runs, or ran last
	waiting   []providers.Notice // for the end of the running rescue, or until a journal can be begun
	scheduled []providers.Notice // until their rescue begins; a restarted agent hears of them again from their source
	due       <-chan time.Time   // when to look at those again
	recast    string             // the rescue that goes on for what waits, too
	gone      []providers.Notice // what was withdrawn since it was interrupted
	again     <-chan time.Time   // when to try again to begin one; nil: nothing is to be tried
	trouble   string             // why none could be begun
	caughtUp  bool               // nothing is left of earlier runs of the agent
	later     <-chan time.Time   // when to look again whether something is; nil: now
	resumed   string             // the last rescue that was taken up
	rehearsal rehearsal          // of drills that do nothing
	helpers   sync.WaitGroup     // that end with the rescues' context
}

// busyPause is the pause between attempts to go on with a rescue that another process may be at: an agent that is being
// replaced, or a rescue by hand.
const busyPause = time.Second

func newDispatcher(a *Agent) *dispatcher {
	return &dispatcher{
		Agent: a, policy: policy{kinds: a.cfg.Notices, ahead: a.cfg.Deadline.Ahead},
		done: make(chan struct{}, 1), rehearsal: rehearsal{done: make(chan struct{}, 1)},
	}
}

// run goes on until intake ends or something has failed that can't be mended; then the running rescue goes on for
// shutdown.grace, or until ctx ends.
func (d *dispatcher) run(ctx, intake context.Context, notices <-chan providers.Notice, failed <-chan error) error {
	rescues, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.helpers.Wait()
	defer cancel()
	for {
		d.next(rescues)
		d.rehearse(rescues)
		select {
		case err := <-failed:
			d.log.Error("the agent can't go on", zap.Error(err))
			d.stopping.Store(true)
			d.drain(ctx, cancel)
			return err
		case <-d.done:
			d.ended()
		case <-d.rehearsal.done:
			d.rehearsal.busy = false
		case <-d.due:
			d.due = nil
		case <-d.again:
			d.again = nil
		case <-d.later:
			d.later = nil
		case n := <-notices:
			d.take(intake, n)
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

// next begins a rescue if none runs: for the notices that wait, or else what an earlier run of the agent left.
func (d *dispatcher) next(ctx context.Context) {
	d.ripen(ctx)
	if d.busy || d.again != nil {
		return
	}
	// One that came in the last moments of a rescue may be about what that has done.
	again := d.over && d.recast == ""
	d.over = false
	d.waiting = slices.DeleteFunc(d.waiting, func(n providers.Notice) bool {
		if !d.store.Acted(n.ID) && (!again || !d.isDone(ctx, n)) {
			return false
		}
		d.metrics.Notice(n, NoticeRepeated)
		d.handled.note(n, NoticeRepeated)
		d.log.Info("notice", zap.String("notice", n.ID), zap.String("leads to", NoticeRepeated))
		return true
	})
	switch {
	case d.recast != "":
		d.begin(ctx, order{resume: &journal.Replay{ID: d.recast}, notices: d.waiting})
	case len(d.waiting) > 0:
		d.begin(ctx, order{notices: d.waiting})
	case d.later == nil && !d.caughtUp:
		d.resume(ctx)
	}
}

// begin makes one rescue for all notices that wait.
func (d *dispatcher) begin(ctx context.Context, o order) {
	// A real notice is what the rescue is for; drills are along.
	slices.SortStableFunc(o.notices, func(a, b providers.Notice) int {
		switch {
		case a.Drill == b.Drill:
			return 0
		case a.Drill:
			return 1
		}
		return -1
	})
	r, err := d.Agent.begin(o)
	if err != nil {
		d.postpone(err)
		return
	}
	for _, n := range d.gone {
		r.withdraw(n)
	}
	d.waiting, d.gone, d.recast = nil, nil, ""
	d.start(ctx, r)
}

// postpone keeps the notices for which no rescue could be begun: a disk may be full for a moment, and a rescue by hand
// may be running.
func (d *dispatcher) postpone(err error) {
	if text := err.Error(); text != d.trouble {
		d.trouble = text
		d.log.Warn("no rescue can be begun yet", zap.Strings("notices", ids(d.waiting)), zap.Error(err))
	}
	d.waiting = slices.DeleteFunc(d.waiting, func(n providers.Notice) bool {
		late := time.Until(n.Deadline) <= 0
		if late {
			d.log.Error("no rescue could be begun before the deadline", zap.String("notice", n.ID), zap.Error(err))
		}
		return late
	})
	if len(d.waiting) == 0 && d.recast != "" { // it is one like any other that an earlier run has left
		d.recast, d.caughtUp, d.resumed = "", false, ""
	}
	d.again = time.After(retryPause)
}

func ids(list []providers.Notice) []string {
	all := make([]string, len(list))
	for i, n := range list {
		all[i] = n.ID
	}
	return all
}

// ended notes the end of the running rescue.
func (d *dispatcher) ended() {
	d.busy, d.over = false, true
	if d.current.isRecast() {
		d.recast = d.current.journal.ID()
	} else {
		d.gone = nil
	}
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
	d.awaitSources(ctx, replay)
	r, err := d.Agent.begin(order{resume: replay})
	var busy *journal.BusyError
	switch {
	case errors.As(err, &busy):
		d.later = time.After(busyPause)
	case err != nil:
		d.log.Error("rescue not resumed", zap.String("rescue", replay.ID), zap.Error(err))
		d.caughtUp = true
	default:
		for _, n := range d.gone {
			r.withdraw(n)
		}
		d.resumed, d.gone = replay.ID, nil
		d.log.Info("resuming", zap.String("rescue", replay.ID), zap.Int("saved", len(replay.Saved)))
		d.start(ctx, r)
	}
}

// start carries a rescue out in the background. Nothing that goes wrong in it ends the daemon.
func (d *dispatcher) start(ctx context.Context, r *rescue) {
	d.busy, d.trouble, d.current = true, "", r
	go func() {
		rep, err := d.carryOut(ctx, r)
		if err != nil {
			r.log.Error("rescue failed", zap.Error(err))
		}
		if rep != nil && err == nil {
			d.helpers.Go(func() {
				d.acknowledge(ctx, r, rep)
				d.followStory(ctx, rep)
			})
		}
		d.done <- struct{}{}
	}()
}
