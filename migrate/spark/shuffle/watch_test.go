package shuffle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// await scans at each tick until so many outputs were found.
func (n *node) await(s *Store, ticks <-chan struct{}, want int) {
	n.t.Helper()
	deadline := time.After(20 * time.Second)
	for found := 0; found < want; {
		select {
		case _, ok := <-ticks:
			if !ok {
				n.t.Fatal("the watch has ended")
			}
			list, _ := n.scan(s)
			found += len(list)
		case <-deadline:
			n.t.Fatalf("%d found, want %d", found, want)
		}
	}
}

func TestWatch(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	core, logs := observer.New(zap.WarnLevel)
	s := n.open(Options{Log: zap.New(core)})
	n.expect(s, "0_1:34") // what was found before the watch is watched too
	ticks := s.Watch(t.Context())
	<-ticks
	n.expect(s)
	n.commit("local/blockmgr-a/0c", 0, 2, 10)
	n.await(s, ticks, 1)
	n.commit("local/blockmgr-a/0d", 0, 3, 10) // a new bucket
	n.await(s, ticks, 1)
	n.commit("local/blockmgr-b/00", 0, 4, 10) // a new folder
	n.commit("local/blockmgr-b/00", 0, 5, 10)
	n.await(s, ticks, 2)
	if logs.Len() != 0 {
		t.Errorf("logged %v", logs.All())
	}
	if held := len(s.watcher.held); held != 6 {
		t.Errorf("%d directories watched, want 6", held)
	}
	n.must(os.RemoveAll(n.path("local/blockmgr-a")))
	n.expect(s)
	if held := len(s.watcher.held); held != 3 {
		t.Errorf("%d directories watched after removal, want 3", held)
	}
}

func TestWatchEnds(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	before := descriptors(t)
	s := n.open(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	first := s.Watch(ctx)
	n.expect(s, "0_1:34")
	second := s.Watch(ctx)
	drain(first)
	cancel()
	drain(second)
	third := s.Watch(t.Context())
	n.expect(s)
	n.must(s.Close())
	drain(third)
	drain(s.Watch(t.Context()))
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func drain(ticks <-chan struct{}) {
	for range ticks {
	}
}

func TestWatchFallsBack(t *testing.T) {
	n := newNode(t)
	core, logs := observer.New(zap.WarnLevel)
	s := n.open(Options{Log: zap.New(core)})
	ticks := s.Watch(t.Context())
	s.watcher.degrade(fsnotify.ErrEventOverflow)
	s.watcher.degrade(errors.New("no space left on device"))
	n.must(os.MkdirAll(n.path("local"), 0o755))
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	n.await(s, ticks, 1)
	s.watcher.degrade(errors.New("again"))
	<-ticks
	<-ticks
	if logs.Len() != 1 {
		t.Errorf("%d logs, want 1", logs.Len())
	}
}

func TestRelevant(t *testing.T) {
	for _, c := range []struct {
		name string
		op   fsnotify.Op
		want bool
	}{
		{"shuffle_0_1_0.index", fsnotify.Create, true},
		{"shuffle_0_1_0.data", fsnotify.Create, true},
		{"3f", fsnotify.Create, true},
		{"blockmgr-1", fsnotify.Create, true},
		{"shuffle_0_1_0.data", fsnotify.Write, false},
		{"shuffle_0_1_0.data", fsnotify.Remove, false},
		{"temp_shuffle_1", fsnotify.Create, false},
		{"shuffle_0_1_0.data.6b1f", fsnotify.Create | fsnotify.Rename, false},
	} {
		if relevant(fsnotify.Event{Name: "/proc/self/fd/7/" + c.name, Op: c.op}) != c.want {
			t.Errorf("%s %v: want %v", c.name, c.op, c.want)
		}
	}
}

func TestJunkNames(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100,000 files")
	}
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	for i := range 100_000 {
		f, err := os.Create(n.path("local/blockmgr-a/0c", fmt.Sprintf("shuffle_0_%d_0.data.%d", i, i)))
		n.must(err)
		f.Close()
	}
	s := n.open(Options{})
	if skipped := n.expect(s, "0_1:34"); len(skipped) != 0 || s.waiting != 0 {
		t.Errorf("%d skipped, %d names kept", len(skipped), s.waiting)
	}
}
