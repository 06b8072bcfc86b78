package agent

import (
	"context"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// rehearsal is the place of drills that only look. It is beside that of the rescues: neither waits for the other.
type rehearsal struct {
	done    chan struct{} // gets a value when the running one has ended
	busy    bool
	waiting []providers.Notice
}

// rehearse begins the next one if none runs.
func (d *dispatcher) rehearse(ctx context.Context) {
	for !d.rehearsal.busy && len(d.rehearsal.waiting) > 0 {
		n := d.rehearsal.waiting[0]
		d.rehearsal.waiting = d.rehearsal.waiting[1:]
		r, err := d.Agent.begin(order{notices: []providers.Notice{n}, dryRun: true})
		if err != nil {
			d.log.Error("drill not begun", zap.String("notice", n.ID), zap.Error(err))
			continue
		}
		d.rehearsal.busy = true
		d.helpers.Go(func() {
			if _, err := d.carryOut(ctx, r); err != nil {
				r.log.Error("drill failed", zap.Error(err))
			}
			d.rehearsal.done <- struct{}{}
		})
	}
}
