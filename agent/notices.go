package agent

import (
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// errWithdrawn ends a rescue whose notice was taken back before anybody was told.
var errWithdrawn = errors.New("the notice was withdrawn before anybody was told")

// reasons are the notices that a rescue is for. Guarded by the rescue's lock.
type reasons struct {
	hold    []string           // ids of those that hold
	gone    []providers.Notice // those that were withdrawn
	telling bool               // somebody may have been told: that can't be taken back
	off     bool               // all are withdrawn, and nobody was told
	over    bool               // the rescue only writes its report
}

// merge takes a further notice for the same node into the running rescue; false when it asks for more
// than this rescue does.
func (r *rescue) merge(n providers.Notice) bool {
	if !r.wholeNode() || r.dryRun || r.leftover {
		return false
	}
	if !r.hold(n.ID) {
		return false
	}
	if r.deadline.Advance(n.Deadline.Add(-r.margin)) {
		r.log.Info("deadline brought forward", zap.String("notice", n.ID), zap.Time("deadline", n.Deadline))
	}
	if err := r.journal.Merged(n); err != nil {
		r.problem(err)
	}
	return true
}

func (r *rescue) hold(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reasons.off || r.reasons.over {
		return false
	}
	if !slices.Contains(r.reasons.hold, id) {
		r.reasons.hold = append(r.reasons.hold, id)
	}
	return true
}

// settle ends the time in which the rescue takes notices in.
func (r *rescue) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reasons.over = true
}

// withdraw takes a notice out. When no other is left, and nobody was told, the rescue ends and nothing was done;
// otherwise it is finished.
func (r *rescue) withdraw(n providers.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.reasons.hold, n.ID)
	if i < 0 || r.reasons.over {
		return
	}
	r.reasons.hold = slices.Delete(r.reasons.hold, i, i+1)
	r.reasons.gone = append(r.reasons.gone, n)
	switch {
	case len(r.reasons.hold) > 0:
		r.log.Info("notice withdrawn, another one holds", zap.String("notice", n.ID))
	case r.reasons.telling:
		r.log.Info("notice withdrawn too late: the rescue is finished", zap.String("notice", n.ID))
	default:
		r.log.Info("notice withdrawn", zap.String("notice", n.ID))
		r.reasons.off = true
		r.stopCopying()
	}
}

// mayTell has to be asked before anybody is told: from then on the rescue is finished, whatever comes.
func (r *rescue) mayTell() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reasons.off {
		return errWithdrawn
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
