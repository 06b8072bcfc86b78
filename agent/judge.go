package agent

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

// What is made of a notice: what the status page says, and a label of lifeboat_notices_handled_total.
const (
	NoticeRescue    = "rescue"    // now
	NoticeMerged    = "merged"    // part of the running rescue
	NoticeWidens    = "widens"    // the running rescue is begun anew for it, too
	NoticeScheduled = "scheduled" // a rescue later
	NoticeMirrored  = "mirrored"  // a reason to copy ahead
	NoticeRecorded  = "recorded"  // no reason to do anything
	NoticeRepeated  = "repeated"  // was acted on before, or nothing is left to do for it
	NoticeRehearsed = "rehearsed" // a drill that does nothing
	NoticeWithdrawn = "withdrawn" // ends a rescue that has told nobody yet; any other is finished
)

// longestWait is the pause between looks at scheduled notices: timers don't follow a clock that is set anew.
const longestWait = time.Minute

// take decides what a notice leads to.
func (d *dispatcher) take(ctx context.Context, n providers.Notice) {
	if n.Deadline.IsZero() && d.policy.act(n.Kind) == config.ActRescue {
		n.Deadline = time.Now().Add(d.cfg.Deadline.Default)
	}
	d.forget(n.ID)
	what := d.judge(ctx, n)
	d.metrics.Notice(n, what)
	d.handled.note(n, what)
	fields := []zap.Field{
		zap.String("notice", n.ID), zap.String("kind", string(n.Kind)), zap.Time("deadline", n.Deadline), zap.String("leads to", what),
	}
	if n.Drill {
		fields = append(fields, zap.Bool("drill", true))
	}
	d.log.Info("notice", fields...)
	switch what {
	case NoticeRescue, NoticeWidens:
		d.waiting = append(d.waiting, n)
	case NoticeScheduled:
		d.scheduled = append(d.scheduled, n)
	case NoticeRehearsed:
		d.rehearsal.waiting = append(d.rehearsal.waiting, n)
	case NoticeMirrored:
		d.prepare(n)
	case NoticeWithdrawn:
		if d.policy.act(n.Kind) == config.ActMirror {
			d.prepare(n)
		}
	}
}

// forget takes a notice out of all lists: something newer is known of it.
func (d *dispatcher) forget(id string) {
	same := func(n providers.Notice) bool { return n.ID == id }
	d.waiting = slices.DeleteFunc(d.waiting, same)
	d.scheduled = slices.DeleteFunc(d.scheduled, same)
	d.rehearsal.waiting = slices.DeleteFunc(d.rehearsal.waiting, same)
	d.gone = slices.DeleteFunc(d.gone, same)
}

// judge says in one word what a notice leads to.
func (d *dispatcher) judge(ctx context.Context, n providers.Notice) string {
	running := d.runningRescue()
	if n.Withdrawn {
		d.withdraw(n, running)
		return NoticeWithdrawn
	}
	switch act := d.policy.act(n.Kind); {
	case act == config.ActMirror:
		return NoticeMirrored
	case act == config.ActRecord:
		return NoticeRecorded
	case n.Drill && n.Deadline.Before(time.Now()):
		return NoticeRecorded // it was left by somebody who has gone
	}
	if n.DryRun {
		return d.once(ctx, n, NoticeRehearsed)
	}
	if running != nil && running.holds(n.ID) || !d.policy.begins(n).After(time.Now()) {
		return d.now(ctx, n, running)
	}
	return d.once(ctx, n, NoticeScheduled)
}

// withdraw takes a notice out of the running rescue, or out of the one that is to go on.
func (d *dispatcher) withdraw(n providers.Notice, running *rescue) {
	switch {
	case running != nil && !running.isRecast():
		running.withdraw(n)
	case d.busy || d.recast != "" || !d.caughtUp:
		d.gone = append(d.gone, n)
	}
}

// now is the word for a notice whose rescue is to begin.
func (d *dispatcher) now(ctx context.Context, n providers.Notice, running *rescue) string {
	if running == nil {
		return d.once(ctx, n, NoticeRescue)
	}
	switch running.merge(n) {
	case merged:
		return NoticeMerged
	case wider:
		return NoticeWidens
	}
	if running.calledOff() {
		return NoticeRescue // it came again; whether it was acted on is known when that rescue has ended
	}
	return d.once(ctx, n, NoticeRescue)
}

// once is what, unless the notice was acted on before, or nothing is left to do for it.
func (d *dispatcher) once(ctx context.Context, n providers.Notice, what string) string {
	if d.store.Acted(n.ID) || what == NoticeRescue && d.isDone(ctx, n) {
		return NoticeRepeated
	}
	return what
}

// isDone is true when a second source announces what a rescue that has ended was for: nobody is here any more who
// was not told. A drill is no such rescue, and none is for a drill.
func (d *dispatcher) isDone(ctx context.Context, n providers.Notice) bool {
	last := d.store.Last()
	if last == nil || n.Drill {
		return false
	}
	before := holding(last)
	aim := aimOf(time.Now(), before)
	if aim.until.Before(time.Now()) || !aim.covers(groupOf(n)) || slices.ContainsFunc(before, func(n providers.Notice) bool { return n.Drill }) {
		return false
	}
	found, err := d.scanner.Scan(ctx)
	if err != nil || len(found.Workers) > 0 && last.Done.Exit != 0 {
		return false // what could not be saved may still be served from here
	}
	told := d.store.Told(recentRescues)
	for _, e := range found.Executors {
		if _, known := told[journal.Executor{App: e.App, ID: e.ID}]; !known && groupOf(n).has(e) {
			return false
		}
	}
	return true
}

// ripen moves notices whose time has come, and sees to another look at the others.
func (d *dispatcher) ripen(ctx context.Context) {
	var next time.Time
	d.scheduled = slices.DeleteFunc(d.scheduled, func(n providers.Notice) bool {
		at := d.policy.begins(n)
		if at.After(time.Now()) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			return false
		}
		what := d.now(ctx, n, d.runningRescue())
		d.log.Info("the time of a scheduled notice has come", zap.String("notice", n.ID), zap.Time("deadline", n.Deadline),
			zap.String("leads to", what))
		d.metrics.Notice(n, what)
		d.handled.note(n, what)
		if what == NoticeRescue || what == NoticeWidens {
			d.waiting = append(d.waiting, n)
		}
		return true
	})
	d.due = nil
	if !next.IsZero() {
		d.due = time.After(min(time.Until(next), longestWait))
	}
}

func (d *dispatcher) runningRescue() *rescue {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running
}
