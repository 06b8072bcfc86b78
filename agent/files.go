package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
)

// errNothing says that an application that has left has left nothing.
var errNothing = errors.New("no map output is left of it")

// pin opens everything that the application has committed on this node, before anybody is told
// anything: an executor that exits removes its files, but not from under an open descriptor. It fails
// only if nothing can be read at all.
func (a *application) pin(ctx context.Context) error {
	if a.salvage != nil {
		a.engine.Add(a.salvage.outputs...)
		a.mu.Lock()
		a.skipped = a.salvage.skipped
		a.mu.Unlock()
		if to := a.replacement(); to != nil {
			for _, text := range to.notes {
				a.note(text)
			}
		}
		return nil
	}
	roots := slices.Clone(a.leftRoots)
	for _, m := range a.snapshot() {
		roots = append(roots, a.root(m))
	}
	early := a.takePinned(a.snapshot()...)
	store, err := a.openStore(ctx, roots, len(early) > 0)
	if err != nil {
		closeAll(early)
		return fmt.Errorf("its files can't be read: %w", err)
	}
	a.mu.Lock()
	a.store = store
	a.mu.Unlock()
	a.adoptPinned(early)
	a.scan(ctx)
	if a.left != nil && a.engine.Progress().Found.Outputs == 0 {
		return errNothing
	}
	return nil
}

// openStore fails only if no root can be opened, and not even then when some files are open already.
func (a *application) openStore(ctx context.Context, roots []shuffle.Root, some bool) (*shuffle.Store, error) {
	options := shuffle.Options{App: a.id, Roots: roots, Limit: a.pinLimit, Log: a.log}
	store, err := shuffle.Open(ctx, options)
	if err == nil || !some {
		return store, err
	}
	if a.unopened = stillThere(err); a.unopened != nil {
		a.problem(fmt.Errorf("some files of %s can't be read: %w", a.id, a.unopened))
	}
	options.Roots = nil
	return shuffle.Open(ctx, options)
}

func (a *application) root(m *member) shuffle.Root {
	return shuffle.Root{Proc: a.proc, PID: m.PID, Start: m.Start, Dirs: m.LocalDirs}
}

// scan hands everything that was committed since the last scan to the engine. One scan runs at a
// time, so that after a scan everything found by an earlier one is with the engine too.
func (a *application) scan(ctx context.Context) {
	a.scanning.Lock()
	defer a.scanning.Unlock()
	a.mu.Lock()
	store := a.store
	a.mu.Unlock()
	if store == nil {
		return
	}
	found, skipped, err := store.Scan(ctx)
	if ctx.Err() == nil {
		err = stillThere(err)
		if err != nil {
			a.problem(fmt.Errorf("some files of %s can't be read: %w", a.id, err))
		}
	}
	a.take(found)
	a.mu.Lock()
	a.unread = errors.Join(a.unopened, err)
	a.skipped = keepSkipped(a.skipped, skipped, found)
	a.mu.Unlock()
	a.metrics.SetPinned(a.pinLimit.Used())
}

// stillThere leaves out of joined errors those of processes that have ended.
func stillThere(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var rest []error
		for _, e := range joined.Unwrap() {
			rest = append(rest, stillThere(e))
		}
		return errors.Join(rest...)
	}
	if errors.Is(err, shuffle.ErrGone) {
		return nil
	}
	return err
}

// maxSkipped bounds what a folder full of rubbish can cost in memory and in the report.
const maxSkipped = 1000

// keepSkipped adds what is skipped now to what was before. Files that have gone since stay in the report, with the reason
// that was seen first: an executor that exits deletes its folders, one file after the other. Outputs that are whole now,
// and local directories that have appeared, are dropped.
func keepSkipped(before, now []shuffle.Skipped, found []shuffle.Found) []shuffle.Skipped {
	type place struct {
		folder string
		output migrate.OutputID
	}
	whole := map[migrate.OutputID]bool{}
	for _, f := range found {
		whole[f.Output.ID] = true
	}
	kept := slices.DeleteFunc(slices.Clone(before), func(s shuffle.Skipped) bool {
		return whole[s.ID] || strings.Contains(s.Folder, "/")
	})
	known := map[place]bool{}
	for _, s := range kept {
		known[place{s.Folder, s.ID}] = true
	}
	for _, s := range now {
		if !known[place{s.Folder, s.ID}] {
			kept = append(kept, s)
		}
	}
	return kept[:min(len(kept), maxSkipped)]
}

// take gives found outputs to the engine: as saved when an earlier run of the agent had them
// acknowledged, else to be copied.
func (a *application) take(found []shuffle.Found) {
	through := a.foundThrough()
	for _, f := range found {
		if !a.leaves(f.Folder) {
			continue
		}
		f.Output.Executor = a.owner(f.Folder, through[f.Folder])
		if at, saved := a.resume.saved(f.Output.ID); saved {
			a.engine.Adopt(migrate.Located{Output: f.Output, At: at})
			continue
		}
		a.engine.Add(f.Output)
	}
}

// leaves says whether a folder's outputs are part of this rescue. When only some executors of the
// node leave, a folder known to belong to one that stays is left alone; an unclaimed one is copied, which
// harms nobody.
func (a *application) leaves(folder string) bool {
	return !a.foreign[folder]
}

// foundThrough says by the root of which process each folder was found.
func (a *application) foundThrough() map[string]int {
	a.mu.Lock()
	store := a.store
	a.mu.Unlock()
	through := map[string]int{}
	if store != nil {
		for _, f := range store.Folders() {
			through[f.Name] = f.PID
		}
	}
	return through
}

// owner is the executor that named the folder as its own, or else one that has not said which are its own: the one through
// whose root it was found, if it is one of them, because in a pod nobody else sees it. "" when all have named others.
func (a *application) owner(folder string, pid int) string {
	silent := ""
	for _, m := range a.snapshot() {
		m.mu.Lock()
		named, mine := m.folders != nil, m.folders[folder]
		m.mu.Unlock()
		if mine {
			return m.ID
		}
		if !named && (silent == "" || m.PID == pid) {
			silent = m.ID
		}
	}
	return silent
}

// follow scans whenever the folders may have changed, until ctx ends.
func (a *application) follow(ctx context.Context) {
	a.mu.Lock()
	store := a.store
	a.mu.Unlock()
	if store == nil {
		return
	}
	ticks := store.Watch(ctx)
	a.scan(ctx) // what was committed before the watch began
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-ticks:
			if !open {
				return
			}
			a.scan(ctx)
		}
	}
}
