package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	rediscoverEvery = time.Second            // new executors on a node that goes
	progressEvery   = 250 * time.Millisecond // reports to whoever watches
	workerPatience  = 500 * time.Millisecond // executors wait so long for the worker to be decommissioned
)

// rescue is one run, from notice to report, over all applications on this node.
type rescue struct {
	cfg      config.Config
	log      *zap.Logger
	dialer   wire.Dialer
	proc     string
	finder   executor.Finder
	scanner  *executor.Scanner
	known    *known
	metrics  *status.Metrics
	pinLimit *shuffle.Limit
	journal  *journal.Journal
	resume   resume
	began    time.Time

	notice      providers.Notice
	onlyApp     string
	dryRun      bool
	progress    func(Progress)
	margin      time.Duration // copies end so long before the notice's deadline
	deadline    *movable      // the last moment for an acknowledgement
	stopCopying context.CancelFunc
	stopped     atomic.Bool // the agent is being stopped: the rescue is to be resumed
	// leftover says that it was resumed after its deadline, on a node that lives: only executors that had been told
	// are brought to their end. Any others may have come later, for a node that is there to stay.
	leftover bool

	mu       sync.Mutex
	reasons  reasons
	apps     map[string]*application
	running  sync.WaitGroup
	hosts    map[string]bool // host names of this node's executors and its configured addresses
	problems []string
	quiet    chan struct{} // closed when nothing new can start on this node
	quietOne sync.Once
}

// run does the rescue. It ends early when everything is safe, at the deadline in any case, and at once,
// ending no executor, when ctx is cancelled.
func (r *rescue) run(ctx context.Context) {
	defer r.stopCopying()
	defer context.AfterFunc(ctx, func() {
		r.stopped.Store(true)
		r.stopCopying()
	})()
	found := r.discover(ctx)
	r.embark(ctx, found)

	background, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() { r.rediscover(background, ctx) })
	helpers.Go(func() { r.decommissionWorkers(background, found.Workers) })
	helpers.Go(func() { r.showProgress(background) })
	r.running.Wait()
	stop()
	helpers.Wait()
}

// interrupted is true once the rescue is stopped in the middle: what is not saved then is not lost.
func (r *rescue) interrupted() bool { return r.stopped.Load() || r.calledOff() }

// discover lists the Spark processes of this node. What could not be read is a problem in the report,
// not the end.
func (r *rescue) discover(ctx context.Context) executor.Found {
	found, err := r.scanner.Scan(ctx)
	if err != nil && ctx.Err() == nil {
		r.problem(fmt.Errorf("some processes are not readable: %w", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range found.Executors {
		if r.concerns(e) {
			r.hosts[executor.NormalAddress(e.Host)] = true
		}
	}
	return found
}

// concerns says whether an executor leaves with this rescue.
func (r *rescue) concerns(e executor.Executor) bool {
	return (r.onlyApp == "" || e.App == r.onlyApp) &&
		(len(r.notice.Executors) == 0 || slices.Contains(r.notice.Executors, e.ID)) &&
		(!r.leftover || r.resume.intent(e.App, e.ID) != "")
}

func (r *rescue) wholeNode() bool { return len(r.notice.Executors) == 0 && r.onlyApp == "" }

// embark starts one application's rescue for each application that has something to lose here.
func (r *rescue) embark(ctx context.Context, found executor.Found) {
	for _, e := range found.Executors {
		if !r.concerns(e) {
			continue
		}
		a := r.application(e.App)
		if _, err := a.addMember(e, false); err != nil {
			r.log.Info("executor vanished", zap.String("app", e.App), zap.String("executor", e.ID), zap.Error(err))
		}
	}
	for _, e := range found.Executors {
		if a := r.apps[e.App]; a != nil && !r.concerns(e) {
			a.staying = append(a.staying, e)
		}
	}
	if (r.wholeNode() || r.onlyApp != "") && !r.leftover {
		r.embarkLeft(found.Workers)
	}
	for _, a := range r.apps {
		r.start(ctx, a)
	}
}

// embarkLeft adds applications that were seen here before and whose executors have gone, but not their
// folders: with the external shuffle service those are still served.
func (r *rescue) embarkLeft(workers []executor.Worker) {
	if len(workers) == 0 {
		return
	}
	for _, k := range r.known.list() {
		if r.onlyApp != "" && k.App != r.onlyApp || r.apps[k.App] != nil {
			continue
		}
		a := r.application(k.App)
		a.left = &k
		a.leftRoots = []shuffle.Root{{Proc: r.proc, PID: workers[0].PID, Start: workers[0].Start, Dirs: k.LocalDirs}}
	}
}

// application finds or makes the part of one application.
func (r *rescue) application(id string) *application {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.apps[id]
	if a == nil {
		a = newApplication(r, id)
		r.apps[id] = a
	}
	return a
}

func (r *rescue) start(ctx context.Context, a *application) {
	r.running.Go(func() {
		defer close(a.finished)
		a.run(ctx, r.deadline)
	})
}

// rediscover looks for executors that are started here while the rescue runs: a standalone master may do
// so as long as the worker is not decommissioned.
func (r *rescue) rediscover(ctx, rescueCtx context.Context) {
	for pause(ctx, rediscoverEvery) == nil {
		for _, e := range r.discover(ctx).Executors {
			if !r.concerns(e) {
				continue
			}
			r.mu.Lock()
			a := r.apps[e.App]
			r.mu.Unlock()
			if a == nil {
				a = r.application(e.App)
				if _, err := a.addMember(e, true); err == nil {
					r.start(rescueCtx, a)
				}
				continue
			}
			if !a.has(e) {
				select {
				case a.arrivals <- e:
				default:
				}
			}
		}
	}
}

// has is true for an executor that is a member already. An executor's id is never used twice.
func (a *application) has(e executor.Executor) bool {
	return slices.ContainsFunc(a.snapshot(), func(m *member) bool { return m.ID == e.ID })
}

// decommissionWorkers stops a standalone master from starting anything more on this node, once every
// executor on it is marked: earlier, the master would have the unmarked ones decommission themselves.
func (r *rescue) decommissionWorkers(ctx context.Context, workers []executor.Worker) {
	if !r.wholeNode() || len(workers) == 0 || r.dryRun || r.leftover {
		r.quietOne.Do(func() { close(r.quiet) })
		return
	}
	if !r.cfg.Spark.DecommissionWorker || !r.allTold(ctx) {
		return
	}
	for _, w := range workers {
		if err := decommissionWorker(w); err != nil {
			r.problem(fmt.Errorf("worker %d on %s goes on taking executors: %w", w.PID, w.Host, err))
			return
		}
		r.log.Info("standalone worker decommissioned", zap.Int("pid", w.PID), zap.String("host", w.Host))
	}
	r.quietOne.Do(func() { close(r.quiet) })
}

func decommissionWorker(w executor.Worker) error {
	if !w.HandlesPWR {
		return fmt.Errorf("it does not handle SIGPWR (set spark.decommission.enabled in its SPARK_WORKER_OPTS)")
	}
	p, err := executor.Open(w.PID, w.Start)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Signal(syscall.SIGPWR)
}

// allTold waits until every application has told its driver; false when one could not. One without executors
// here has nothing to tell.
func (r *rescue) allTold(ctx context.Context) bool {
	apps := r.applications()
	for _, a := range apps {
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
			if !isClosed(a.told) {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
	return len(apps) > 0
}

func (r *rescue) applications() []*application {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.apps))
}

// showProgress keeps the metrics and whoever asked informed, until ctx ends and once more then.
func (r *rescue) showProgress(ctx context.Context) {
	for {
		err := pause(ctx, progressEvery)
		p := r.now()
		r.metrics.SetAtRisk(p.Found.Outputs-p.Saved.Outputs-p.Lost.Outputs, p.Found.Bytes-p.Saved.Bytes-p.Lost.Bytes)
		if r.progress != nil {
			r.progress(p)
		}
		if err != nil {
			return
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// untilTaken is the time left until the node is taken.
func (r *rescue) untilTaken() time.Duration {
	at, _ := r.deadline.Deadline()
	return max(time.Until(at.Add(r.margin)), 0)
}

// isHere says whether a host name is one of this node's. Within one application, executors here leave together.
func (r *rescue) isHere(host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hosts[executor.NormalAddress(host)]
}

func (r *rescue) problem(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := err.Error(); !slices.Contains(r.problems, text) {
		r.problems = append(r.problems, text)
		r.log.Warn("problem", zap.Error(err))
	}
}
