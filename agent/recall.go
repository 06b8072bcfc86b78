package agent

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	// recallPatience is how long a rescue that has told nobody waits, when it is taken up, for its sources to say whether its
	// notices still hold; recallShare keeps that from eating a short notice.
	recallPatience = 2 * time.Second
	recallShare    = 10
	recallLook     = 20 * time.Millisecond
)

// recall tells sources, before they run, of the notices for which an earlier run of the agent has begun a rescue and told
// nobody yet: one may have been withdrawn while no agent ran.
func (a *Agent) recall(sources []providers.Source) {
	for _, s := range sources {
		own := slices.DeleteFunc(slices.Clone(a.recalled), func(n providers.Notice) bool { return n.Source != s.Name() })
		to, can := s.(providers.Recaller)
		if can && len(own) > 0 && to.Recall(own) {
			a.mu.Lock()
			a.recalls = append(a.recalls, s.Name())
			a.mu.Unlock()
		}
	}
}

// awaitSources returns when the sources of an earlier run's rescue have answered, so that what was withdrawn meanwhile is
// known before anybody is told. A source that is away holds it up for a moment only: then it goes on as it was begun.
func (d *dispatcher) awaitSources(ctx context.Context, replay *journal.Replay) {
	list := holding(replay)
	if len(replay.Told) > 0 || len(list) == 0 {
		return
	}
	left := time.Until(aimOf(time.Now(), list).until)
	ctx, cancel := context.WithTimeout(ctx, max(min(recallPatience, left/recallShare), 0))
	defer cancel()
	waited := false
	for slices.ContainsFunc(list, d.unheard) && !d.stopping.Load() {
		waited = true
		if pause(ctx, recallLook) != nil {
			d.log.Warn("a rescue is taken up although it is not known whether its notices still hold", zap.String("rescue", replay.ID))
			return
		}
	}
	if waited {
		_ = pause(ctx, recallLook) // what the answer says is on its way
	}
}

// unheard is true for a notice whose source could say that it has ended, and has not answered yet.
func (a *Agent) unheard(n providers.Notice) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.sources, func(s providers.Source) bool { return s.Name() == n.Source })
	if i < 0 {
		return a.searching
	}
	sight, can := a.sources[i].(providers.Sight)
	return can && slices.Contains(a.recalls, n.Source) && sight.Health().LastAnswer.IsZero()
}
