package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/providers"
)

// progressEvery is the pause between reports to whoever watches.
const progressEvery = 250 * time.Millisecond

// rescue is one run, from notice to report, over all applications on this node.
type rescue struct {
	cfg      config.Config
	log      *zap.Logger
	dialer   wire.Dialer
	proc     string
	finder   executor.Finder
	scanner  *executor.Scanner
	known    *known
	kube     *kubernetes.Client // nil: no Kubernetes
	metrics  *status.Metrics
	pinLimit *shuffle.Limit
	version  string // of the agent
	journal  *journal.Journal
	resume   resume
	began    time.Time

	notice      providers.Notice // that it began with
	aim         aim              // who leaves
	mirror      *mirror          // nil in a salvage
	pins        *pins            // nil in a salvage
	salvage     *salvage         // adopts copies instead of this node's files, and touches no process here
	dryRun      bool
	progress    func(Progress)
	margin      time.Duration // copies end so long before the notice's deadline
	deadline    *movable      // the last moment for an acknowledgement
	stopCopying context.CancelFunc
	life        context.Context    // of this run of it
	halt        context.CancelFunc // ends life: the rescue is to be resumed
	stopped     atomic.Bool        // that has been done
	// leftover says that it was resumed after its deadline, on a node that lives: only executors that had been told
	// are brought to their end. Any others may have come later, for a node that is there to stay.
	leftover bool

	mu       sync.Mutex
	reasons  reasons
	apps     map[string]*application
	hosts    map[string]bool // host names of this node's executors and its configured addresses
	problems []string

	gate     *gate
	adopting sync.Mutex // one look at the node at a time takes new executors in
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
	r.sayNode(found)

	showing, hide := context.WithCancel(ctx)
	var progress sync.WaitGroup
	progress.Go(func() { r.showProgress(showing) })
	r.clear(ctx, found.Workers)
	hide()
	progress.Wait()
}

// clear returns when all executors have left, and nothing new can start here.
func (r *rescue) clear(ctx context.Context, workers []executor.Worker) {
	if !r.wholeNode() || r.dryRun || r.leftover {
		r.gate.open(false)
		r.await()
		return
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	bound := r.boundPods()
	watch.Go(func() { r.watchNode(watching, ctx, bound) })
	if len(workers) > 0 {
		watch.Go(func() { r.decommissionWorkers(watching, ctx, workers) })
	} else {
		r.gate.open(r.expects(bound))
	}
	r.await()
	r.guard()
	stop()
	watch.Wait()
	r.await() // applications that came late
}

// await waits for the applications that there are now.
func (r *rescue) await() {
	for _, a := range r.applications() {
		<-a.finished
	}
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
	return r.salvage == nil && r.aim.has(e) && (!r.leftover || r.resume.intent(e.App, e.ID) != "")
}

func (r *rescue) wholeNode() bool { return r.aim.whole }

// embark starts one application's rescue for each application that has something to lose here.
func (r *rescue) embark(ctx context.Context, found executor.Found) {
	for _, e := range found.Executors {
		if !r.concerns(e) {
			continue
		}
		m, err := newMember(e, false)
		if err != nil {
			r.log.Info("executor vanished", zap.String("app", e.App), zap.String("executor", e.ID), zap.Error(err))
			continue
		}
		r.application(e.App).join(m)
	}
	for _, e := range found.Executors {
		if a := r.lookup(e.App); a != nil && !r.concerns(e) {
			a.staying = append(a.staying, e)
		}
	}
	switch {
	case r.salvage != nil:
		r.application(r.salvage.app.ID).left = r.salvage.left()
	case !r.leftover:
		r.embarkLeft(found.Workers)
	}
	for _, a := range r.applications() {
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
		if !r.aim.hasAll(k.App) || r.lookup(k.App) != nil {
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

// lookup finds the part of one application; nil when there is none.
func (r *rescue) lookup(id string) *application {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.apps[id]
}

func (r *rescue) start(ctx context.Context, a *application) {
	go func() {
		defer close(a.finished)
		a.run(ctx, r.deadline)
	}()
}

func (r *rescue) applications() []*application {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.apps))
}

// showProgress keeps the metrics and whoever asked informed, until ctx ends and once more then.
func (r *rescue) showProgress(ctx context.Context) {
	outlook := forecast{}
	for {
		err := pause(ctx, progressEvery)
		p := r.now()
		if !r.dryRun {
			r.metrics.SetAtRisk(p.Found.Outputs-p.Saved.Outputs-p.Lost.Outputs, p.Found.Bytes-p.Saved.Bytes-p.Lost.Bytes)
			until, _ := r.deadline.Deadline()
			r.metrics.SetForecast(time.Until(until).Seconds(), outlook.seconds(time.Now(), r.applications()))
		}
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

// taken is when the node is taken.
func (r *rescue) taken() time.Time {
	at, _ := r.deadline.Deadline()
	return at.Add(r.margin)
}

// untilTaken is the time left until then.
func (r *rescue) untilTaken() time.Duration { return max(time.Until(r.taken()), 0) }

// isHere says whether a host name is one of this node's, or the address of an executor's pod on it. Within one application,
// executors here leave together.
func (r *rescue) isHere(host string) bool {
	if r.kube.IsHere(host) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hosts[executor.NormalAddress(host)]
}

func (r *rescue) problem(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problemLocked(err)
}

func (r *rescue) problemLocked(err error) {
	if text := err.Error(); !slices.Contains(r.problems, text) {
		r.problems = append(r.problems, text)
		r.log.Warn("problem", zap.Error(err))
	}
}
