package agent

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	// pinLook is how often new outputs are opened, and those let go that were gone at the last look already.
	pinLook = 5 * time.Second
	// pinAlive is how often it is looked whether the executors still run. At the second look without any, all is let go.
	pinAlive = time.Second
	// pinHandover is how long a rescue waits for what is open: a file system may hang.
	pinHandover = time.Second
	// pinKeep is how long executors are left alone after a rescue, which they may be about to follow, and how long what a
	// rescue has left open waits for the next one.
	pinKeep = 15 * time.Second
	// pinShare is the part of the cap of pinned files, one in so many, from which on nothing more is opened ahead. One look
	// may go beyond it.
	pinShare = 2
)

// pins keeps the map outputs of this node open while a notice says that it may go soon, as when somebody has cordoned it:
// the next thing may be that a pod is deleted, and its executor removes its files as it ends. Nobody is told anything, and
// nothing is copied. A rescue of living executors takes over what is open of them.
type pins struct {
	proc    string
	limit   *shuffle.Limit
	metrics *status.Metrics
	log     *zap.Logger
	running sync.WaitGroup // of groups

	mu     sync.Mutex
	wanted map[string]bool // ids of the notices that ask for it
	groups map[pinGroup]*pinned
	taken  map[int]rescued // by process
	kept   []keptOpen
	closed bool
}

// pinGroup are executors of one application that see the same files: those of one pod, or all of a standalone worker.
type pinGroup struct{ app, mounts string }

// rescued are processes whose files are a rescue's own business, or were just now: they may be about to end.
type rescued struct {
	by    int // so many rescues
	freed time.Time
}

func (r rescued) holds() bool { return r.by > 0 || time.Since(r.freed) < pinKeep }

// keptOpen is what a rescue has left open that is begun anew.
type keptOpen struct {
	app   string
	store *shuffle.Store
	since time.Time
}

func newPins(proc string, limit *shuffle.Limit, m *status.Metrics, log *zap.Logger) *pins {
	return &pins{
		proc: proc, limit: limit, metrics: m, log: log,
		wanted: map[string]bool{}, groups: map[pinGroup]*pinned{}, taken: map[int]rescued{},
	}
}

// want takes a notice that says that this node may soon go, or that this is over.
func (p *pins) want(n providers.Notice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.Withdrawn {
		delete(p.wanted, n.ID)
	} else {
		p.wanted[n.ID] = true
	}
}

// saw takes in what runs on this node now. ctx is the life of what it starts.
func (p *pins) saw(ctx context.Context, list []executor.Executor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.taken, func(_ int, r rescued) bool { return !r.holds() })
	p.expire()
	here := map[pinGroup][]executor.Executor{}
	if len(p.wanted) > 0 {
		for _, e := range list {
			g := pinGroup{e.App, p.mountsOf(e.PID)}
			here[g] = append(here[g], e)
		}
	}
	for g, held := range p.groups {
		if len(here[g]) == 0 || isClosed(held.done) {
			held.cancel()
			delete(p.groups, g)
		}
	}
	for g, members := range here {
		switch held := p.groups[g]; {
		case held != nil:
			held.saw(members)
		case ctx.Err() != nil || slices.ContainsFunc(members, func(e executor.Executor) bool { return p.taken[e.PID].holds() }):
		default:
			p.begin(ctx, g, members)
		}
	}
}

// expire lets go of what no rescue has come back for.
func (p *pins) expire() {
	p.kept = slices.DeleteFunc(p.kept, func(k keptOpen) bool {
		old := time.Since(k.since) > pinKeep
		if old {
			_ = k.store.Close()
		}
		return old
	})
}

// mountsOf names the mount namespace of a process; "" when that can't be read.
func (p *pins) mountsOf(pid int) string {
	name, _ := os.Readlink(filepath.Join(p.proc, strconv.Itoa(pid), "ns", "mnt"))
	return name
}

// take hands the files of some executors over, whose rescue begins. release says that it has ended.
func (p *pins) take(app string, pids ...int) (stores []*shuffle.Store, release func()) {
	if p == nil || len(pids) == 0 {
		return nil, func() {}
	}
	p.mu.Lock()
	var groups []*pinned
	for g, held := range p.groups {
		if g.app == app && slices.ContainsFunc(pids, held.has) {
			groups = append(groups, held)
			delete(p.groups, g)
		}
	}
	p.kept = slices.DeleteFunc(p.kept, func(k keptOpen) bool {
		if k.app == app {
			stores = append(stores, k.store)
		}
		return k.app == app
	})
	for _, pid := range pids {
		p.taken[pid] = rescued{by: p.taken[pid].by + 1}
	}
	p.mu.Unlock()
	stores = append(stores, takeAll(groups)...)
	return stores, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, pid := range pids {
			p.taken[pid] = rescued{by: p.taken[pid].by - 1, freed: time.Now()}
		}
	})
}

// keep holds what a rescue has open until it has begun anew: its executors may have ended by then.
func (p *pins) keep(app string, s *shuffle.Store) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = s.Close()
		return
	}
	p.kept = append(p.kept, keptOpen{app, s, time.Now()})
}

// close lets go of everything, and waits for that.
func (p *pins) close() {
	p.mu.Lock()
	p.closed = true
	for _, held := range p.groups {
		held.cancel()
	}
	for _, k := range p.kept {
		_ = k.store.Close()
	}
	p.groups, p.kept = map[pinGroup]*pinned{}, nil
	p.mu.Unlock()
	p.running.Wait()
}

// pinned are the open files of one group.
type pinned struct {
	pins  *pins
	log   *zap.Logger
	store *shuffle.Store

	cancel context.CancelFunc
	done   chan struct{}
	poke   chan struct{} // members have changed
	taken  atomic.Bool   // the store is somebody else's when run has ended

	mu      sync.Mutex
	members []executor.Executor

	processes map[int]*executor.Process // only run uses it; nil for one that can't be watched
}

// begin opens the files of a group, until ctx ends.
func (p *pins) begin(ctx context.Context, g pinGroup, members []executor.Executor) {
	log := p.log.With(zap.String("app", g.app))
	store, err := shuffle.Open(ctx, shuffle.Options{App: g.app, Limit: p.limit, Log: log})
	if err != nil { // ctx has ended
		return
	}
	held := &pinned{
		pins: p, log: log, store: store, done: make(chan struct{}), poke: make(chan struct{}, 1), members: members,
		processes: map[int]*executor.Process{},
	}
	ctx, held.cancel = context.WithCancel(ctx)
	p.groups[g] = held
	p.running.Go(func() { held.run(ctx) })
}

func (h *pinned) saw(members []executor.Executor) {
	h.mu.Lock()
	h.members = members
	h.mu.Unlock()
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

func (h *pinned) snapshot() []executor.Executor {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members
}

func (h *pinned) has(pid int) bool {
	return slices.ContainsFunc(h.snapshot(), func(e executor.Executor) bool { return e.PID == pid })
}

// takeAll ends some groups and hands over what is open, of those that end in time.
func takeAll(groups []*pinned) (stores []*shuffle.Store) {
	for _, h := range groups {
		h.taken.Store(true)
		h.cancel()
	}
	late, cancel := context.WithTimeout(context.Background(), pinHandover)
	defer cancel()
	for _, h := range groups {
		select {
		case <-h.done:
			stores = append(stores, h.store)
		case <-late.Done():
			h.log.Warn("files that were open are not handed over in time: they are opened again")
			go func() {
				<-h.done
				_ = h.store.Close()
			}()
		}
	}
	return stores
}

// run opens what comes, until ctx ends or no executor is left.
func (h *pinned) run(ctx context.Context) {
	defer close(h.done)
	defer h.end()
	h.add()
	h.scan(ctx)
	look, alive := time.NewTicker(pinLook), time.NewTicker(pinAlive)
	defer look.Stop()
	defer alive.Stop()
	var gone map[migrate.OutputID]bool
	without := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.poke:
			h.add()
			h.scan(ctx)
		case <-look.C:
			gone = h.tidy(ctx, gone)
			h.scan(ctx)
		case <-alive.C:
			if without++; h.lives() {
				without = 0
			}
			if without > 1 {
				return
			}
		}
	}
}

func (h *pinned) end() {
	for _, p := range h.processes {
		if p != nil {
			_ = p.Close()
		}
	}
	if !h.taken.Load() {
		_ = h.store.Close()
		h.pins.metrics.SetPinned(h.pins.limit.Used())
	}
}

// add takes in processes that are new.
func (h *pinned) add() {
	for _, e := range h.snapshot() {
		if _, known := h.processes[e.PID]; known {
			continue
		}
		h.processes[e.PID], _ = executor.Open(e.PID, e.Start)
		if err := h.store.Add(shuffle.Root{Proc: h.pins.proc, PID: e.PID, Start: e.Start, Dirs: e.LocalDirs}); err != nil {
			h.log.Info("files of an executor can't be opened ahead", zap.String("executor", e.ID), zap.Error(err))
		}
	}
}

// lives is true as long as one of the executors does, or may.
func (h *pinned) lives() bool {
	for _, e := range h.snapshot() {
		if p := h.processes[e.PID]; p == nil || p.Alive() {
			return true
		}
	}
	return false
}

// scan opens what is new. Errors are of no interest here: a rescue, if one comes, meets them again and reports them.
func (h *pinned) scan(ctx context.Context) {
	if h.pins.limit.Used() >= h.pins.limit.Highest()/pinShare {
		return
	}
	if _, _, err := h.store.Scan(ctx); err != nil && ctx.Err() == nil {
		h.log.Debug("some files can't be opened ahead", zap.Error(err))
	}
	h.pins.metrics.SetPinned(h.pins.limit.Used())
}

// tidy gives the disk space back of what was gone at the last look, too, while its executor lives: Spark has removed what no
// job needs any more. It returns what is gone now.
func (h *pinned) tidy(ctx context.Context, before map[migrate.OutputID]bool) map[migrate.OutputID]bool {
	now := map[migrate.OutputID]bool{}
	for _, id := range h.store.Gone(ctx) {
		if before[id] {
			h.store.Release(id)
		} else {
			now[id] = true
		}
	}
	h.store.Prune()
	return now
}

// takePinned takes over what is open of executors that leave now.
func (a *application) takePinned(members ...*member) []*shuffle.Store {
	if a.dryRun {
		return nil
	}
	var pids []int
	for _, m := range members {
		pids = append(pids, m.PID)
	}
	stores, release := a.pins.take(a.id, pids...)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releases = append(a.releases, release)
	return stores
}

// adoptPinned goes on with what was opened before the rescue.
func (a *application) adoptPinned(stores []*shuffle.Store) {
	if len(stores) == 0 {
		return
	}
	a.scanning.Lock()
	defer a.scanning.Unlock()
	n := 0
	for _, s := range stores {
		found := a.store.Take(s)
		a.take(found)
		n += len(found)
	}
	a.log.Info("map outputs were open already", zap.Int("outputs", n))
}

// letGo closes the files, or keeps them open for the run that goes on with this rescue. The application is locked.
func (a *application) letGo(recast bool) {
	switch {
	case a.store == nil:
	case recast && a.pins != nil:
		a.pins.keep(a.id, a.store)
	default:
		_ = a.store.Close()
	}
	for _, release := range a.releases {
		release()
	}
	a.metrics.SetPinned(a.pinLimit.Used())
}

func closeAll(stores []*shuffle.Store) {
	for _, s := range stores {
		_ = s.Close()
	}
}
