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
	// pinTidy is how often it is looked for what need not stay open, and how long executors stay pinned that have gone: what was
	// removed is kept for between one and two of it.
	pinTidy = 15 * time.Second
	// pinGather is how long new outputs are gathered before they are opened.
	pinGather = 500 * time.Millisecond
	// pinHandover is how long a rescue waits for what is open: a file system may hang.
	pinHandover = time.Second
)

// pins keeps the map outputs of this node open while a notice says that it may go soon, as when somebody has cordoned it:
// the next thing may be that a pod is deleted, and its executor removes its files as it ends. Nobody is told anything, and
// nothing is copied. A rescue takes over what is open.
type pins struct {
	proc    string
	limit   *shuffle.Limit
	metrics *status.Metrics
	log     *zap.Logger

	mu     sync.Mutex
	wanted map[string]bool // ids of the notices that ask for it
	groups map[pinGroup]*pinned
	taken  map[int]rescued // by process
}

// rescued are processes whose files are a rescue's own business, or were just now: they may be about to end.
type rescued struct {
	by    int // so many rescues
	freed time.Time
}

func (r rescued) holds() bool { return r.by > 0 || time.Since(r.freed) < pinTidy }

// pinGroup are executors of one application that see the same files: those of one pod, or all of a standalone worker.
type pinGroup struct{ app, mounts string }

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
	here := map[pinGroup][]executor.Executor{}
	if len(p.wanted) > 0 {
		for _, e := range list {
			g := pinGroup{e.App, p.mountsOf(e.PID)}
			here[g] = append(here[g], e)
		}
	}
	for g, members := range here {
		if ctx.Err() != nil || slices.ContainsFunc(members, func(e executor.Executor) bool { return p.taken[e.PID].holds() }) {
			continue
		}
		held := p.groups[g]
		if held == nil {
			if held = p.begin(ctx, g); held == nil {
				continue
			}
			p.groups[g] = held
		}
		held.saw(members)
	}
	for g, held := range p.groups {
		// One that has just gone may be what the next notice is about.
		if len(p.wanted) == 0 || len(here[g]) == 0 && time.Since(held.seen) > pinTidy {
			held.cancel()
			delete(p.groups, g)
		}
	}
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
	for _, pid := range pids {
		p.taken[pid] = rescued{by: p.taken[pid].by + 1}
	}
	p.mu.Unlock()
	for _, held := range groups {
		if s := held.take(); s != nil {
			stores = append(stores, s)
		}
	}
	return stores, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, pid := range pids {
			p.taken[pid] = rescued{by: p.taken[pid].by - 1, freed: time.Now()}
		}
	})
}

// close lets go of everything, and waits for that.
func (p *pins) close() {
	p.mu.Lock()
	all := p.groups
	p.groups = map[pinGroup]*pinned{}
	p.mu.Unlock()
	for _, held := range all {
		held.cancel()
	}
	for _, held := range all {
		<-held.done
	}
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

	members []executor.Executor // under the lock of pins
	seen    time.Time           // when there was one, under the lock of pins
}

// begin opens the files of a group; nil when that is not possible.
func (p *pins) begin(ctx context.Context, g pinGroup) *pinned {
	held := &pinned{pins: p, log: p.log.With(zap.String("app", g.app)), done: make(chan struct{}), poke: make(chan struct{}, 1)}
	store, err := shuffle.Open(ctx, shuffle.Options{App: g.app, Limit: p.limit, Log: held.log})
	if err != nil { // ctx has ended
		return nil
	}
	held.store = store
	ctx, held.cancel = context.WithCancel(ctx)
	go held.run(ctx)
	return held
}

func (h *pinned) saw(members []executor.Executor) {
	h.members, h.seen = members, time.Now()
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

func (h *pinned) has(pid int) bool {
	return slices.ContainsFunc(h.members, func(e executor.Executor) bool { return e.PID == pid })
}

// take ends it and hands over what is open; nil when it does not end in time.
func (h *pinned) take() *shuffle.Store {
	h.taken.Store(true)
	h.cancel()
	select {
	case <-h.done:
		return h.store
	case <-time.After(pinHandover):
		go func() {
			<-h.done
			_ = h.store.Close()
		}()
		return nil
	}
}

// run opens what comes until ctx ends.
func (h *pinned) run(ctx context.Context) {
	defer close(h.done)
	defer func() {
		if !h.taken.Load() {
			_ = h.store.Close()
			h.pins.metrics.SetPinned(h.pins.limit.Used())
		}
	}()
	ticks := h.store.Watch(ctx)
	tidy := time.NewTicker(pinTidy)
	defer tidy.Stop()
	added, gone := map[int]bool{}, map[migrate.OutputID]bool{}
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.poke:
			h.add(added)
		case _, open := <-ticks:
			if !open || pause(ctx, pinGather) != nil {
				return
			}
		case <-tidy.C:
			gone = h.tidy(gone)
			continue
		}
		if _, _, err := h.store.Scan(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			h.log.Info("some files can't be opened ahead", zap.Error(err))
		}
		h.pins.metrics.SetPinned(h.pins.limit.Used())
	}
}

// add takes in processes that are new.
func (h *pinned) add(added map[int]bool) {
	h.pins.mu.Lock()
	members := h.members
	h.pins.mu.Unlock()
	for _, e := range members {
		if added[e.PID] {
			continue
		}
		added[e.PID] = true
		if err := h.store.Add(shuffle.Root{Proc: h.pins.proc, PID: e.PID, Start: e.Start, Dirs: e.LocalDirs}); err != nil {
			h.log.Info("files of an executor can't be opened ahead", zap.String("executor", e.ID), zap.Error(err))
		}
	}
}

// tidy gives the disk space back of what has been gone for long enough that no notice has to do with it: Spark removes what
// no job needs any more. It returns what is gone now.
func (h *pinned) tidy(before map[migrate.OutputID]bool) map[migrate.OutputID]bool {
	now := map[migrate.OutputID]bool{}
	for _, id := range h.store.Gone() {
		if before[id] {
			h.store.Release(id)
		} else {
			now[id] = true
		}
	}
	h.store.Prune()
	h.pins.metrics.SetPinned(h.pins.limit.Used())
	return now
}

// takePinned takes over what was opened of executors that leave now.
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

func closeAll(stores []*shuffle.Store) {
	for _, s := range stores {
		_ = s.Close()
	}
}
