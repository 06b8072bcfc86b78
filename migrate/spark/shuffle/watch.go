package shuffle

import (
	"context"
	"errors"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// gather is how long events are gathered into one tick.
	gather = 10 * time.Millisecond
	// rescan is the pause between ticks when the kernel can't tell what happens.
	rescan = 500 * time.Millisecond
	// maxWatched caps the directories that are held open to be watched.
	maxWatched = 8192
)

var errTooManyDirectories = errors.New("more directories than the cap")

// watcher turns changes in the folders of a store into ticks.
type watcher struct {
	log      *zap.Logger
	events   *fsnotify.Watcher // nil: the kernel refused
	ticks    chan struct{}
	stopped  chan struct{}
	stopOnce sync.Once
	degraded chan error // the first reason to rescan instead

	mu   sync.Mutex
	held map[fileID]int // descriptors of watched directories; nil when it has ended
}

type fileID struct{ device, inode uint64 }

// Watch returns a channel on which a tick comes at once, and then whenever something in the folders
// may have changed: then call Scan, which also adds new folders to the watch. Ticks that nobody takes
// are merged into one. If the kernel can't watch (out of watches, lost events) a tick comes every
// 500 ms instead. The channel is closed when ctx or the store ends, or when Watch is called again.
func (s *Store) Watch(ctx context.Context) <-chan struct{} {
	w := &watcher{log: s.log, ticks: make(chan struct{}, 1), stopped: make(chan struct{}), degraded: make(chan error, 1), held: make(map[fileID]int)}
	var err error
	if w.events, err = fsnotify.NewWatcher(); err != nil {
		w.events = nil
		w.degrade(err)
	}
	s.scan.Lock()
	defer s.scan.Unlock()
	if s.watcher != nil {
		s.watcher.stop()
	}
	s.watcher = w
	if s.closed.Load() {
		w.stop()
	}
	w.tick()
	go w.run(ctx)
	return w.ticks
}

// watch adds an open directory to the current watch.
func (s *Store) watch(fd int, by **watcher) {
	if s.watcher == nil || *by == s.watcher {
		return
	}
	*by = s.watcher
	if err := s.watcher.add(fd); err != nil {
		s.watcher.degrade(err)
	}
}

func (s *Store) unwatch(device, inode uint64) {
	if s.watcher != nil {
		s.watcher.drop(fileID{device, inode})
	}
}

// add watches through a descriptor of its own, never through a path into a container. The descriptor
// stays open: its number is the name by which fsnotify knows the directory.
func (w *watcher) add(dir int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil || w.events == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	id := fileID{st.Dev, st.Ino}
	if _, ok := w.held[id]; ok {
		return nil
	}
	if len(w.held) >= maxWatched {
		return errTooManyDirectories
	}
	fd, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := w.events.Add(watchName(fd)); err != nil {
		unix.Close(fd)
		return err
	}
	w.held[id] = fd
	return nil
}

func watchName(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (w *watcher) drop(id fileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fd, ok := w.held[id]
	if !ok {
		return
	}
	delete(w.held, id)
	_ = w.events.Remove(watchName(fd)) // the kernel has removed the watch of a deleted directory already
	unix.Close(fd)
}

// degrade makes the watcher rescan from now on.
func (w *watcher) degrade(err error) {
	select {
	case w.degraded <- err:
	default: // known already
	}
}

func (w *watcher) tick() {
	select {
	case w.ticks <- struct{}{}:
	default:
	}
}

func (w *watcher) stop() { w.stopOnce.Do(func() { close(w.stopped) }) }

func (w *watcher) run(ctx context.Context) {
	defer w.end()
	var events chan fsnotify.Event
	var failures chan error
	if w.events != nil {
		events, failures = w.events.Events, w.events.Errors
	}
	var gathering, again <-chan time.Time
	degraded := w.degraded
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.stopped:
			return
		case event := <-events:
			if gathering == nil && relevant(event) {
				gathering = time.After(gather)
			}
		case <-gathering:
			gathering = nil
			w.tick()
		case err := <-failures:
			w.degrade(err)
			w.tick()
		case err := <-degraded:
			degraded = nil // once is enough; its buffer then swallows the others
			w.log.Warn("folders can't be watched: looking again and again instead", zap.Error(err), zap.Duration("every", rescan))
			again = time.Tick(rescan)
		case <-again:
			w.tick()
		}
	}
}

// relevant is true for what may complete an output or hold new ones. Spark writes under temporary
// names and renames; fsnotify also tells of every write, which is nothing to us.
func relevant(e fsnotify.Event) bool {
	if !e.Has(fsnotify.Create) {
		return false
	}
	base := path.Base(e.Name)
	_, ok := parseName(base)
	return ok || isBucketName(base) || isManagerName(base)
}

func (w *watcher) end() {
	if w.events != nil {
		w.events.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fd := range w.held {
		unix.Close(fd)
	}
	w.held = nil
	close(w.ticks)
}
