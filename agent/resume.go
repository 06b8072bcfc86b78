package agent

import (
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/migrate"
)

// resume is what an earlier run of the agent had already done for this rescue; the zero value is nothing.
type resume struct{ replay *journal.Replay }

// saved is where an output was acknowledged.
func (r resume) saved(id migrate.OutputID) (migrate.Target, bool) {
	if r.replay == nil {
		return migrate.Target{}, false
	}
	s, ok := r.replay.Saved[id]
	return s.Target, ok
}

// allSaved are all outputs that an earlier run had acknowledged.
func (r resume) allSaved() map[migrate.OutputID]journal.Saved {
	if r.replay == nil {
		return nil
	}
	return r.replay.Saved
}

// told is the trigger by which the driver was told of an executor, and when.
func (r resume) told(app, id string) (trigger string, at time.Time, ok bool) {
	t := r.entry(app, id)
	return t.Trigger, t.At, !t.At.IsZero()
}

// intent is the trigger that was chosen for an executor, whether or not it was carried out: no other may
// be used after it.
func (r resume) intent(app, id string) string { return r.entry(app, id).Trigger }

func (r resume) entry(app, id string) journal.Told {
	if r.replay == nil {
		return journal.Told{}
	}
	return r.replay.Told[journal.Executor{App: app, ID: id}]
}

// anyTold is true when a driver may have been told of anything.
func (r resume) anyTold() bool { return r.replay != nil && len(r.replay.Told) > 0 }
