// Package place gives map outputs to a living executor of this node without copying a byte: they get a second name, a hard
// link, in the executor's own folders, and the driver is told. It is the destination of what an earlier executor left on a
// volume that the executor has mounted.
//
// The folders belong to a process that the agent must not trust: every name in them is made as that process, and below a
// directory that is reached without following anything (openat2(2), Linux 5.6).
package place

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
)

// Updater is the part of driver.Client by which Spark is told where a block lies.
type Updater interface {
	UpdateBlock(ctx context.Context, at java.BlockManagerID, block string, memSize, diskSize int64) (accepted bool, err error)
}

// Options of a Place.
type Options struct {
	Target migrate.Target // the executor's block manager, exactly as the driver knows it
	App    string         // application id
	// Root is the executor's process. Its Dirs are not used.
	Root shuffle.Root
	// Folders are the executor's own (peer.Folders), all of them, in its own order: by that a name's hash finds its folder.
	Folders []string
	// SubFolders is spark.diskStore.subDirectories; 0 is Spark's default, 64.
	SubFolders int
	// As is as whom the executor touches files.
	As     executor.Identity
	Driver Updater
}

const (
	defaultSubFolders = 64
	maxSubFolders     = 4096 // as shuffle looks at
	maxFolders        = 1024
)

// Place is a migrate.Destination and a migrate.Announcer. Its errors are classified: Elsewhere when an output can't have a
// second name there (see ErrNoLink), or something else stands in its place; Gone when the executor has ended; Corrupt when the output
// has changed; Transient otherwise, as when the driver does not answer.
type Place struct {
	o     Options
	hands *hands

	mu   sync.Mutex
	dirs []int // of the folders, in their order
}

var (
	_ migrate.Destination = (*Place)(nil)
	_ migrate.Announcer   = (*Place)(nil)
)

// ErrNoLink says that a file can't have a second name in the executor's folders: they lie on another file system, it has no hard
// links, or the executor may not have one. The output can still be uploaded.
var ErrNoLink = errors.New("no hard link possible")

// Open takes hold of the executor's folders. The caller closes the Place.
func Open(o Options) (*Place, error) {
	fail := func(err error) (*Place, error) {
		return nil, fmt.Errorf("folders of %s: %w", o.Target, err)
	}
	if o.SubFolders == 0 {
		o.SubFolders = defaultSubFolders
	}
	if o.SubFolders < 0 || o.SubFolders > maxSubFolders || len(o.Folders) == 0 || len(o.Folders) > maxFolders {
		return fail(fmt.Errorf("%d folders with %d sub-folders each", len(o.Folders), o.SubFolders))
	}
	p := &Place{o: o}
	for _, folder := range o.Folders {
		fd, err := openFolder(o.Root, folder)
		if err != nil {
			p.Close()
			return fail(err)
		}
		p.dirs = append(p.dirs, fd)
	}
	var err error
	if p.hands, err = newHands(o.As); err != nil {
		p.Close()
		return fail(err)
	}
	return p, nil
}

// Close lets go of the folders. What was placed stays.
func (p *Place) Close() {
	if p.hands != nil {
		p.hands.close() // and what it does has ended
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range p.dirs {
		unix.Close(fd)
	}
	p.dirs = nil
}

// Target is the executor.
func (p *Place) Target() migrate.Target { return p.o.Target }

// Put gives the output its names there, the data's before the index's, and then tells the driver of both. Either both
// names are made or none.
func (p *Place) Put(ctx context.Context, out *migrate.Output) (migrate.Location, error) {
	op := fmt.Sprintf("place %s at %s", out.ID, p.o.Target)
	if out.ID.App != p.o.App {
		return migrate.Location{}, &migrate.Error{Op: op, Kind: migrate.Elsewhere, Err: fmt.Errorf("the executor belongs to %s", p.o.App)}
	}
	if err := p.Link(ctx, out); err != nil {
		return migrate.Location{}, err
	}
	if err := p.tell(ctx, out); err != nil {
		return migrate.Location{}, err
	}
	return migrate.Location{Target: p.o.Target, Announced: true}, nil
}

// Link is the first half of Put: the driver is told nothing. It is safe to repeat.
func (p *Place) Link(ctx context.Context, out *migrate.Output) error {
	op := fmt.Sprintf("place %s at %s", out.ID, p.o.Target)
	return classify(ctx, op, p.hands.do(ctx, func() error { return p.link(out) }))
}

// announceParallel is how many outputs are told of at once; they share one connection.
const announceParallel = 8

// Announce tells the driver again. The outputs must have been put here before. It goes on after an error that concerns
// one output only, and returns all.
func (p *Place) Announce(ctx context.Context, at []migrate.Located) error {
	errs := make([]error, len(at))
	var group errgroup.Group
	group.SetLimit(announceParallel)
	for i, l := range at {
		group.Go(func() error {
			if l.At.Target != p.o.Target {
				op := fmt.Sprintf("announce %s at %s", l.Output.ID, p.o.Target)
				errs[i] = &migrate.Error{Op: op, Kind: migrate.Elsewhere, Err: fmt.Errorf("stored at %s", l.At.Target)}
				return nil
			}
			errs[i] = p.tell(ctx, l.Output)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	return errors.Join(errs...)
}

var (
	errNotAccepted = errors.New("the driver did not accept it")
	errEnded       = errors.New("the executor has ended")
)

// tell lets the driver know of the data, then of the index: that is what moves the map output
// (BlockManagerMasterEndpoint.updateShuffleBlockInfo), while shuffle tracking looks at the data
// (ExecutorMonitor.onBlockUpdated). An executor that has just ended must not be named.
func (p *Place) tell(ctx context.Context, out *migrate.Output) error {
	op := fmt.Sprintf("announce %s at %s", out.ID, p.o.Target)
	if !p.alive() {
		return &migrate.Error{Op: op, Kind: migrate.Gone, Err: errEnded}
	}
	if out.Data != nil && out.Data.Size() > 0 {
		if err := p.update(ctx, out.ID.DataBlock(), out.Data.Size()); err != nil {
			return classify(ctx, op, err)
		}
	}
	return classify(ctx, op, p.update(ctx, out.ID.IndexBlock(), out.Index.Size()))
}

func (p *Place) update(ctx context.Context, block string, size int64) error {
	at := java.BlockManagerID{Executor: p.o.Target.Executor, Host: p.o.Target.Host, Port: p.o.Target.Port}
	accepted, err := p.o.Driver.UpdateBlock(ctx, at, block, 0, size)
	if err == nil && !accepted {
		err = fmt.Errorf("%s: %w", block, errNotAccepted)
	}
	return err
}

// alive is false once the executor's process has ended.
func (p *Place) alive() bool {
	if p.o.Root.Start == 0 {
		return true
	}
	proc := p.o.Root.Proc
	if proc == "" {
		proc = "/proc"
	}
	start, err := executor.StartTime(proc, p.o.Root.PID)
	return err == nil && start == p.o.Root.Start
}

// classify says what a caller may do about an error; one of its own context says nothing about the place.
func classify(ctx context.Context, op string, err error) error {
	var known *migrate.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.As(err, &known):
		return fmt.Errorf("%s: %w", op, err)
	}
	kind := migrate.Transient
	if errors.Is(err, ErrNoLink) || errors.Is(err, errOther) || isFull(err) || isHostile(err) {
		kind = migrate.Elsewhere
	}
	return &migrate.Error{Op: op, Kind: kind, Err: err}
}

func isFull(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOSPC, unix.EDQUOT, unix.EROFS}, func(e error) bool { return errors.Is(err, e) })
}

// isHostile is what openat2 answers when a symlink, a mount or a file stands where a folder has to be.
func isHostile(err error) bool {
	return slices.ContainsFunc([]error{unix.ELOOP, unix.EXDEV, unix.ENOTDIR, unix.EACCES}, func(e error) bool { return errors.Is(err, e) })
}
