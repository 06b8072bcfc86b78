// Package agent is the rescue as a state machine, and the daemon around it: it takes notices from the
// providers, finds the executors of this node, and drives pin, tell, copy and end for each application.
// It wires all other packages together; nothing but cmd imports it.
package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/providers"
)

// Deps is what an agent does not make itself.
type Deps struct {
	Log      *zap.Logger
	Registry *prometheus.Registry
	Version  string
	Dialer   wire.Dialer        // connections to drivers and peers; nil: plain TCP
	Sources  []providers.Source // nil: those that the configuration enables
	Proc     string             // "" is /proc
}

// Agent watches for notices and rescues. Make one with New.
type Agent struct {
	cfg      config.Config
	log      *zap.Logger
	registry *prometheus.Registry
	version  string
	dialer   wire.Dialer
	proc     string
	finder   executor.Finder
	scanner  *executor.Scanner
	known    *known
	metrics  *status.Metrics
	store    *journal.Store
	pinLimit *shuffle.Limit
	handled  *handled
	detector *detector // nil: nothing is to be found out
	deps     Deps      // of sources that start later

	mirror   *mirror
	pins     *pins
	wake     chan struct{} // the node is to be looked at now
	lookout  *lookout      // nil in the agent of a salvage
	adopter  *adopter      // the same
	storages *storages
	salvages *status.Salvages
	adopted  *status.Salvages // of adoptions

	kube *kubernetes.Client // nil: no Kubernetes; set before anything runs

	started  time.Time
	stopping atomic.Bool // no new rescue begins

	mu        sync.Mutex
	running   *rescue
	sources   []providers.Source // those that run; more may come
	seen      []executor.Executor
	detected  string   // what is known of the cloud
	last      string   // id of the last report
	searching bool     // for the cloud
	recalls   []string // names of sources that were told of recalled

	recalled []providers.Notice // of a rescue that an earlier run has begun; see recall
}

// New wires an agent. It opens the state folder, so two agents can't be made with the same one at the
// moment of a rescue, but it starts nothing.
func New(cfg config.Config, d Deps) (*Agent, error) {
	if d.Dialer == nil {
		d.Dialer = &net.Dialer{Timeout: cfg.Migrate.DialTimeout}
	}
	if d.Proc == "" {
		d.Proc = "/proc"
	}
	store, err := journal.Open(cfg.State, d.Log)
	if err != nil {
		return nil, err
	}
	known, err := openKnown(cfg.State)
	if err != nil {
		d.Log.Warn("applications seen earlier are forgotten", zap.Error(err))
	}
	a := &Agent{
		cfg: cfg, log: d.Log, registry: d.Registry, version: d.Version, dialer: d.Dialer, proc: d.Proc,
		finder: executor.Finder{Proc: d.Proc, Addresses: cfg.Node.Addresses},
		known:  known, metrics: status.NewMetrics(d.Registry), store: store,
		pinLimit: shuffle.NewLimit(cfg.Migrate.MaxPinned), sources: d.Sources, handled: &handled{}, deps: d, started: time.Now(),
	}
	a.dialer = &podDialer{next: d.Dialer, agent: a}
	a.scanner = executor.NewScanner(a.finder)
	a.storages, a.salvages = newStorages(), status.NewSalvages(d.Registry)
	a.adopted = status.NewAdoptions(d.Registry)
	status.CountSources(d.Registry, a.sourcesUp)
	a.mirror = a.newMirror()
	a.pins, a.wake = newPins(a.proc, a.pinLimit, a.metrics, a.log), make(chan struct{}, 1)
	a.lookout, a.adopter = newLookout(a), newAdopter(a)
	if d.Sources == nil {
		a.detector = newDetector(cfg, d.Log)
	}
	return a, nil
}

// Run is the daemon. It first finishes what an earlier run of it left, then acts on notices until stop
// is closed (a running rescue then goes on for shutdown.grace) or ctx ends (everything stops at once).
func (a *Agent) Run(ctx context.Context, stop <-chan struct{}) error {
	var background sync.WaitGroup
	defer background.Wait()
	life, end := context.WithCancel(ctx) // of what goes on until the last rescue is over
	defer end()
	intake, stopIntake := context.WithCancel(life)
	defer stopIntake()
	background.Go(func() {
		select {
		case <-stop:
			a.stopping.Store(true)
		case <-intake.Done():
		}
		stopIntake()
	})
	if err := a.openSources(); err != nil {
		return err
	}
	in := &inlet{Agent: a, notices: make(chan providers.Notice, 16), failed: make(chan error, 1), background: &background}
	defer a.openDrills().Close()
	if err := a.serve(life, &background, in.failed); err != nil {
		return err
	}
	background.Go(func() { a.runKubernetes(life) })
	background.Go(func() { a.watchExecutors(intake) })
	background.Go(func() { a.sweep(intake) })
	background.Go(func() { a.store.Acted("") }) // so that a notice does not wait for the disk
	a.recalled = a.store.Untold()
	a.searching = a.detector != nil
	a.recall(a.watched())
	in.watch(intake, a.watched())
	if a.detector != nil {
		a.setDetection(a.detector.searching())
		background.Go(func() { in.detect(intake) })
	}
	return newDispatcher(a).run(ctx, intake, in.notices, in.failed)
}

// Request is a rescue that somebody asks for by hand.
type Request struct {
	App       string    // only this application; "" for all
	Executors []string  // only these executors leave; the others on this node may serve as peers
	Deadline  time.Time // when it must be over
	DryRun    bool      // look and plan only: nobody is told, nothing is copied or ended
	Progress  func(Progress)
}

// ErrNoExecutor says that nothing on this node matches a request.
var ErrNoExecutor = errors.New("no executor on this node matches")

// ErrAmbiguous says that executors of several applications have the requested ids.
var ErrAmbiguous = errors.New("several applications have such an executor on this node")

// Rescue does one rescue now. The report is there whenever the rescue could begin.
func (a *Agent) Rescue(ctx context.Context, r Request) (*report.Report, error) {
	list, err := a.finder.Executors(ctx)
	matches := func(e executor.Executor) bool {
		return (r.App == "" || r.App == e.App) && (len(r.Executors) == 0 || slices.Contains(r.Executors, e.ID))
	}
	if !slices.ContainsFunc(list, matches) && (r.App != "" || len(r.Executors) > 0) {
		return nil, errors.Join(ErrNoExecutor, err)
	}
	if err := unambiguous(list, r); err != nil {
		return nil, err
	}
	if !r.DryRun {
		defer a.withKubernetes(ctx)()
	}
	now := time.Now()
	n := providers.Notice{
		ID: "command-" + now.UTC().Format("20060102T150405.000000000"), Source: "command", Kind: providers.Drain,
		App: r.App, Executors: r.Executors, Deadline: r.Deadline, Seen: now,
	}
	return a.execute(ctx, order{notices: []providers.Notice{n}, dryRun: r.DryRun, progress: r.Progress})
}

// unambiguous: executor ids are unique within one application only.
func unambiguous(list []executor.Executor, r Request) error {
	if len(r.Executors) == 0 || r.App != "" {
		return nil
	}
	apps := map[string]bool{}
	for _, e := range list {
		if slices.Contains(r.Executors, e.ID) {
			apps[e.App] = true
		}
	}
	if len(apps) > 1 {
		return fmt.Errorf("%w: %v: name one with --app", ErrAmbiguous, slices.Sorted(maps.Keys(apps)))
	}
	return nil
}

// prepare takes a notice that says that a rescue may come (see config.Notices), or that this is over: the files are kept
// open from then on, and copied ahead where that is switched on.
func (a *Agent) prepare(n providers.Notice) {
	a.pins.want(n)
	a.mirror.want(n)
	select {
	case a.wake <- struct{}{}:
	default: // it is looked at anyway
	}
}

// watchExecutors keeps the inventory for metrics and remembers applications for their left folders.
func (a *Agent) watchExecutors(ctx context.Context) {
	defer a.pins.close()
	defer a.mirror.close()
	defer a.lookout.close()
	defer a.adopter.close()
	for {
		changed := a.kube.Changed()
		found, err := a.scanner.Scan(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("some processes are not readable", zap.Error(err))
		}
		if err := a.known.saw(found.Executors); err != nil {
			a.log.Warn("applications not remembered", zap.Error(err))
		}
		a.metrics.SetExecutors(len(found.Executors))
		a.mu.Lock()
		a.seen = found.Executors
		a.mu.Unlock()
		a.pins.saw(ctx, found.Executors)
		a.mirror.saw(ctx, found.Executors)
		a.lookout.saw(ctx, found.Executors)
		a.adopter.saw(ctx, found.Executors)
		if a.awaitScan(ctx, changed) != nil {
			return
		}
	}
}
