package agent

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate"
)

// lossPatience is how long the driver has to notice that the executors have left.
const lossPatience = 10 * time.Second

// announceMoved tells the driver once more of outputs that other executors had made, after it has lost
// the ones here. Such an output may have come here by a recovery: its executor was lost, and the driver adopted a
// copy of it afterwards. From then on the driver ignores every move of it (ShuffleStatus.updateMapOutput forgets
// to note the map id again that removeOutputsByFilter has dropped, since SPARK-48394 in 3.5.2 and 4.0), until it
// has lost the executor that holds it: then it adopts the copy that is announced next.
func (a *application) announceMoved(ctx context.Context) {
	members := a.snapshot()
	if len(members) == 0 || !slices.ContainsFunc(a.engine.Results(), a.moved) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(2*lossPatience, a.untilTaken()))
	defer cancel()
	a.awaitLoss(ctx, members)
	if err := a.engine.Announce(ctx, a.moved); err != nil {
		a.log.Warn("outputs that came from elsewhere not announced again", zap.Error(err))
	}
}

// moved is true for a saved output that is known to be made by an executor elsewhere. One whose task is not in the
// part of the driver's list that was asked for is taken for made here, as nearly all are.
func (a *application) moved(r migrate.Result) bool {
	if r.State != migrate.Saved || waits(r.Location) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	task, known := a.tasks[r.Output.ID.Map]
	return known && !slices.ContainsFunc(a.members, func(m *member) bool { return m.ID == task.Executor })
}

// awaitLoss returns when the driver no longer lists the members that have ended.
func (a *application) awaitLoss(ctx context.Context, members []*member) {
	ctx, cancel := context.WithTimeout(ctx, min(lossPatience, a.untilTaken()/2))
	defer cancel()
	for _, m := range members {
		m.mu.Lock()
		ended, at := m.ended, m.endedAt
		m.mu.Unlock()
		if ended && !a.activity.lost(ctx, m.ID, at) {
			a.log.Info("the driver still lists an executor that has ended", zap.String("executor", m.ID))
			return
		}
	}
}
