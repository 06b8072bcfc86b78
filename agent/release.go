package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

// taskLimit bounds what a busy driver is asked for: its newest shuffle stages, a page of tasks each.
var taskLimit = driver.TaskLimit{Stages: 8, Tasks: 5000, Time: 3 * time.Second}

// freshCommit is how long after its commit a map output may still be unknown to the driver, which drops
// an update for an output that it does not know: such outputs are announced once more.
const freshCommit = 5 * time.Second

// announceEvery is how often that is done while tasks run, and how long a driver may take to hear of a task's end.
const announceEvery = 2 * time.Second

// release ends one executor as soon as its copies are safe, or when the deadline is here. It ends nothing
// when the agent itself is told to stop: the next run of it goes on. Executors without a driver end themselves.
func (a *application) release(ctx, copyCtx context.Context, m *member) {
	err := a.waitSafe(copyCtx, m)
	if ctx.Err() != nil || a.driverless() {
		return
	}
	if err != nil {
		a.log.Warn("executor is ended before everything was safe", zap.String("executor", m.ID), zap.Error(err))
		short, cancel := context.WithTimeout(ctx, a.untilTaken()/marginShare)
		a.announceFresh(short, 0)
		cancel()
	}
	a.saySaved(m)
	a.awaitWorkers(copyCtx)
	a.markVolumes(ctx, m, err == nil)
	a.end(ctx, m)
	if err == nil {
		a.handOver(m)
	}
}

// awaitWorkers gives the standalone worker a moment to be decommissioned first: else the master starts a new
// executor in the place of the one that is ended.
func (a *application) awaitWorkers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, workerPatience)
	defer cancel()
	select {
	case <-a.gate.tried.c:
	case <-ctx.Done():
	}
}

// errUnsaved keeps an executor that holds the only copy of something until the deadline: the job may
// still read it.
var errUnsaved = errors.New("some of its map outputs could not be saved")

// waitSafe returns when the executor's last task had ended before the last copy began and everything that
// it committed is acknowledged, or when it has gone by itself.
func (a *application) waitSafe(ctx context.Context, m *member) error {
	if m.late {
		select {
		case <-a.gate.quiet.c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := a.tasksEnded(ctx, m); err != nil {
		return err
	}
	a.scan(ctx)
	if err := a.settled(ctx); err != nil {
		return err
	}
	if err := a.holdersAnswer(ctx); err != nil {
		return err
	}
	a.announceFresh(ctx, 0)
	for a.incomplete() && !m.gone() {
		if pause(ctx, retryPause) != nil {
			return errUnsaved
		}
		a.scan(ctx)
	}
	return a.settled(ctx)
}

// tasksEnded waits until the driver says that the executor runs nothing, or until it has gone by itself.
func (a *application) tasksEnded(ctx context.Context, m *member) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		if m.process.Done(ctx) == nil {
			close(gone)
			cancel()
		}
	}()
	m.mu.Lock()
	since, moving := m.toldAt, m.leavesByItself()
	m.mu.Unlock()
	err := a.activity.idle(ctx, m.ID, since, moving)
	if err == nil {
		m.mu.Lock()
		m.idleAt = time.Now()
		m.mu.Unlock()
	}
	select {
	case <-gone:
		return nil
	default:
		return err
	}
}

// announceFresh sends the index again of outputs that were copied within seconds of their commit and at least age ago,
// now that the driver has heard of the end of the task.
func (a *application) announceFresh(ctx context.Context, age time.Duration) {
	a.announcing.Lock() // no executor is ended while others announce its outputs
	defer a.announcing.Unlock()
	a.fresh.Store(false)
	known, now := a.allIdleAt(), time.Now()
	var picked []migrate.OutputID
	err := a.engine.Announce(ctx, func(r migrate.Result) bool {
		if waits(r.Location) {
			return false // Spark does not look there
		}
		savedAt := r.SavedAt
		if savedAt.IsZero() {
			savedAt = a.resume.savedAt(r.Output.ID)
		}
		if savedAt.Sub(r.Output.Committed) > freshCommit || !known.IsZero() && savedAt.After(known) {
			return false
		}
		if now.Sub(savedAt) < age {
			a.fresh.Store(true)
			return false
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.announced[r.Output.ID] == r.Location.Target {
			return false
		}
		a.announced[r.Output.ID] = r.Location.Target
		picked = append(picked, r.Output.ID)
		return true
	})
	if err != nil {
		a.log.Warn("fresh outputs not announced again", zap.Int("outputs", len(picked)), zap.Error(err))
		a.unannounced(picked)
	}
}

// unannounced lets outputs be announced by the next call, as not all of them were.
func (a *application) unannounced(ids []migrate.OutputID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		delete(a.announced, id)
	}
	a.fresh.Store(true)
}

// keepAnnouncing does so while tasks run, some time after each copy: nobody knows when the last task will end. A peer that
// does not answer is not waited for.
func (a *application) keepAnnouncing(ctx context.Context) {
	for pause(ctx, announceEvery) == nil {
		if a.fresh.Load() {
			short, cancel := context.WithTimeout(ctx, announceEvery)
			a.announceFresh(short, announceEvery)
			cancel()
		}
	}
}

// allIdleAt is when the driver was seen to know of the end of every task here: what was copied afterwards
// it can't have dropped. Zero while it is not known of some executor.
func (a *application) allIdleAt() time.Time {
	var last time.Time
	for _, m := range a.snapshot() {
		m.mu.Lock()
		at := m.idleAt
		m.mu.Unlock()
		if at.IsZero() {
			return time.Time{}
		}
		if at.After(last) {
			last = at
		}
	}
	return last
}

// incomplete is true when an output of this application that could be read was given up, or waits in object storage
// where nobody looks for it, or some may not have been seen: then the executors hold what nobody else has.
func (a *application) incomplete() bool {
	if s := a.storage.Load(); s != nil && !s.read && a.engine.Waiting() > 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.anyLost || a.unread != nil
}

func (m *member) gone() bool { return !m.process.Alive() }

// end asks the executor to exit, and insists when it does not, so that the driver sees it leave before the
// node vanishes. The journal knows before: an executor is never signalled on a guess.
func (a *application) end(ctx context.Context, m *member) {
	if !m.wasAsked() || !a.cfg.Spark.EndExecutors {
		return
	}
	how, byItself := "by itself", m.gone()
	a.countBlocks(m, byItself)
	if !byItself {
		how = a.signalEnd(ctx, m)
	}
	ended := m.gone()
	m.mu.Lock()
	m.ended, m.endedAt, m.endedHow = ended, time.Now(), how
	m.mu.Unlock()
	if !ended {
		if ctx.Err() == nil {
			a.problem(fmt.Errorf("executor %s of %s did not end", m.ID, a.id))
		}
		return // the journal keeps the intent
	}
	if err := a.journal.Ended(a.id, m.ID, how); err != nil {
		a.problem(err)
	}
	a.sayEnded(m, how)
	a.log.Info("executor ended", zap.String("executor", m.ID), zap.String("how", how))
}

// countBlocks notes how many cached blocks go with the executor: what it had when it was told and nobody moves, or
// what it has not moved itself. One that has exited by itself was done with that; the driver's view may be older.
func (a *application) countBlocks(m *member, gone bool) {
	left := a.cachedBlocks(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.leavesByItself() && m.rddBlocks >= 0:
	case m.leavesByItself() && gone && left > 0:
		m.rddBlocks = -1
	default:
		m.rddBlocks = left
	}
}

// signalEnd says by which signal the executor ended, if it did. When the agent is stopped meanwhile, the executor
// has the time to exit that it was given.
func (a *application) signalEnd(ctx context.Context, m *member) string {
	if err := a.journal.EndIntent(a.id, m.ID); err != nil {
		a.problem(err)
	}
	byPod := a.endPod(ctx, m)
	if err := m.process.Signal(syscall.SIGTERM); err != nil {
		if !errors.Is(err, executor.ErrGone) {
			a.problem(fmt.Errorf("executor %s of %s: %w", m.ID, a.id, err))
		}
		return cmp.Or(byPod, "by itself")
	}
	wait, cancel := context.WithTimeout(ctx, min(a.cfg.Spark.KillAfter, a.untilTaken()/2))
	defer cancel()
	if m.process.Done(wait) == nil || ctx.Err() != nil {
		return cmp.Or(byPod, "SIGTERM")
	}
	if err := m.process.Signal(syscall.SIGKILL); err != nil {
		a.log.Warn("SIGKILL failed", zap.String("executor", m.ID), zap.Error(err))
	}
	killed, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = m.process.Done(killed)
	return "SIGKILL"
}
