package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	// salvageFolder holds the journals and reports of salvages below the state folder: a rescue never waits for one.
	salvageFolder = "salvage"
	// salvageTime is how long one salvage may take.
	salvageTime = 10 * time.Minute
)

// SalvageState is the folder of salvages in a state folder; it is laid out like that of rescues.
func SalvageState(state string) string { return filepath.Join(state, salvageFolder) }

// ErrNoCopies says that nothing in object storage could be salvaged.
var ErrNoCopies = errors.New("no copies to salvage")

// SalvageRequest asks for the copies of one application to be made count.
type SalvageRequest struct {
	App       string   // application id
	Node      string   // only what this node stored; "" for all
	Executors []string // these have died; empty: those that the driver no longer lists
	Deadline  time.Time
	DryRun    bool
	Progress  func(Progress)
}

// salvage is what one rescue adopts from object storage, or from a volume, in place of this node's files.
type salvage struct {
	app     catalog.Application
	outputs []*migrate.Output
	places  map[migrate.OutputID]catalog.Place // where each is listed
	skipped []shuffle.Skipped                  // what is on a volume and can't be used
	to      *replacement                       // who takes everything, of what is on a volume; else nil

	mu    sync.Mutex
	saved map[migrate.OutputID]bool
}

func newSalvage(app catalog.Application) *salvage {
	return &salvage{app: app, places: map[migrate.OutputID]catalog.Place{}, saved: map[migrate.OutputID]bool{}}
}

// settle notes whether Spark knows of an output's copy.
func (s *salvage) settle(id migrate.OutputID, saved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved[id] = saved
}

// settled are the outputs that need no salvage any more, by place.
func (s *salvage) settled() map[catalog.Place][]catalog.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	refs := map[catalog.Place][]catalog.Ref{}
	for id, saved := range s.saved {
		if saved {
			refs[s.places[id]] = append(refs[s.places[id]], catalog.RefOf(id))
		}
	}
	return refs
}

// Salvage makes copies in object storage count whose executors have died. The report is like that of a rescue.
func (a *Agent) Salvage(ctx context.Context, req SalvageRequest) (*report.Report, error) {
	storage, err := a.storageOf(ctx, req.App)
	if err != nil {
		return nil, err
	}
	defer storage.close()
	c := catalog.New(storage.bucket)
	app, err := findApplication(ctx, c, req.App)
	if err != nil {
		return nil, err
	}
	dead, err := a.deadOf(ctx, app, req.Executors)
	if err != nil {
		return nil, err
	}
	places, err := c.Places(ctx, app.ID)
	if err != nil {
		return nil, err
	}
	if req.Node != "" {
		places = slices.DeleteFunc(places, func(p catalog.Place) bool { return p.Node != req.Node })
	}
	s := newSalvage(app)
	for _, p := range places {
		if err := s.add(ctx, c, p, dead); err != nil {
			return nil, err
		}
	}
	if len(s.outputs) == 0 {
		return nil, fmt.Errorf("%w: the catalog lists none of %s whose executor has died", ErrNoCopies, app.ID)
	}
	return a.adopt(ctx, c, s, req)
}

// storageOf opens the object storage of an application: where its driver says, if it has an executor on this node, else
// where the configuration says.
func (a *Agent) storageOf(ctx context.Context, app string) (*objectStorage, error) {
	list, err := a.finder.Executors(ctx)
	i := slices.IndexFunc(list, func(e executor.Executor) bool { return e.App == app })
	if i < 0 {
		s, openErr := openObjects(ctx, a.cfg, nil, a.log)
		if openErr != nil {
			return nil, errors.Join(fmt.Errorf("no executor of %s runs here, whose driver could say where copies lie: set objects.path, as s3a://bucket/prefix", app), openErr, err)
		}
		return s, nil
	}
	props, err := a.properties(ctx, list[i])
	if err != nil {
		return nil, err
	}
	return openObjects(ctx, a.cfg, props, a.log)
}

// deadOf says which executors of an application are no more: those that are named, or all that its driver does not list.
func (a *Agent) deadOf(ctx context.Context, app catalog.Application, named []string) (deadly, error) {
	if len(named) > 0 {
		return func(id string) bool { return slices.Contains(named, id) }, nil
	}
	rest, err := a.restOf(ctx, app.ID, app.Driver)
	if err != nil {
		return nil, fmt.Errorf("the driver does not say which executors have died: name them with --executor: %w", err)
	}
	defer rest.Close()
	var here []string
	list, _ := a.finder.Executors(ctx) // those that can be read are enough
	for _, e := range list {
		if e.App == app.ID {
			here = append(here, e.ID)
		}
	}
	alive, err := aliveIDs(ctx, rest, here)
	if err != nil {
		return nil, fmt.Errorf("name those that have died with --executor: %w", err)
	}
	return func(id string) bool { return !has(alive, id) }, nil
}

// findApplication takes what the newest manifest says about an application.
func findApplication(ctx context.Context, c *catalog.Catalog, id string) (catalog.Application, error) {
	places, err := c.Places(ctx, id)
	if err != nil {
		return catalog.Application{}, err
	}
	var newest catalog.Usage
	for _, p := range places {
		u, err := c.Usage(ctx, p)
		if err != nil && !errors.Is(err, catalog.ErrBadDocument) {
			return catalog.Application{}, err
		}
		if u.Newest.After(newest.Newest) {
			newest = u
		}
	}
	if newest.Application.ID == "" {
		return catalog.Application{}, fmt.Errorf("%w: the catalog does not know %q", ErrNoCopies, id)
	}
	return newest.Application, nil
}

// deadly says which executors are no more. A nil one has no one.
type deadly func(id string) bool

// errEnough ends a look at the catalog.
var errEnough = errors.New("enough for one salvage")

// add takes in what a place stores of executors that have died, up to what one salvage adopts. What is read of it can
// be read until ctx ends.
func (s *salvage) add(ctx context.Context, c *catalog.Catalog, p catalog.Place, dead deadly) error {
	err := c.Stored(ctx, p, objectLayout, func(m *catalog.Manifest, e catalog.Entry) error {
		if hasDied(m, e, dead) {
			if len(s.outputs) >= salvageMost {
				return errEnough
			}
			out := c.Output(ctx, p.App, e, objectLayout)
			s.outputs = append(s.outputs, out)
			s.places[out.ID] = p
		}
		return nil
	})
	if errors.Is(err, catalog.ErrBadDocument) || errors.Is(err, errEnough) {
		return nil // what can be read is worth having
	}
	return err
}

// hasDied: where it is not known which executor wrote an output, all that could have must be dead.
func hasDied(m *catalog.Manifest, e catalog.Entry, dead deadly) bool {
	if e.Executor != "" {
		return dead(e.Executor)
	}
	for _, x := range m.Executors {
		if !dead(x.ID) {
			return false
		}
	}
	return true
}

// adopt does the salvage and remembers in the catalog what needs none any more.
func (a *Agent) adopt(ctx context.Context, c *catalog.Catalog, s *salvage, req SalvageRequest) (*report.Report, error) {
	own, err := a.salvager(SalvageState(a.cfg.State))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	n := providers.Notice{
		ID: "salvage-" + now.UTC().Format("20060102T150405.000000000"), Source: "salvage", Kind: providers.Drain,
		App: s.app.ID, Executors: s.executors(), Deadline: req.Deadline, Seen: now,
	}
	rep, err := own.execute(ctx, order{notices: []providers.Notice{n}, dryRun: req.DryRun, progress: req.Progress, salvage: s})
	if rep == nil || req.DryRun {
		return rep, err
	}
	if !rep.Interrupted {
		a.salvages.Done(rep)
	}
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), salvageLook)
	defer cancel()
	for p, refs := range s.settled() {
		err = errors.Join(err, c.Settle(settling, p, rep.ID, refs))
	}
	return rep, err
}

func (s *salvage) executors() []string {
	ids := map[string]bool{}
	for _, out := range s.outputs {
		if out.Executor != "" {
			ids[out.Executor] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// salvager is an agent that shares all with this one but the folder of its journals: a rescue must never find it
// locked by a salvage.
func (a *Agent) salvager(state string) (*Agent, error) {
	store, err := journal.Open(state, a.log)
	if err != nil {
		return nil, err
	}
	cfg := a.cfg
	cfg.State = state
	return &Agent{
		cfg: cfg, log: a.log, registry: a.registry, version: a.version, dialer: a.dialer, proc: a.proc,
		finder: a.finder, scanner: executor.NewScanner(a.finder), known: a.known, store: store,
		metrics:  status.NewMetrics(prometheus.NewRegistry()), // those of rescues are not about it
		pinLimit: a.pinLimit, started: a.started, storages: a.storages, kube: a.kube,
	}, nil
}

// holdMirror ends the copying ahead of the application for the time of its rescue, and takes over what was stored. In a
// salvage all of its outputs are. The function that it returns ends that.
func (a *application) holdMirror() (release func()) {
	switch {
	case a.salvage != nil:
		for _, out := range a.salvage.outputs {
			a.stored.add(catalog.RefOf(out.ID), out.Bytes())
		}
	case a.mirror != nil && !a.dryRun:
		a.stored, release = a.mirror.hold(a.id)
		return release
	}
	return func() {}
}

// left is the application as a rescue knows one that has left the node.
func (s *salvage) left() *knownApp {
	return &knownApp{App: s.app.ID, DriverURL: s.app.Driver, Spark: s.app.Spark, Scala: s.app.Scala}
}

// logAdopted tells what a salvage came to.
func (a *Agent) logAdopted(app string, rep *report.Report, err error) {
	if rep == nil {
		a.log.Warn("copies not salvaged", zap.String("app", app), zap.Error(err))
		return
	}
	_, saved, lost := rep.Total()
	a.log.Info("copies salvaged", zap.String("app", app), zap.String("salvage", rep.ID),
		zap.Int("saved", saved.Outputs), zap.Int("lost", lost.Outputs), zap.Error(err))
}
