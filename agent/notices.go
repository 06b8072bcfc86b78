package agent

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

var (
	// errWithdrawn ends a rescue whose notice was taken back before anybody was told.
	errWithdrawn = errors.New("the notice was withdrawn before anybody was told")
	// errRecast keeps a rescue that goes on in another form from telling anybody before it does.
	errRecast = errors.New("what the rescue is for has changed: it goes on in a moment")
)

// reasons are the notices that a rescue is for. Guarded by the rescue's lock.
type reasons struct {
	notices []providers.Notice // all of them, in the order in which they came
	hold    []string           // ids of those that hold
	gone    []providers.Notice // those that were withdrawn
	telling bool               // somebody may have been told: that can't be taken back
	off     bool               // all are withdrawn, and nobody was told
	recast  bool               // it is interrupted, to go on for more notices or fewer
	over    bool               // the rescue only writes its report
}

// add takes a notice in, in the place of an earlier state of the same one.
func (s *reasons) add(n providers.Notice) {
	if i := s.index(n.ID); i >= 0 {
		s.notices[i] = n
		return
	}
	s.notices = append(slices.Clip(s.notices), n)
}

func (s *reasons) index(id string) int {
	return slices.IndexFunc(s.notices, func(n providers.Notice) bool { return n.ID == id })
}

// with are the notices if n were one of them. A deadline that moves away does not: what was begun for the earlier one
// goes on.
func (s *reasons) with(n providers.Notice) []providers.Notice {
	all := reasons{notices: slices.Clone(s.notices)}
	if i := all.index(n.ID); i >= 0 && all.notices[i].Deadline.Before(n.Deadline) {
		n.Deadline = all.notices[i].Deadline
	}
	all.add(n)
	return all.notices
}

// How a rescue takes a further notice.
type merging int

const (
	apart  merging = iota // it needs a rescue of its own, later
	merged                // it is part of this rescue
	wider                 // it will be, as soon as the rescue has been begun anew for it
)

// recastTime is what the interruption of a rescue and its new beginning may take: with less left it is finished as it is.
const recastTime = 2 * time.Second

// merge takes a further notice into the running rescue. One that asks for more than the rescue does, or gives it more time
// than the drill did that it was for, interrupts it: it goes on from its journal, for all of them.
func (r *rescue) merge(n providers.Notice) merging {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dryRun || r.leftover || r.reasons.off || r.reasons.over {
		return apart
	}
	if r.reasons.recast {
		return wider
	}
	all := r.reasons.with(n)
	next := aimOf(time.Now(), all)
	if !r.aim.includes(next) || next.until.After(r.taken()) {
		if r.untilTaken() < r.margin+recastTime {
			return apart
		}
		r.recast()
		return wider
	}
	r.reasons.notices = all
	if !slices.Contains(r.reasons.hold, n.ID) {
		r.reasons.hold = append(r.reasons.hold, n.ID)
	}
	if r.deadline.Advance(next.until.Add(-r.margin)) {
		r.log.Info("deadline brought forward", zap.String("notice", n.ID), zap.Time("deadline", next.until))
	}
	if err := r.journal.Merged(all[r.reasons.index(n.ID)]); err != nil {
		r.problemLocked(err)
	}
	return merged
}

// recast interrupts the rescue. It tells nobody from now on, and ends nobody.
func (r *rescue) recast() {
	r.reasons.recast = true
	r.stopped.Store(true)
	r.halt()
}

// holds is true when a notice is one of those that the rescue is for.
func (r *rescue) holds(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.reasons.hold, id)
}

func (r *rescue) isRecast() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reasons.recast
}

// settle ends the time in which the rescue takes notices in.
func (r *rescue) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reasons.over = true
}

// withdraw takes a notice out. Once somebody was told, the rescue is finished, at the deadline that it had: what is
// marked as leaving gets no work any more, so nothing is won by its staying. Before that, a rescue for no reason ends, and nothing
// was done; one whose other notices ask for less goes on for those.
func (r *rescue) withdraw(n providers.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.reasons.hold, n.ID)
	if i < 0 || r.reasons.over {
		return
	}
	r.reasons.hold = slices.Delete(r.reasons.hold, i, i+1)
	r.reasons.gone = append(r.reasons.gone, n)
	log := r.log.With(zap.String("notice", n.ID))
	switch {
	case r.reasons.telling:
		log.Info("notice withdrawn too late: the rescue is finished")
	case len(r.reasons.hold) > 0:
		log.Info("notice withdrawn, another one holds")
		r.without(n)
	default:
		log.Info("notice withdrawn")
		r.reasons.off = true
		r.stopCopying()
	}
}

// without makes the rescue one for the notices that are left.
func (r *rescue) without(n providers.Notice) {
	left := slices.DeleteFunc(slices.Clone(r.reasons.notices), func(m providers.Notice) bool {
		return !slices.Contains(r.reasons.hold, m.ID)
	})
	next := aimOf(time.Now(), left)
	if err := r.journal.Withdrawn(n); err != nil {
		r.problemLocked(err)
		return // it would come back with the journal
	}
	r.reasons.notices = left
	if !next.includes(r.aim) || next.until.After(r.taken()) {
		r.recast()
	}
}

// mayTell has to be asked before anybody is told: from then on the rescue is finished, whatever comes.
func (r *rescue) mayTell() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.reasons.off:
		return errWithdrawn
	case r.reasons.recast:
		return errRecast
	}
	r.reasons.telling = true
	return nil
}

// calledOff is true when the notice was withdrawn in time.
func (r *rescue) calledOff() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reasons.off
}

// recordWithdrawn makes the journal forget the notices, so that they are acted on when they come again.
func (r *rescue) recordWithdrawn() error {
	r.mu.Lock()
	gone := slices.Clone(r.reasons.gone)
	r.mu.Unlock()
	var all []error
	for _, n := range gone {
		all = append(all, r.journal.Withdrawn(n))
	}
	return errors.Join(all...)
}

// main is the notice that the rescue is for in the first place, and whether it is a drill.
func (r *rescue) main() providers.Notice {
	main, _ := r.split()
	return main
}

// split tells the first real notice from the others. A rescue that only drills are for is a drill.
func (r *rescue) split() (main providers.Notice, others []providers.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.reasons.notices
	i := max(slices.IndexFunc(all, func(n providers.Notice) bool { return !n.Drill }), 0)
	return all[i], slices.Concat(all[:i], all[i+1:])
}
