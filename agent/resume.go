package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
)

// resume is what was done before: by an earlier run of the agent for this rescue, and for its executors by
// earlier rescues. The zero value is nothing.
type resume struct {
	replay *journal.Replay // nil for a new rescue
	told   map[journal.Executor]journal.Told
}

// saved is where an output was acknowledged.
func (r resume) saved(id migrate.OutputID) (migrate.Location, bool) {
	if r.replay == nil {
		return migrate.Location{}, false
	}
	s, ok := r.replay.Saved[id]
	return migrate.Location{Target: s.Target, Announced: !s.Waiting}, ok
}

// savedAt is when that was.
func (r resume) savedAt(id migrate.OutputID) time.Time {
	if r.replay == nil {
		return time.Time{}
	}
	return r.replay.Saved[id].At
}

// intent is the trigger that was chosen for an executor, whether or not it was carried out: no other may
// be used after it.
func (r resume) intent(app, id string) string { return r.entry(app, id).Trigger }

func (r resume) entry(app, id string) journal.Told { return r.told[journal.Executor{App: app, ID: id}] }

// applications are those that an earlier run of the agent did something for.
func (r resume) applications() []string {
	if r.replay == nil {
		return nil
	}
	ids := map[string]bool{}
	for e := range r.replay.Told {
		ids[e.App] = true
	}
	for id := range r.replay.Saved {
		ids[id.App] = true
	}
	for id := range r.replay.Lost {
		ids[id.App] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// count adds to an application's report what an earlier run of the agent did for outputs and executors that
// are not here any more, and returns where the saved ones are.
func (r resume) count(rep *report.Application, outputs map[migrate.OutputID]bool, executors map[string]bool) (places []migrate.Target) {
	if r.replay == nil {
		return nil
	}
	at := map[migrate.Target]bool{}
	for id, s := range r.replay.Saved {
		switch {
		case id.App != rep.ID || outputs[id]:
		case s.Waiting:
			rep.AddStored(s.Target.String(), s.Bytes)
		default:
			rep.AddSaved(s.Target.String(), s.Bytes)
			at[s.Target] = true
		}
	}
	for id, l := range r.replay.Lost {
		if id.App == rep.ID && !outputs[id] {
			rep.AddLost(id.String(), l.Reason, l.Bytes)
		}
	}
	for who, told := range r.replay.Told {
		if who.App != rep.ID || executors[who.ID] {
			continue
		}
		e := report.Executor{ID: who.ID, Trigger: told.Trigger, Told: !told.At.IsZero(), RDDBlocksLost: -1}
		if ended := r.replay.Ended[who]; !ended.At.IsZero() {
			e.Ended, e.EndedBy = true, ended.How
			e.EndedAfterSeconds = ended.At.Sub(r.replay.Created).Seconds()
		}
		rep.Executors = append(rep.Executors, e)
	}
	return slices.Collect(maps.Keys(at))
}
