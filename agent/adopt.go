package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	// adoptionFolder holds the journals and reports of adoptions below the state folder.
	adoptionFolder = "adoption"
	// adoptionTime is how long one adoption may take.
	adoptionTime = 5 * time.Minute
	// adoptMost is how many outputs one executor adopts at most: each takes about a KiB of memory until its own recovery is over.
	adoptMost = 50_000
)

// AdoptionState is the folder of adoptions in a state folder; it is laid out like that of rescues.
func AdoptionState(state string) string { return filepath.Join(state, adoptionFolder) }

// ErrNothingLeft says that no earlier executor has left a map output in the local dirs of an executor.
var ErrNothingLeft = errors.New("no map output of an earlier executor is in its local dirs")

// AdoptRequest asks for what earlier executors have left in the local dirs of one that lives here to be made count.
type AdoptRequest struct {
	App      string // application id
	Executor string // who takes it
	Deadline time.Time
	DryRun   bool
	// Stay until the executor's own recovery, which takes away what it finds, is over.
	Stay     bool
	Progress func(Progress)
}

// Adopt makes map outputs count at an executor of this node in whose local dirs they lie, though another executor wrote them,
// which has ended. The report is like that of a rescue.
func (a *Agent) Adopt(ctx context.Context, req AdoptRequest) (*report.Report, error) {
	list, err := a.finder.Executors(ctx)
	i := slices.IndexFunc(list, func(e executor.Executor) bool { return e.App == req.App && e.ID == req.Executor })
	if i < 0 {
		return nil, errors.Join(ErrNoExecutor, err)
	}
	d, err := a.openAdoption(ctx, list[i], list[i].LocalDirs)
	if err != nil {
		return nil, err
	}
	defer d.close()
	rep, err := d.run(ctx, req)
	if req.Stay && err == nil && !req.DryRun {
		d.to.keep(ctx, d.outputs, a.log)
	}
	return rep, err
}

// adoption is one look at what an executor has taken over, and what becomes of it. The files stay open until close.
type adoption struct {
	*salvage
	agent *Agent
	store *shuffle.Store
}

// openAdoption looks what earlier executors have left in local dirs of an executor. A folder counts as left when no executor
// that lives here calls it its own; if one that has these dirs does not say what is its own, nothing is done. An error wraps ErrNothingLeft when there
// is nothing.
func (a *Agent) openAdoption(ctx context.Context, e executor.Executor, dirs []string) (d *adoption, err error) {
	self, own, err := askManager(ctx, a.finder, a.dialer, e)
	if err != nil {
		return nil, err
	}
	root := shuffle.Root{Proc: a.proc, PID: e.PID, Start: e.Start, Dirs: dirs}
	living, err := a.livingFolders(ctx, root, e)
	if err != nil {
		return nil, err
	}
	maps.Copy(living, folderNames(own)) // what is linked there already is found in the old folder too
	// Nothing is pinned: nobody removes these files, and a descriptor would keep what somebody does.
	store, err := shuffle.Open(ctx, shuffle.Options{App: e.App, Roots: []shuffle.Root{root}, Leave: living, Limit: shuffle.NoPins(), Log: a.log})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			store.Close()
		}
	}()
	found, skipped, err := store.Scan(ctx)
	if err != nil {
		return nil, err
	}
	later, err := a.livingFolders(ctx, root, e) // of one that has started meanwhile
	if err != nil {
		return nil, err
	}
	to := &replacement{Executor: e, proc: a.proc, finder: a.finder, self: self, folders: own, mode: a.cfg.Kubernetes.Volumes.Adopt}
	if to.mode == config.AdoptOff { // somebody asks for it by hand
		to.mode = config.AdoptLink
	}
	s := newSalvage(catalog.Application{ID: e.App, Driver: e.DriverURL, Spark: e.Spark, Scala: e.Scala})
	s.to = to
	s.skipped = slices.DeleteFunc(skipped, func(s shuffle.Skipped) bool { return later[s.Folder] })
	s.skipped = s.skipped[:min(len(s.skipped), maxSkipped)]
	found = slices.DeleteFunc(found, func(f shuffle.Found) bool { return later[f.Folder] })
	if more := len(found) - adoptMost; more > 0 {
		to.notes = append(to.notes, fmt.Sprintf("%d more outputs were left where they are: one executor adopts %d at most", more, adoptMost))
		found = found[:adoptMost]
	}
	for _, f := range found {
		s.outputs = append(s.outputs, f.Output)
	}
	if len(s.outputs) == 0 {
		return nil, errors.Join(ErrNothingLeft, skippedError(s.skipped))
	}
	return &adoption{salvage: s, agent: a, store: store}, nil
}

// skippedError names the first of what can't be used.
func skippedError(list []shuffle.Skipped) error {
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("%d files are not usable, as %s: %s", len(list), skippedPath(list[0]), list[0].Reason)
}

// livingFolders are those of the other executors of the application on this node.
func (a *Agent) livingFolders(ctx context.Context, root shuffle.Root, e executor.Executor) (map[string]bool, error) {
	list, err := a.finder.Executors(ctx)
	if err != nil {
		return nil, err
	}
	living := map[string]bool{}
	for _, x := range list {
		if x.App != e.App || x.PID == e.PID {
			continue
		}
		_, own, err := askManager(ctx, a.finder, a.dialer, x)
		if err != nil && ctx.Err() == nil && !shares(root, shuffle.Root{Proc: a.proc, PID: x.PID, Start: x.Start, Dirs: x.LocalDirs}) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("which folders are its own: %w", err)
		}
		for name := range folderNames(own) {
			living[name] = true
		}
	}
	return living, nil
}

// shares says whether two processes have a local dir in common, under whatever names. In doubt they have.
func shares(r, other shuffle.Root) bool {
	dirs, err := inodes(other)
	if err != nil {
		return !errors.Is(err, shuffle.ErrGone)
	}
	own, err := inodes(r)
	return err != nil || slices.ContainsFunc(own, func(id [2]uint64) bool { return slices.Contains(dirs, id) })
}

func inodes(r shuffle.Root) ([][2]uint64, error) {
	var all [][2]uint64
	for _, dir := range r.Dirs {
		fd, err := shuffle.OpenLocalDir(r, dir)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
		all = append(all, [2]uint64{st.Dev, st.Ino})
	}
	return all, nil
}

func (d *adoption) close() {
	d.to.close()
	d.store.Close()
}

// run does the adoption.
func (d *adoption) run(ctx context.Context, req AdoptRequest) (*report.Report, error) {
	own, err := d.agent.salvager(AdoptionState(d.agent.cfg.State))
	if err != nil {
		return nil, err
	}
	own.cfg.Destinations = []string{config.DestinationPeers}
	now := time.Now()
	n := providers.Notice{
		ID: "adoption-" + now.UTC().Format("20060102T150405.000000000"), Source: "adoption", Kind: providers.Drain,
		App: d.app.ID, Deadline: req.Deadline, Seen: now,
	}
	rep, err := own.execute(ctx, order{notices: []providers.Notice{n}, dryRun: req.DryRun, progress: req.Progress, salvage: d.salvage})
	if rep != nil && !rep.Interrupted && !req.DryRun {
		d.agent.adopted.Done(rep)
		_, saved, lost := rep.Total()
		d.agent.log.Info("map outputs on an old volume adopted", zap.String("app", d.app.ID), zap.String("executor", d.to.ID),
			zap.String("adoption", rep.ID), zap.Int("saved", saved.Outputs), zap.Int("lost", lost.Outputs), zap.Float64("seconds", rep.Ended.Sub(rep.Began).Seconds()))
	}
	return rep, err
}
