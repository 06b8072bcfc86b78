package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

const (
	workerPatience = 500 * time.Millisecond // executors wait so long for the worker to be decommissioned
	markPause      = 100 * time.Millisecond // between looks whether all executors are marked
	// launchTime is how long after a worker has stopped to start executors the last one may need to show.
	launchTime = 500 * time.Millisecond
)

// latch is set once and for all.
type latch struct {
	once sync.Once
	c    chan struct{} // closed when it is set
}

func newLatch() *latch { return &latch{c: make(chan struct{})} }

func (l *latch) set() { l.once.Do(func() { close(l.c) }) }

// gate tells what can still start on this node.
type gate struct {
	tried   *latch // the workers were decommissioned, or will not be
	quiet   *latch // nothing new is started any more
	watched *latch // and what had been started before was found
}

func newGate() *gate { return &gate{tried: newLatch(), quiet: newLatch(), watched: newLatch()} }

// open is for a node on which nobody starts anything by himself: nothing more comes but what is starting already.
func (g *gate) open(starting bool) {
	g.tried.set()
	g.quiet.set()
	if !starting {
		g.watched.set()
	}
}

// decommissionWorkers stops a standalone master from starting anything more on this node, once every
// executor on it is marked: earlier, the master would have the unmarked ones decommission themselves.
func (r *rescue) decommissionWorkers(ctx, rescueCtx context.Context, workers []executor.Worker) {
	defer r.gate.tried.set()
	if !r.cfg.Spark.DecommissionWorker || !r.allMarked(ctx, rescueCtx) {
		return
	}
	for _, w := range workers {
		if err := decommissionWorker(w); err != nil {
			r.problem(fmt.Errorf("worker %d on %s goes on taking executors: %w", w.PID, w.Host, err))
			return
		}
		r.log.Info("standalone worker decommissioned", zap.Int("pid", w.PID), zap.String("host", w.Host))
	}
	r.gate.quiet.set()
}

func decommissionWorker(w executor.Worker) error {
	if !w.HandlesPWR {
		return fmt.Errorf("it does not handle SIGPWR (set spark.decommission.enabled in its SPARK_WORKER_OPTS)")
	}
	p, err := executor.Open(w.PID, w.Start)
	if errors.Is(err, executor.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Signal(syscall.SIGPWR)
}

// allMarked waits until a look at the node finds no executor whose driver was not told; false when that can't be.
func (r *rescue) allMarked(ctx, rescueCtx context.Context) bool {
	for r.allTold(ctx) {
		found := r.discover(ctx)
		r.adopt(rescueCtx, found)
		if ctx.Err() == nil && !slices.ContainsFunc(found.Executors, r.unmarked) {
			return true
		}
		if pause(ctx, markPause) != nil {
			return false
		}
	}
	return false
}

// unmarked says that an executor still gets tasks.
func (r *rescue) unmarked(e executor.Executor) bool {
	a := r.lookup(e.App)
	return r.concerns(e) && (a == nil || !a.driverless() && !a.marked(e))
}

func (a *application) marked(e executor.Executor) bool {
	return slices.ContainsFunc(a.snapshot(), func(m *member) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.ID == e.ID && m.told
	})
}

// driverless is true when nobody is there any more who could be told, or could start anything.
func (a *application) driverless() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Is(a.failure, errDriverGone)
}

// allTold waits until every application has told its driver; false when one could not. One without executors
// here has nothing to tell, and one without a driver nobody.
func (r *rescue) allTold(ctx context.Context) bool {
	for _, a := range r.applications() {
		if a.left != nil {
			continue
		}
		select {
		case <-a.told:
			continue
		default:
		}
		select {
		case <-a.told:
		case <-a.finished:
			if !isClosed(a.told) && !a.driverless() {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// guard stays until nothing new can start on this node, because an executor that the master starts here would
// otherwise be lost without a word. Where an application could not be rescued, its executors stay, and so does the worker.
func (r *rescue) guard() {
	select {
	case <-r.gate.tried.c:
	case <-r.deadline.Done():
		return
	}
	if slices.ContainsFunc(r.applications(), (*application).forsaken) {
		return
	}
	select {
	case <-r.gate.watched.c:
	case <-r.deadline.Done():
	}
}

// forsaken says that the application's executors are here to stay.
func (a *application) forsaken() bool {
	return a.left == nil && isClosed(a.finished) && !isClosed(a.told) && !a.driverless()
}
