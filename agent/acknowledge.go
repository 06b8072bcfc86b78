package agent

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/providers"
)

// acknowledgeTimeout is for one request; acknowledgePause is the longest pause between two.
const (
	acknowledgeTimeout = 10 * time.Second
	acknowledgePause   = 5 * time.Second
)

// acknowledge tells the clouds of the rescue's notices that the node may go, where the configuration asks for it. That can't
// be taken back, so it needs a rescue after which nothing is left on this node for sure. A request that fails is made again until
// the deadline; from then on the node goes anyway.
func (a *Agent) acknowledge(ctx context.Context, r *rescue, rep *report.Report) {
	if !r.wholeNode() || r.leftover || !allSafe(rep) {
		return
	}
	for _, n := range r.holding() {
		source := a.acknowledger(n.Source)
		if source == nil || n.Drill || !groupOf(n).whole() {
			continue
		}
		err := retryAcknowledge(ctx, source, n.ID, r.taken())
		entry := report.Acknowledgement{Notice: n.ID, Source: n.Source, At: time.Now()}
		if err != nil {
			entry.Error = err.Error()
			r.log.Error("notice not acknowledged: the node goes at its deadline", zap.String("notice", n.ID), zap.Error(err))
		} else {
			r.log.Info("notice acknowledged: the node may go now", zap.String("notice", n.ID))
		}
		a.metrics.Acknowledged(n.Source, err == nil)
		rep.Acknowledged = append(rep.Acknowledged, entry)
	}
	if len(rep.Acknowledged) > 0 {
		if err := report.Write(a.cfg.State, rep); err != nil {
			r.log.Error("report without what was acknowledged", zap.Error(err))
		}
	}
}

// allSafe is true when a report leaves no doubt: everything that was found is saved, everybody who was to leave has left, and
// nothing went wrong on the way that could have hidden something.
func allSafe(rep *report.Report) bool {
	if rep.Outcome != report.All && rep.Outcome != report.Nothing || len(rep.Problems) > 0 || len(rep.Skipped) > 0 ||
		rep.DryRun || rep.Interrupted || rep.Withdrawn || rep.Notice.Drill {
		return false
	}
	for _, app := range rep.Applications {
		if app.Error != "" {
			return false
		}
		for _, e := range app.Executors {
			if !e.Ended {
				return false
			}
		}
	}
	return true
}

// acknowledger is the running source with this name, when it can acknowledge; sources that are not to do so can't.
func (a *Agent) acknowledger(source string) providers.Acknowledger {
	for _, s := range a.watched() {
		if ack, ok := s.(providers.Acknowledger); ok && s.Name() == source {
			return ack
		}
	}
	return nil
}

func retryAcknowledge(ctx context.Context, to providers.Acknowledger, id string, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	pauses := backoff.NewExponentialBackOff()
	pauses.MaxInterval = acknowledgePause
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		one, cancel := context.WithTimeout(ctx, acknowledgeTimeout)
		defer cancel()
		err := to.Acknowledge(one, id)
		if err != nil {
			last = err
		}
		if errors.Is(err, providers.ErrFinal) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	if err != nil && last != nil {
		return last // says more than that the time is over
	}
	return err
}

// holding are the notices that the rescue was for in the end.
func (r *rescue) holding() []providers.Notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []providers.Notice
	for _, n := range r.reasons.notices {
		for _, id := range r.reasons.hold {
			if id == n.ID {
				list = append(list, n)
			}
		}
	}
	return list
}
