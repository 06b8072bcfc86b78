package agent

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
)

// observer writes what the engine does into the journal, the metrics and the log. It is called from one goroutine.
type observer struct{ app *application }

func (o *observer) Saved(out *migrate.Output, at migrate.Location, _ time.Duration, tries int) {
	if waits(at) {
		o.app.metrics.Stored(out.Bytes())
		o.check(o.app.journal.Stored(out.ID, out.Bytes(), at.Target))
	} else {
		o.app.metrics.Saved(out.Bytes(), at.Target)
		o.check(o.app.journal.Saved(out.ID, out.Bytes(), at.Target))
		if o.app.salvage != nil {
			o.app.salvage.settle(out.ID, true)
		}
	}
	if tries > 1 {
		o.app.log.Info("saved after retries", zap.Stringer("output", out.ID), zap.Stringer("at", at.Target), zap.Int("tries", tries))
	}
	o.app.mu.Lock()
	defer o.app.mu.Unlock()
	o.app.lastSaved = time.Now()
	if waits(at) {
		return
	}
	if o.app.lastSaved.Sub(out.Committed) <= freshCommit {
		o.app.fresh.Store(true)
	}
	if !o.app.anySaved && o.app.resume.replay == nil {
		o.app.anySaved = true
		o.app.metrics.Reacted(o.app.lastSaved.Sub(o.app.notice.Seen))
	}
}

func (o *observer) Retried(out *migrate.Output, to migrate.Target, err error) {
	o.app.metrics.Retried(migrate.KindOf(err))
	o.app.log.Debug("retry", zap.Stringer("output", out.ID), zap.Stringer("to", to), zap.Error(err))
}

func (o *observer) Unsaved(out *migrate.Output, at migrate.Location) {
	if waits(at) {
		o.check(o.app.journal.Unsaved(out.ID, "an executor is to take it: "+at.Target.String()))
		return
	}
	o.app.metrics.Unsaved(out.Bytes())
	if o.app.salvage != nil {
		o.app.salvage.settle(out.ID, false)
	}
	o.check(o.app.journal.Unsaved(out.ID, "its destination has gone: "+at.Target.String()))
}

// Lost is final, except when the agent itself is being stopped: the next run of it tries again.
func (o *observer) Lost(out *migrate.Output, reason migrate.Reason, err error) {
	if o.app.interrupted() {
		return
	}
	if reason != migrate.ReasonCorrupt {
		o.app.mu.Lock()
		o.app.anyLost = true
		o.app.mu.Unlock()
	}
	o.app.metrics.Lost(out.Bytes())
	o.check(o.app.journal.Lost(out.ID, out.Bytes(), string(reason)))
	o.app.log.Warn("lost", zap.Stringer("output", out.ID), zap.String("reason", string(reason)), zap.Error(err))
}

// check reports a journal that can't be written, once per rescue.
func (o *observer) check(err error) {
	if err != nil {
		o.app.problem(err)
	}
}

// makeReport is this application's part of the report. Nothing runs for it any more.
func (a *application) makeReport() report.Application {
	results := a.engine.Results()
	a.mu.Lock()
	defer a.mu.Unlock()
	rep := report.Application{ID: a.id, Name: a.props["spark.app.name"], Notes: slices.Clone(a.notes), Phases: a.phases()}
	if a.failure != nil {
		rep.Error = a.failure.Error()
	}
	if len(a.members) > 0 {
		rep.Driver, rep.Spark = a.members[0].DriverURL, a.members[0].Spark
	} else if a.left != nil {
		rep.Driver, rep.Spark = a.left.DriverURL, a.left.Spark
	}
	rep.Recompute.Known = len(a.tasks) > 0
	outputs, executors := make(map[migrate.OutputID]bool, len(results)), map[string]bool{}
	here := false
	for _, res := range results {
		outputs[res.Output.ID] = true
		a.count(&rep, res)
		here = here || res.State == migrate.Saved && res.Location.Target.URL == "" && a.isHere(res.Location.Target.Host)
	}
	for _, m := range a.members {
		executors[m.ID] = true
		rep.Executors = append(rep.Executors, m.report(a.began))
	}
	for _, at := range a.resume.count(&rep, outputs, executors) {
		here = here || a.isHere(at.Host)
	}
	if text := objectsTrouble(a.noObjects); text != "" && !a.dryRun {
		rep.Notes = append(rep.Notes, text)
	}
	if here && a.replacement() == nil {
		rep.Notes = append(rep.Notes, noteSameHost)
	}
	return rep
}

// noteSameHost: Spark runs the maps of a running stage again when their executor is lost and their outputs lie on
// its host name (TaskSetManager.executorLost).
const noteSameHost = "some map outputs went to executors on this host: that protects stages whose maps are all done, not one that " +
	"still runs, and nothing at all when the whole node goes"

func (a *application) count(rep *report.Application, res migrate.Result) {
	rep.Retries += max(res.Tries-1, 0)
	counts := res.State == migrate.Saved && !waits(res.Location)
	if counts {
		rep.Recompute.Avoided += res.Cost.Seconds()
	} else {
		rep.Recompute.Incurred += res.Cost.Seconds()
	}
	switch {
	case res.State == migrate.Saved && !counts:
		rep.AddStored(res.Location.Target.String(), res.Output.Bytes())
	case counts:
		rep.AddSaved(res.Location.Target.String(), res.Output.Bytes())
	case a.dryRun && a.failure == nil && a.objects != nil && len(a.willing) == 0 && !a.objectsCount():
		rep.Found.Add(res.Output.Bytes())
		rep.Stored.Add(res.Output.Bytes())
	case a.dryRun && a.failure == nil:
		rep.Found.Add(res.Output.Bytes())
		rep.Saved.Add(res.Output.Bytes())
	default:
		reason := string(res.Reason)
		if res.Err != nil {
			reason += ": " + firstLine(res.Err.Error())
		}
		rep.AddLost(res.Output.ID.String(), reason, res.Output.Bytes())
	}
}

func (m *member) report(began time.Time) report.Executor {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := report.Executor{
		ID: m.ID, Host: m.Host, Trigger: m.trigger, Told: m.told, Ended: m.ended, EndedBy: m.endedHow, RDDBlocksLost: m.rddBlocks,
	}
	if m.ended {
		e.EndedAfterSeconds = m.endedAt.Sub(began).Seconds()
	}
	return e
}

func firstLine(s string) string {
	for i, c := range s {
		if c == '\n' {
			return s[:i]
		}
	}
	return s
}

// Progress is how far the running rescue is, over all applications.
type Progress struct {
	ID               string        `json:"id"`
	Deadline         time.Time     `json:"deadline"`
	Found            report.Amount `json:"found"`
	Saved            report.Amount `json:"saved"`
	Lost             report.Amount `json:"lost"`
	BytesPerSecond   float64       `json:"bytesPerSecond"`
	OutputsPerSecond float64       `json:"outputsPerSecond"`
	// Left is how long the rest will take at this speed; 0 when nothing is left, negative when unknown.
	Left time.Duration `json:"left"`
}

// now sums the engines' progress.
func (r *rescue) now() Progress {
	p := Progress{ID: r.journal.ID(), Deadline: r.taken()}
	for _, a := range r.applications() {
		e := a.engine.Progress()
		p.Found = plus(p.Found, e.Found)
		p.Saved = plus(p.Saved, e.Saved)
		p.Lost = plus(p.Lost, e.Lost)
		p.BytesPerSecond += e.BytesPerSecond
		p.OutputsPerSecond += e.OutputsPerSecond
		p.Left = max(p.Left, e.Left)
	}
	return p
}

func plus(a report.Amount, c migrate.Count) report.Amount {
	return report.Amount{Outputs: a.Outputs + c.Outputs, Bytes: a.Bytes + c.Bytes}
}

var _ migrate.Observer = (*observer)(nil)
