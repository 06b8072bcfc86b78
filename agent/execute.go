package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/providers"
)

// order is what one rescue is made from.
type order struct {
	notices  []providers.Notice // at least one, unless it resumes
	dryRun   bool
	resume   *journal.Replay // of the rescue to go on with
	salvage  *salvage        // what is adopted instead of this node's files
	progress func(Progress)
}

// resumeExtra is how much time a resumed rescue gets when the deadline has passed and the node still lives:
// executors that were marked would otherwise stay without work for ever. Nothing else is ended then.
const resumeExtra = 30 * time.Second

// marginShare keeps the margin of a short notice from eating all of it.
const marginShare = 5

// recentRescues is how many earlier rescues are asked which executors they have told.
const recentRescues = 10

// execute does one rescue, from its journal to its report. The report is there whenever the rescue began.
func (a *Agent) execute(ctx context.Context, o order) (*report.Report, error) {
	r, err := a.begin(o)
	if err != nil {
		return nil, err
	}
	return a.carryOut(ctx, r)
}

// begin makes a rescue and its journal. From now on notices for the same node are part of it. carryOut has to follow.
func (a *Agent) begin(o order) (*rescue, error) {
	r := &rescue{
		cfg: a.cfg, dialer: a.dialer, proc: a.proc, finder: a.finder, scanner: a.scanner, known: a.known,
		kube: a.kube, version: a.version, metrics: a.metrics, pinLimit: a.pinLimit, dryRun: o.dryRun, progress: o.progress, mirror: a.mirror, pins: a.pins, salvage: o.salvage,
		apps: map[string]*application{}, hosts: map[string]bool{}, gate: newGate(), began: time.Now(),
	}
	r.life, r.halt = context.WithCancel(context.Background())
	for _, h := range a.cfg.Node.Addresses {
		r.hosts[executor.NormalAddress(h)] = true
	}
	further, err := a.openJournal(r, o)
	if err != nil {
		r.halt()
		return nil, err
	}
	r.takeNotices(further)
	r.log = a.log.With(zap.String("rescue", r.journal.ID()))
	if r.main().Drill {
		r.log = r.log.With(zap.Bool("drill", true))
	}
	if o.resume != nil {
		r.reasons.telling = len(r.resume.replay.Told) > 0
		r.leftover = time.Until(r.aim.until) < a.cfg.Deadline.Margin
	}
	r.setDeadline(a.cfg.Deadline.Margin)
	if err := r.journal.Begin(a.cfg.Node.Name, a.version, r.taken()); err != nil {
		r.problem(err) // nobody is told before the journal can be written
	}
	for _, n := range further {
		if err := r.journal.Merged(n); err != nil {
			r.problem(err)
		}
	}
	if !r.dryRun {
		a.setRunning(r)
	}
	return r, nil
}

// openJournal begins the rescue's journal with the first notice, or goes on with it. It returns the notices that are not
// in it yet.
func (a *Agent) openJournal(r *rescue, o order) (further []providers.Notice, err error) {
	r.resume.told = a.store.Told(recentRescues)
	if o.resume == nil {
		r.reasons.notices = slices.Clone(o.notices[:1])
		r.journal, err = a.store.Create(journal.NewID(time.Now()), o.notices[0], journal.Scope{DryRun: o.dryRun})
		return o.notices[1:], err
	}
	r.journal, r.resume.replay, err = a.store.Open(o.resume.ID)
	if err != nil {
		return nil, err
	}
	maps.Copy(r.resume.told, r.resume.replay.Told)
	r.reasons.notices = holding(r.resume.replay)
	if len(r.reasons.notices)+len(o.notices) == 0 {
		return nil, errors.Join(errors.New("no notice is left of it"), r.journal.Close())
	}
	return o.notices, nil
}

// holding are the notices that a rescue was for. Journals of earlier versions have the application beside them.
func holding(r *journal.Replay) []providers.Notice {
	list := r.Holding()
	for i := range list {
		list[i].App = cmp.Or(list[i].App, r.Scope.App)
	}
	return list
}

// takeNotices makes the rescue what all its notices ask for.
func (r *rescue) takeNotices(further []providers.Notice) {
	for _, n := range further {
		r.reasons.add(n)
	}
	for _, n := range r.reasons.notices {
		r.reasons.hold = append(r.reasons.hold, n.ID)
	}
	r.notice = r.reasons.notices[0]
	r.aim = aimOf(time.Now(), r.reasons.notices)
}

func (r *rescue) setDeadline(margin time.Duration) {
	until := r.aim.until
	if r.leftover {
		until = time.Now().Add(resumeExtra)
	}
	r.margin = min(margin, max(time.Until(until)/marginShare, 0))
	r.deadline, r.stopCopying = withMovable(context.Background(), until.Add(-r.margin))
}

// carryOut does what was begun. The report is there whatever happens.
func (a *Agent) carryOut(ctx context.Context, r *rescue) (*report.Report, error) {
	defer r.halt()
	defer context.AfterFunc(ctx, r.halt)()
	defer func() {
		if err := r.journal.Close(); err != nil {
			r.log.Error("journal not closed", zap.Error(err))
		}
	}()
	if !r.dryRun {
		defer a.setRunning(nil)
	}
	if r.marksNode() {
		r.kube.Begin(r.nodeRescue())
	} else {
		r.kube.Narrowed(r.journal.ID())
	}
	r.log.Info("rescue begins", zap.String("notice", r.notice.ID), zap.Time("deadline", r.taken()))
	r.run(r.life)
	r.settle()
	return a.finish(r)
}

func (a *Agent) setRunning(r *rescue) {
	if a.lookout != nil {
		a.lookout.rescuing(r != nil)
		a.adopter.rescuing(r != nil)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = r
	a.metrics.SetRunning(r != nil)
}

// finish writes the report, unless the agent was stopped in the middle: then the next run of it goes on.
func (a *Agent) finish(r *rescue) (*report.Report, error) {
	rep := r.makeReport(a.version)
	var err error
	switch {
	case r.calledOff():
		err = r.recordWithdrawn()
		if r.marksNode() {
			r.kube.Withdrawn(r.journal.ID())
		}
	case r.life.Err() != nil && !r.dryRun:
		rep.Interrupted = true
		return rep, a.interrupted(r, rep)
	case r.marksNode():
		r.kube.Ended(r.nodeRescue())
	}
	r.sayOver(rep)
	err = errors.Join(err, report.Write(a.cfg.State, rep), r.journal.Done(string(rep.Outcome), rep.ExitCode()))
	a.metrics.Rescued(rep)
	a.mu.Lock()
	a.last = rep.ID
	a.mu.Unlock()
	found, saved, lost := rep.Total()
	r.log.Info("rescue ended", zap.String("outcome", string(rep.Outcome)), zap.Int("found", found.Outputs),
		zap.Int("saved", saved.Outputs), zap.Int("lost", lost.Outputs), zap.Int64("bytes", saved.Bytes),
		zap.Float64("secondsLeft", rep.SecondsLeft))
	if err != nil {
		return rep, fmt.Errorf("report: %w", err)
	}
	if err := a.store.Prune(a.cfg.Reports.Keep); err != nil {
		r.log.Warn("old rescues not removed", zap.Error(err))
	}
	return rep, nil
}

// interrupted notes why the rescue goes on later.
func (a *Agent) interrupted(r *rescue, rep *report.Report) error {
	if r.isRecast() {
		r.log.Info("rescue interrupted: it goes on for all notices that there are now")
		return r.journal.Interrupted("what it is for has changed")
	}
	a.metrics.Rescued(rep)
	r.log.Warn("rescue interrupted")
	return r.journal.Interrupted("the agent was stopped")
}

// makeReport puts together what all applications did.
func (r *rescue) makeReport(version string) *report.Report {
	main, others := r.split()
	rep := &report.Report{
		ID: r.journal.ID(), Node: r.cfg.Node.Name, Version: version, Notice: main, Merged: others, DryRun: r.dryRun,
		Began: r.began, Ended: time.Now(), Deadline: r.taken(), Withdrawn: r.calledOff(),
	}
	if r.leftover {
		rep.Deadline = r.aim.until
	}
	r.mu.Lock()
	rep.Problems = slices.Clone(r.problems)
	r.mu.Unlock()
	waiting, failed := r.kube.Unsaid(rep.ID)
	rep.Unsaid = slices.Concat(waiting, failed)
	if rep.Withdrawn { // nothing was done, so nothing is lost
		rep.Settle()
		return rep
	}
	if r.resume.replay != nil {
		rep.Began, rep.Runs = r.resume.replay.Created, r.resume.replay.Begins+1
	}
	slowest := map[string]float64{}
	for _, a := range r.applications() {
		if a.left != nil && r.salvage == nil && (errors.Is(a.failure, errDriverGone) || errors.Is(a.failure, errNothing)) {
			continue // it ended long ago, and its folders are only waiting to be cleaned up
		}
		rep.Applications = append(rep.Applications, a.makeReport())
		for _, s := range a.skipped {
			rep.Skipped = append(rep.Skipped, report.Skipped{Path: skippedPath(s), Reason: s.Reason})
		}
		for name, seconds := range a.took {
			slowest[name] = max(slowest[name], seconds)
		}
	}
	for _, id := range r.resume.applications() {
		if !slices.ContainsFunc(rep.Applications, func(a report.Application) bool { return a.ID == id }) {
			a := report.Application{ID: id}
			r.resume.count(&a, nil, nil)
			rep.Applications = append(rep.Applications, a)
		}
	}
	rep.Phases = phaseList(slowest)
	rep.Settle()
	return rep
}

func skippedPath(s shuffle.Skipped) string {
	if s.ID.App == "" {
		return s.Folder
	}
	return s.Folder + " " + s.ID.String()
}

// phaseList puts phases into the order in which a rescue goes through them.
func phaseList(took map[string]float64) []report.Phase {
	var list []report.Phase
	for _, name := range []string{phasePin, phaseReach, phaseTell, phaseCopy, phaseEnd} {
		if seconds, ok := took[name]; ok {
			list = append(list, report.Phase{Name: name, Seconds: seconds})
		}
	}
	return list
}

// Phases of a rescue, as reports and metrics name them.
const (
	phasePin   = "pin"   // open what is committed
	phaseReach = "reach" // find the driver and a usable peer
	phaseTell  = "tell"  // mark the executors at the driver
	phaseCopy  = "copy"  // until the last acknowledgement
	phaseEnd   = "end"   // until the last executor has left
)

// phase measures one phase of an application.
func (a *application) phase(name string) (stop func()) {
	began := time.Now()
	a.enter(name)
	return func() { a.passed(name, time.Since(began)) }
}

func (a *application) enter(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.doing = name
}

func (a *application) passed(name string, took time.Duration) {
	a.metrics.Phase(name, took)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took[name] += took.Seconds()
}

// busy are the phases that the application has been through, for its report.
func (a *application) phases() []report.Phase { return phaseList(maps.Clone(a.took)) }
