// Package shuffle finds the shuffle files that Spark executors leave on this node, verifies that they
// are committed, and pins them: an open descriptor outlives the executor, which deletes its files
// when it exits. It is where a rescue gets its map outputs from.
//
// The files belong to processes that the agent must not trust. A Store starts at the root of such a
// process and never follows a link out of it (openat2(2), Linux 5.6).
package shuffle

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

// Root is a process whose files are looked at.
type Root struct {
	Proc string // where proc is mounted; "" is /proc
	PID  int
	// Start is the process's start time in clock ticks (executor.Executor.Start): with it another
	// process that got the same id is never taken for it. 0: not checked.
	Start uint64
	Dirs  []string // local directories as that process sees them
}

// Options say what a Store looks at.
type Options struct {
	App   string // the application whose outputs these are; local directories belong to one application
	Roots []Root
	Leave map[string]bool // names of folders (blockmgr-<uuid>) that are not looked into; not changed any more
	Limit *Limit          // shared by all stores of the agent; nil: one of its own
	Log   *zap.Logger
}

// Found is one map output that was not returned before.
type Found struct {
	// Output has no Executor: which one wrote it follows from the folder (the executor itself tells
	// its folders to who asks, see wire.GetLocalDirs).
	Output *migrate.Output
	Folder string // base name of the folder that holds the index, blockmgr-<uuid>
}

// Skipped is something that looks like shuffle data and is not usable now. It is returned by every
// Scan for as long as it stays so: a half-committed output for a moment, a broken one for good.
type Skipped struct {
	ID     migrate.OutputID // empty App when it is not about one output
	Folder string           // base name of the folder, or the local directory
	Reason string
}

// Folder is one blockmgr folder that the store looks into.
type Folder struct {
	Name    string // blockmgr-<uuid>
	Path    string // as the process sees it
	PID     int    // the process through whose root it was found
	Outputs int    // returned outputs with their index in it
	Bytes   int64  // size of their indexes and data
}

// Store finds and holds the map outputs of one application on this node. Its methods may be called
// by many goroutines at once; scans run one after the other.
type Store struct {
	app    string
	leave  map[string]bool
	limit  *Limit
	log    *zap.Logger
	closed atomic.Bool
	seed   maphash.Seed

	scan    sync.Mutex // held by whoever changes what follows
	roots   []*root
	locals  []*local
	known   map[key]*output
	pending map[key]pending
	waiting int // names not yet returned, over all buckets
	buffer  []byte
	failed  []error // roots that could not be opened
	warned  bool    // the limit was logged
	watcher *watcher

	view    sync.Mutex
	folders []Folder
}

// Open takes hold of the roots of all processes, so that their files stay in reach when they end.
// It fails only if none can be opened; what is wrong with some is returned by every Scan, but once only
// for a process that has ended: an ErrGone.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{app: o.App, leave: o.Leave, limit: o.Limit, log: o.Log, seed: maphash.MakeSeed(), known: make(map[key]*output), pending: make(map[key]pending), buffer: make([]byte, indexBuffer)}
	if s.limit == nil {
		s.limit = NewLimit(0)
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	for _, r := range o.Roots {
		if err := ctx.Err(); err != nil {
			s.Close()
			return nil, err
		}
		if err := s.Add(r); err != nil {
			s.failed = append(s.failed, err)
		}
	}
	if len(o.Roots) > 0 && len(s.failed) == len(o.Roots) {
		s.Close()
		return nil, errors.Join(s.failed...)
	}
	return s, nil
}

// Add lets the store look at one more process, as when a new executor of the application has started.
// Directories that the store has already are not looked at twice.
func (s *Store) Add(r Root) error {
	if r.Proc == "" {
		r.Proc = "/proc"
	}
	fd, err := openRoot(r)
	if err != nil {
		return err
	}
	s.scan.Lock()
	defer s.scan.Unlock()
	if s.closed.Load() {
		unix.Close(fd)
		return errClosed
	}
	s.roots = append(s.roots, &root{fd: fd, pid: r.PID, missing: append([]string(nil), r.Dirs...)})
	return nil
}

var errClosed = errors.New("shuffle: the store is closed")

// Scan returns every committed output that was not returned before, verified and pinned, and all that
// is skipped now. What it found is valid also when there is an error: a directory that can't be read
// does not hide the others. A repeated Scan costs a few system calls for each directory that has not
// changed.
func (s *Store) Scan(ctx context.Context) ([]Found, []Skipped, error) {
	s.scan.Lock()
	defer s.scan.Unlock()
	if s.closed.Load() {
		return nil, nil, errClosed
	}
	pass := &pass{ctx: ctx, now: time.Now(), errs: slices.Clone(s.failed)}
	s.failed = slices.DeleteFunc(s.failed, func(err error) bool { return errors.Is(err, ErrGone) })
	s.list(pass)
	s.join(pass)
	s.publish()
	if err := ctx.Err(); err != nil {
		pass.errs = append(pass.errs, err)
	}
	return pass.found, pass.skipped, errors.Join(pass.errs...)
}

// pass is one scan.
type pass struct {
	ctx     context.Context
	now     time.Time
	found   []Found
	skipped []Skipped
	errs    []error
}

func (p *pass) skip(folder, reason string) {
	p.skipped = append(p.skipped, Skipped{Folder: folder, Reason: reason})
}

// Folders lists the blockmgr folders that the last Scan looked into.
func (s *Store) Folders() []Folder {
	s.view.Lock()
	defer s.view.Unlock()
	return append([]Folder(nil), s.folders...)
}

func (s *Store) publish() {
	var folders []Folder
	for _, l := range s.locals {
		for _, f := range l.folders {
			folders = append(folders, Folder{Name: f.name, Path: l.dir + "/" + f.name, PID: l.pid, Outputs: f.outputs, Bytes: f.bytes})
		}
	}
	s.view.Lock()
	s.folders = folders
	s.view.Unlock()
}

// Release gives the descriptors of an output back, to be used for others, and the disk space if its
// files are deleted already. It can still be read as long as its files are there.
func (s *Store) Release(id migrate.OutputID) {
	s.scan.Lock()
	defer s.scan.Unlock()
	if id.App != s.app {
		return
	}
	if out := s.known[key{int32(id.Shuffle), id.Map}]; out != nil {
		out.index.unpin()
		out.data.unpin()
	}
}

// LetGo closes everything that was opened through the root of one process, so that its file systems can be unmounted: a
// volume with an open descriptor can't leave the node. What was found there can't be read any more.
func (s *Store) LetGo(pid int) {
	s.scan.Lock()
	defer s.scan.Unlock()
	for _, out := range s.known {
		for _, b := range []*blob{&out.index, &out.data} {
			if b.at != nil && b.at.folder.pid == pid {
				b.unpin()
			}
		}
	}
	s.locals = slices.DeleteFunc(s.locals, func(l *local) bool {
		if l.pid == pid {
			s.closeLocal(l)
		}
		return l.pid == pid
	})
	s.roots = slices.DeleteFunc(s.roots, func(r *root) bool {
		if r.pid == pid {
			r.close()
		}
		return r.pid == pid
	})
}

// Close gives all descriptors back. Reads that run are finished, later ones fail.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.scan.Lock()
	defer s.scan.Unlock()
	s.drop()
	return nil
}

// drop gives back all that is held. The lock of scans is held.
func (s *Store) drop() {
	for _, out := range s.known {
		out.index.unpin()
		out.data.unpin()
	}
	if s.watcher != nil {
		s.watcher.stop()
	}
	for _, l := range s.locals {
		for _, f := range l.folders {
			f.close()
		}
		unix.Close(l.fd)
	}
	for _, r := range s.roots {
		r.close()
	}
	s.known, s.pending, s.locals, s.roots = nil, nil, nil, nil
}
