package agent

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/peer"
)

// holdersAnswer returns when every peer that holds outputs has answered, just before an executor is ended: what is on
// its disk is the only other copy. What a silent peer holds is copied once more to the others, because reducers would wait
// for it until a network timeout.
func (a *application) holdersAnswer(ctx context.Context) error {
	a.checking.Lock()
	defer a.checking.Unlock()
	for {
		silent := a.silentHolders(ctx)
		if len(silent) == 0 {
			return ctx.Err()
		}
		for t, err := range silent {
			a.doubt(t, err)
		}
		if err := a.settled(ctx); err != nil {
			return err
		}
		if err := pause(ctx, retryPause); err != nil {
			return err
		}
	}
}

func (a *application) doubt(t migrate.Target, err error) {
	if migrate.KindOf(err) == migrate.Gone {
		a.engine.Fail(t)
		return
	}
	n := a.engine.Doubt(t)
	a.log.Warn("peer holds outputs and does not answer", zap.Stringer("peer", t), zap.Int("copiedAgain", n), zap.Error(err))
}

// silentHolders are the peers that hold outputs and do not answer for themselves, with the reason.
func (a *application) silentHolders(ctx context.Context) map[migrate.Target]error {
	var mu sync.Mutex
	var checks sync.WaitGroup
	silent := map[migrate.Target]error{}
	for t, p := range a.holders() {
		checks.Go(func() {
			if err := answers(ctx, p); err != nil && ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				silent[t] = err
			}
		})
	}
	checks.Wait()
	return silent
}

// holders are the peers in use that hold outputs.
func (a *application) holders() map[migrate.Target]*peer.Peer {
	held := map[migrate.Target]bool{}
	for _, r := range a.engine.Results() {
		if r.State == migrate.Saved {
			held[r.Location.Target] = true
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	holders := map[migrate.Target]*peer.Peer{}
	for t, p := range a.peers {
		if held[t] {
			holders[t] = p
		}
	}
	return holders
}

// answers asks a peer, a second time when the first ended early: an idle connection may have been cut.
func answers(ctx context.Context, p *peer.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := p.Check(ctx)
	if err != nil && ctx.Err() == nil {
		err = p.Check(ctx)
	}
	return err
}
