package file

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// wake asks the poll loop for a look, at once or later.
type wake struct {
	now   chan struct{}
	mu    sync.Mutex
	timer *time.Timer
}

func newWake() *wake { return &wake{now: make(chan struct{}, 1)} }

func (w *wake) poke() {
	select {
	case w.now <- struct{}{}:
	default:
	}
}

// in asks for a look after d, in the place of the one that was asked for before; 0 for none.
func (w *wake) in(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	if d > 0 {
		w.timer = time.AfterFunc(d, w.poke)
	}
}

// folderWatch is what is watched, and how.
type folderWatch struct {
	folder   string
	interval time.Duration
	mine     func(name string) bool // changes of which names count
	wake     *wake
	log      *zap.Logger
}

// runWatched runs a poll loop, woken by changes of the folder.
func runWatched(ctx context.Context, f folderWatch, loop func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.watch(ctx)
	}()
	defer func() {
		cancel()
		<-done
		f.wake.in(0)
	}()
	return loop()
}

// watch wakes the poll loop when the kernel reports a change. Without it the loop still looks at every interval.
func (f folderWatch) watch(ctx context.Context) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("no file events; looking now and then instead", zap.String("folder", f.folder), zap.Error(err))
		return
	}
	defer w.Close()
	// The folder may appear late, or be replaced: the watch is set again and again, which costs
	// nothing while it is in place.
	again := time.NewTicker(f.interval)
	defer again.Stop()
	if w.Add(f.folder) == nil {
		f.wake.poke() // what happened before the watch was there
	}
	for {
		select {
		case e := <-w.Events:
			if f.mine(filepath.Base(e.Name)) {
				f.wake.poke()
			}
		case err := <-w.Errors: // the queue overflowed, perhaps
			f.log.Debug("file events may be missing", zap.String("folder", f.folder), zap.Error(err))
			f.wake.poke()
		case <-again.C:
			_ = w.Add(f.folder)
		case <-ctx.Done():
			return
		}
	}
}
