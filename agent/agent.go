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
	sources  []providers.Source

	started  time.Time
	stopping atomic.Bool // no new rescue begins

	mu      sync.Mutex
	running *rescue
	seen    []executor.Executor
	last    string // id of the last report
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
		pinLimit: shuffle.NewLimit(cfg.Migrate.MaxPinned), sources: d.Sources, started: time.Now(),
	}
	a.scanner = executor.NewScanner(a.finder)
	if a.sources == nil {
		a.sources, err = newSources(cfg, d)
	}
	return a, err
}

// Run is the daemon. It first finishes what an earlier run of it left, then acts on notices until stop
// is closed (a running rescue then goes on for shutdown.grace) or ctx ends (everything stops at once).
func (a *Agent) Run(ctx context.Context, stop <-chan struct{}) error {
	intake, stopIntake := context.WithCancel(ctx)
	defer stopIntake()
	go func() {
		select {
		case <-stop:
			a.stopping.Store(true)
		case <-intake.Done():
		}
		stopIntake()
	}()
	var background sync.WaitGroup
	defer background.Wait()
	served, err := a.serve(ctx)
	if err != nil {
		return err
	}
	background.Go(func() { a.watchExecutors(intake) })
	notices := make(chan providers.Notice, 16)
	failed := make(chan error, len(a.sources))
	for _, s := range a.sources {
		background.Go(func() {
			if err := s.Run(intake, notices); err != nil && intake.Err() == nil {
				failed <- fmt.Errorf("notice source %s: %w", s.Name(), err)
			}
		})
	}
	err = a.dispatch(ctx, intake, notices, failed, served)
	stopIntake()
	return err
}

// dispatch runs one rescue after the other, merging notices for the same node into the running one.
func (a *Agent) dispatch(ctx, intake context.Context, notices <-chan providers.Notice, failures ...<-chan error) error {
	rescueCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	var waiting []providers.Notice
	done := make(chan struct{}, 1)
	busy := a.resumeUnfinished(rescueCtx, done)
	for {
		if !busy && len(waiting) > 0 {
			n := waiting[0]
			waiting = waiting[1:]
			if a.store.Acted(n.ID) {
				continue
			}
			busy = true
			go func() {
				a.act(rescueCtx, n)
				done <- struct{}{}
			}()
		}
		select {
		case err := <-failures[0]:
			return err
		case err := <-failures[1]:
			return err
		case <-done:
			busy = false
		case n := <-notices:
			if a.wanted(n) {
				waiting = append(waiting, n)
			}
		case <-intake.Done():
			if busy {
				a.drain(ctx, cancel, done)
			}
			return nil
		}
	}
}

// drain lets a running rescue go on for the grace that the agent was given.
func (a *Agent) drain(ctx context.Context, cancel context.CancelFunc, done <-chan struct{}) {
	a.log.Info("stopping when the running rescue has ended", zap.Duration("grace", a.cfg.Shutdown.Grace))
	grace, end := context.WithTimeout(ctx, a.cfg.Shutdown.Grace)
	defer end()
	select {
	case <-done:
		return
	case <-grace.Done():
	}
	a.log.Warn("the grace is over: the rescue is interrupted and can be resumed")
	cancel()
	<-done
}

// wanted decides what a notice leads to: nothing when it was acted on before or is part of the running
// rescue, else a rescue.
func (a *Agent) wanted(n providers.Notice) bool {
	what := a.judge(n)
	a.metrics.Notice(n, what)
	a.log.Info("notice", zap.String("notice", n.ID), zap.String("kind", string(n.Kind)),
		zap.Time("deadline", n.Deadline), zap.String("leads to", what))
	return what == noticeRescue
}

// What is made of a notice.
const (
	noticeRescue    = "rescue"
	noticeMerged    = "merged"    // part of the running rescue
	noticeRepeated  = "repeated"  // was acted on before
	noticeRecorded  = "recorded"  // no reason to end anything
	noticeWithdrawn = "withdrawn" // a rescue that has begun is finished: telling a driver can't be undone
)

func (a *Agent) judge(n providers.Notice) string {
	a.mu.Lock()
	running := a.running
	a.mu.Unlock()
	switch {
	case n.Withdrawn:
		return noticeWithdrawn
	case n.Kind != providers.Preemption && n.Kind != providers.Drain:
		return noticeRecorded
	case running != nil && running.merge(n):
		if err := running.journal.Merged(n); err != nil {
			running.problem(err)
		}
		return noticeMerged
	case a.store.Acted(n.ID):
		return noticeRepeated
	}
	return noticeRescue
}

// act is one rescue for one notice. Nothing that goes wrong in it ends the daemon.
func (a *Agent) act(ctx context.Context, n providers.Notice) {
	if n.Deadline.IsZero() {
		n.Deadline = time.Now().Add(a.cfg.Deadline.Default)
	}
	if _, err := a.execute(ctx, order{notice: n}); err != nil {
		a.log.Error("rescue failed", zap.String("notice", n.ID), zap.Error(err))
	}
}

// resumeUnfinished goes on with a rescue that an earlier run of the agent had begun and not finished.
func (a *Agent) resumeUnfinished(ctx context.Context, done chan<- struct{}) bool {
	replay, err := a.store.Unfinished()
	if err != nil {
		a.log.Error("journal of an unfinished rescue not readable", zap.Error(err))
	}
	if replay == nil {
		return false
	}
	a.log.Info("resuming", zap.String("rescue", replay.ID), zap.Int("saved", len(replay.Saved)))
	go func() {
		if _, err := a.execute(ctx, order{notice: replay.Notice, resume: replay}); err != nil {
			a.log.Error("resumed rescue failed", zap.String("rescue", replay.ID), zap.Error(err))
		}
		done <- struct{}{}
	}()
	return true
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
	now := time.Now()
	n := providers.Notice{
		ID: "command-" + now.UTC().Format("20060102T150405.000000000"), Source: "command", Kind: providers.Drain,
		Executors: r.Executors, Deadline: r.Deadline, Seen: now,
	}
	return a.execute(ctx, order{notice: n, app: r.App, dryRun: r.DryRun, progress: r.Progress})
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

// watchExecutors keeps the inventory for metrics and remembers applications for their left folders.
func (a *Agent) watchExecutors(ctx context.Context) {
	for {
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
		if pause(ctx, a.cfg.Scan) != nil {
			return
		}
	}
}
