package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/gentle"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
)

const (
	mirrorBatch   = 64               // outputs that one manifest announces
	mirrorGather  = 2 * time.Second  // how long new outputs are gathered, so that one manifest lists several
	mirrorTidy    = time.Minute      // how often outputs are forgotten that Spark has removed
	mirrorWorkers = 2                // outputs on their way at once
	mirrorPut     = 30 * time.Minute // for one output: the bandwidth may be small
	mirrorCosts   = 10 * time.Minute // how often the driver is asked what outputs are worth
	mirrorOwners  = time.Minute      // how often an executor is asked for its folders that does not answer
	mirrorMost    = 200_000          // outputs of one application that are kept in mind: each takes some 500 bytes
)

// copies is where an application's copies lie, as mirrors and salvages see it.
type copies struct {
	dest    migrate.Destination // stores, and tells nobody
	catalog *catalog.Catalog
	layout  catalog.Layout
	app     catalog.Application
	// costs is what outputs would cost to make again, by map id; nil when that is not known.
	costs func(ctx context.Context) map[int64]time.Duration
	close func()
}

// mirrored is one application whose outputs on this node are copied ahead.
type mirrored struct {
	id      string
	node    string
	version string // of the agent
	proc    string
	log     *zap.Logger
	metrics *status.Mirror
	readers *gentle.Readers
	open    func(ctx context.Context, e executor.Executor) (*copies, error)
	// whose names the folders of an executor; nil when it does not answer.
	whose  func(ctx context.Context, e executor.Executor) map[string]bool
	stored *storedSet

	cancel context.CancelFunc
	done   chan struct{}
	poke   chan struct{} // members have changed

	mu      sync.Mutex
	members []executor.Executor

	// Only run uses what follows.
	store   *shuffle.Store
	added   map[int]bool               // processes whose files the store knows
	folders map[string]map[string]bool // by executor
	knocked map[string]time.Time       // when executors were last asked, by id
	backlog []*migrate.Output
	full    bool      // more outputs were found than are kept in mind
	asked   time.Time // when the driver was last asked for costs
	price   map[int64]time.Duration
}

// begin starts to copy; stop ends it.
func (a *mirrored) begin(ctx context.Context) {
	ctx, a.cancel = context.WithCancel(ctx)
	a.done, a.poke, a.stored = make(chan struct{}), make(chan struct{}, 1), newStoredSet()
	go func() {
		defer close(a.done)
		a.run(ctx)
	}()
}

// stop ends the copying. It does not wait: what is under way is broken off, and nothing depends on it.
func (a *mirrored) stop() { a.cancel() }

// saw takes in the executors that run here now.
func (a *mirrored) saw(members []executor.Executor) {
	a.mu.Lock()
	a.members = members
	a.mu.Unlock()
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

func (a *mirrored) snapshot() []executor.Executor {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.members
}

// run tries again after every trouble, in growing pauses, until ctx ends.
func (a *mirrored) run(ctx context.Context) {
	select {
	case <-a.poke: // the first executors
	case <-ctx.Done():
		return
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 2*time.Second, 5*time.Minute
	last := ""
	for {
		began := time.Now()
		err := a.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > pauses.MaxInterval {
			pauses.Reset()
		}
		if text := err.Error(); text != last {
			last = text
			a.log.Warn("no copies ahead for now", zap.Error(err))
		}
		a.metrics.Failed()
		if pause(ctx, pauses.NextBackOff()) != nil {
			return
		}
	}
}

// session copies until something fails.
func (a *mirrored) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // ends what watches folders for it
	defer cancel()
	members := a.snapshot()
	if len(members) == 0 {
		return errors.New("no executor is left here")
	}
	c, err := a.open(ctx, members[0])
	if err != nil {
		return err
	}
	defer c.close()
	if err := a.recall(ctx, c); err != nil {
		return err
	}
	// Nothing is pinned: a descriptor would keep the disk space of what Spark has removed.
	a.store, err = shuffle.Open(ctx, shuffle.Options{App: a.id, Limit: shuffle.NoPins(), Log: a.log})
	if err != nil {
		return err
	}
	defer a.store.Close()
	a.added, a.backlog, a.folders, a.knocked = map[int]bool{}, nil, map[string]map[string]bool{}, map[string]time.Time{}
	defer a.metrics.Backlog(a.id, 0, 0)
	ticks := a.store.Watch(ctx)
	tidy := time.NewTicker(mirrorTidy)
	defer tidy.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.poke:
		case _, open := <-ticks:
			if !open {
				return errors.New("its folders can't be watched any more")
			}
			if pause(ctx, mirrorGather) != nil {
				return ctx.Err()
			}
		case <-tidy.C:
			a.stored.forget(a.store.Prune())
		}
		if err := a.copyAll(ctx, c); err != nil {
			return err
		}
	}
}

// place is this node's part of the catalog.
func (a *mirrored) place() catalog.Place { return catalog.Place{App: a.id, Node: a.node} }

// recall learns what an earlier run of the agent stored.
func (a *mirrored) recall(ctx context.Context, c *copies) error {
	err := c.catalog.Stored(ctx, a.place(), c.layout, func(_ *catalog.Manifest, e catalog.Entry) error {
		a.stored.add(e.Ref, e.Bytes())
		return nil
	})
	if errors.Is(err, catalog.ErrBadDocument) {
		a.log.Warn("part of the catalog is not readable: what it lists is stored again", zap.Error(err))
		return nil
	}
	return err
}

// copyAll stores all that is there and not stored, the most valuable first, and looks for new outputs after each batch.
func (a *mirrored) copyAll(ctx context.Context, c *copies) error {
	for {
		a.look(ctx)
		waiting, bytes := totals(a.backlog)
		a.metrics.Backlog(a.id, waiting, bytes)
		if len(a.backlog) == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		a.appraise(ctx, c)
		n := min(mirrorBatch, len(a.backlog))
		batch := a.backlog[:n]
		a.backlog = a.backlog[n:]
		if err := a.copyBatch(ctx, c, batch); err != nil {
			return err
		}
	}
}

// look adds what was committed since the last look to the backlog.
func (a *mirrored) look(ctx context.Context) {
	for _, e := range a.snapshot() {
		if a.added[e.PID] {
			continue
		}
		if err := a.store.Add(shuffle.Root{Proc: a.proc, PID: e.PID, Start: e.Start, Dirs: e.LocalDirs}); err == nil {
			a.added[e.PID] = true
		}
	}
	a.askOwners(ctx)
	found, _, err := a.store.Scan(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Debug("some files can't be read", zap.Error(err))
	}
	for _, f := range found {
		switch {
		case a.stored.has(f.Output):
		case a.stored.count()+len(a.backlog) >= mirrorMost:
			a.overflows()
		default:
			f.Output.Executor = a.owner(f.Folder)
			a.backlog = append(a.backlog, f.Output)
		}
	}
}

// overflows says once that there are too many outputs.
func (a *mirrored) overflows() {
	if !a.full {
		a.full = true
		a.log.Warn("more map outputs than are copied ahead: those that come now are left to a rescue", zap.Int("copied", mirrorMost))
	}
}

// owner is the executor whose folder that is, as it said itself; "" when none has.
func (a *mirrored) owner(folder string) string {
	for id, own := range a.folders {
		if own[folder] {
			return id
		}
	}
	return ""
}

// askOwners asks the executors that have not answered yet which folders are theirs: those of one standalone worker
// share their local directories, and a salvage has to know whose outputs it looks at.
func (a *mirrored) askOwners(ctx context.Context) {
	for _, e := range a.snapshot() {
		if a.folders[e.ID] == nil && time.Since(a.knocked[e.ID]) > mirrorOwners {
			a.knocked[e.ID] = time.Now()
			if own := a.whose(ctx, e); len(own) > 0 {
				a.folders[e.ID] = own
			}
		}
	}
}

// appraise puts the backlog into the order of its value, where there is enough of it for that to matter.
func (a *mirrored) appraise(ctx context.Context, c *copies) {
	if len(a.backlog) > mirrorBatch && c.costs != nil && time.Since(a.asked) > mirrorCosts {
		a.asked, a.price = time.Now(), c.costs(ctx)
	}
	a.backlog = migrate.Plan(a.backlog, a.price, true)
}

// copyBatch lists a batch in the catalog and stores it.
func (a *mirrored) copyBatch(ctx context.Context, c *copies, batch []*migrate.Output) error {
	entries := make([]catalog.Entry, len(batch))
	for i, out := range batch {
		entries[i] = catalog.EntryOf(out)
	}
	var executors []catalog.Executor
	for _, e := range a.snapshot() {
		executors = append(executors, catalog.Executor{ID: e.ID, Host: e.Host})
	}
	m := catalog.Manifest{Agent: a.version, Node: a.node, Application: c.app, Executors: executors}
	if err := c.catalog.Write(ctx, m, entries); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	a.metrics.Requests(1)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(mirrorWorkers)
	for _, out := range batch {
		work.Go(func() error { return a.copyOne(ctx, c, out) })
	}
	return work.Wait()
}

// copyOne stores one output. One that can't be read any more is dropped: Spark has removed it.
func (a *mirrored) copyOne(ctx context.Context, c *copies, out *migrate.Output) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorPut)
	defer cancel()
	_, err := c.dest.Put(ctx, a.readers.Output(out))
	switch {
	case err == nil:
		a.stored.add(catalog.RefOf(out.ID), out.Bytes())
		a.metrics.Stored(out.Bytes(), requests(out))
		return nil
	case migrate.KindOf(err) == migrate.Corrupt:
		a.metrics.Vanished()
		return nil
	}
	return err
}

// totals are how many outputs there are, and their bytes.
func totals(outs []*migrate.Output) (n int, bytes int64) {
	for _, out := range outs {
		bytes += out.Bytes()
	}
	return len(outs), bytes
}

// requests is how many an output takes: one for each of its files.
func requests(out *migrate.Output) int {
	if out.Data == nil {
		return 1
	}
	return 2
}
