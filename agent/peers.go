package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/peer"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

const checkTimeout = 2 * time.Second

// usePeers makes the living peers destinations of the engine: those in use stay, new ones are checked
// (they must answer as the executor that the driver says they are), and at most migrate.maxPeers are taken.
// The driver lists an executor that has died for a while; the engine knows better. It returns how many there are that take outputs.
func (a *application) usePeers(ctx context.Context, living []java.BlockManagerID) int {
	living = slices.DeleteFunc(living, func(id java.BlockManagerID) bool { return a.engine.Gone(targetOf(id)) })
	chosen := a.chooseSpared(ctx, living)
	chosen = append(chosen, a.doomedInUse(living)...)
	var checks errgroup.Group
	checks.SetLimit(len(chosen) + 1)
	ok := make([]*peer.Peer, len(chosen))
	for i, id := range chosen {
		checks.Go(func() error {
			ok[i] = a.checked(ctx, targetOf(id))
			return nil
		})
	}
	_ = checks.Wait()
	n := a.replacePeers(ctx, ok)
	a.list()
	return n
}

// replacePeers takes the checked ones (nil for one that failed) into use and closes those that are no longer among them, unless
// ctx has ended: then nobody knows.
func (a *application) replacePeers(ctx context.Context, ok []*peer.Peer) int {
	at := a.links()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.willing, a.leaving = nil, nil
	now := map[migrate.Target]*peer.Peer{}
	use := func(p *peer.Peer) {
		t := p.Target()
		now[t] = p
		if a.doomed[t] == "" {
			a.willing = append(a.willing, a.offer(p, at))
		} else {
			a.leaving = append(a.leaving, a.offer(p, at))
		}
	}
	for _, p := range ok {
		if p != nil {
			use(p)
		}
	}
	for t, p := range a.peers {
		switch {
		case now[t] != nil:
		case ctx.Err() != nil:
			use(p)
		default:
			a.log.Info("peer no longer used", zap.Stringer("peer", t))
			p.Close()
		}
	}
	a.peers = now
	for t := range now {
		id := java.BlockManagerID{Executor: t.Executor, Host: t.Host, Port: t.Port}
		if !slices.Contains(a.asks, id) {
			a.asks = append(a.asks, id)
		}
	}
	return len(a.willing)
}

// checked is the peer at a target: the one in use, or a new one that has answered for itself.
func (a *application) checked(ctx context.Context, t migrate.Target) *peer.Peer {
	a.mu.Lock()
	p := a.peers[t]
	a.mu.Unlock()
	if p != nil {
		return p
	}
	m := a.cfg.Migrate
	p = peer.New(peer.Options{
		Target: t, App: a.id, Dialect: a.dialect, Dialer: a.dialer,
		Connections: m.Connections, Stall: m.Stall, DialTimeout: m.DialTimeout,
	})
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := p.Check(ctx)
	a.mu.Lock()
	a.silent[t] = err != nil
	a.mu.Unlock()
	if err != nil {
		a.log.Info("peer does not answer for itself", zap.Stringer("peer", t), zap.Error(err))
		p.Close()
		return nil
	}
	a.log.Info("peer in use", zap.Stringer("peer", t))
	return p
}

// choose keeps the peers in use that still live and fills up with others, on other host names first, and those last that did not
// answer or whose nodes go. Which others is decided by a hash with this node's name, so that nodes that go at once do not all pick the
// same few.
func (a *application) choose(living []java.BlockManagerID) []java.BlockManagerID {
	a.mu.Lock()
	defer a.mu.Unlock()
	rank := func(id java.BlockManagerID) (int, uint64) {
		h := fnv.New64a()
		_, _ = h.Write([]byte(a.cfg.Node.Name + "\x00" + id.Executor + "\x00" + id.Host + strconv.Itoa(id.Port)))
		class := 1
		switch {
		case a.silent[targetOf(id)], a.doomed[targetOf(id)] != "":
			class = 3
		case a.peers[targetOf(id)] != nil:
			class = 0
		case a.isHere(id.Host):
			class = 2
		}
		return class, h.Sum64()
	}
	sorted := slices.Clone(living)
	slices.SortFunc(sorted, func(x, y java.BlockManagerID) int {
		cx, hx := rank(x)
		cy, hy := rank(y)
		if cx != cy {
			return cx - cy
		}
		if hx < hy {
			return -1
		}
		return 1
	})
	return sorted[:min(len(sorted), a.cfg.Migrate.MaxPeers)]
}

// refreshPeers asks the driver again and again who lives, so that a peer that has gone or is leaving
// too gets no more outputs, and a new one is used. When the driver itself has gone, which is believed the second time, it
// calls giveUp: nothing is worth saving any more.
func (a *application) refreshPeers(ctx context.Context, giveUp func()) {
	missed := false
	for pause(ctx, refreshEvery) == nil {
		list, err := a.livingPeers(ctx)
		switch {
		case errors.Is(err, errDriverGone) && missed:
			a.fail(err)
			giveUp()
			return
		case err != nil:
			missed = errors.Is(err, errDriverGone)
			a.log.Info("list of peers not refreshed", zap.Error(err))
		default:
			missed = false
			a.refresh(ctx, list)
		}
	}
}

// refresh takes the peers that live now into use. The dialect may still have to be proved where the rescue began
// without any.
func (a *application) refresh(ctx context.Context, list []java.BlockManagerID) {
	switch {
	case !a.cfg.Uses(config.DestinationPeers):
	case a.proved:
		a.usePeers(ctx, list)
	case len(list) > 0:
		if err := a.provePeers(ctx, list); err != nil {
			a.log.Info("peers not in use", zap.Error(err))
		}
	}
}

const (
	// costsAfter is how long outputs are copied by their size alone. What they would cost to recompute takes the
	// driver more time to say than the order of a short rescue is worth, and it has to hear of every copy meanwhile.
	costsAfter = 2 * time.Second
	// littleTime is what the shortest notices leave. Then not all may be saved, and what is begun first is what is: the
	// driver is asked at once, and the first copies wait for its answer, if only for costsPatience.
	littleTime    = time.Minute
	costsPatience = time.Second
)

func hasLittleTime(ctx context.Context) bool {
	until, bounded := ctx.Deadline()
	return bounded && time.Until(until) < littleTime
}

// awaitFirstCosts lets the first copies be the most valuable ones where time is short.
func (a *application) awaitFirstCosts(ctx context.Context, learned <-chan struct{}) {
	if !hasLittleTime(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, costsPatience)
	defer cancel()
	select {
	case <-learned:
	case <-ctx.Done():
	}
}

// learnCosts asks the driver's REST server what the outputs would cost to recompute: for the order when the
// rescue takes its time or has little, else for the report when the executors have left. The answer may come late or
// never.
func (a *application) learnCosts(ctx context.Context, left <-chan struct{}) {
	after := costsAfter
	if hasLittleTime(ctx) {
		after = 0
	}
	short, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	select {
	case <-left:
	case <-short.Done():
	}
	for a.restServer() == nil {
		if pause(ctx, readingInterval) != nil {
			return
		}
	}
	tasks, err := a.restServer().TaskCosts(ctx, taskLimit)
	if err != nil {
		a.log.Info("task list not available: small outputs go first", zap.Error(err))
	}
	costs := make(map[int64]time.Duration, len(tasks))
	for id, t := range tasks {
		costs[id] = t.Duration
	}
	a.engine.SetCosts(costs)
	a.mu.Lock()
	a.tasks = tasks
	a.mu.Unlock()
}

// awaitCosts lets a question that was asked be answered, which taskLimit bounds.
func (a *application) awaitCosts(ctx context.Context, learned <-chan struct{}) {
	if a.restServer() == nil {
		return
	}
	select {
	case <-learned:
	case <-ctx.Done():
	}
}
