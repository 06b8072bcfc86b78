package shuffle

import (
	"os"
	"testing"

	"github.com/lifeboat/lifeboat/migrate"
)

// TestTake: what one store holds another one goes on with, also when it is gone from the disk.
func TestTake(t *testing.T) {
	n := newNode(t)
	limit := NewLimit(100)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	n.commit("local/blockmgr-b/01", 1, 3, 0)
	early := n.open(Options{Limit: limit})
	if list, _, err := early.Scan(t.Context()); err != nil || len(list) != 2 {
		t.Fatalf("%d found, %v", len(list), err)
	}
	n.commit("local/blockmgr-a/0c", 0, 2, 10)
	if err := os.RemoveAll(n.path("local/blockmgr-b")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shuffle_0_1_0.index", "shuffle_0_1_0.data"} {
		if err := os.Remove(n.path("local/blockmgr-a/0c", name)); err != nil {
			t.Fatal(err)
		}
	}
	n.expect(early, "0_2:34") // which also sees that a folder has gone
	if gone := early.Gone(t.Context()); len(gone) != 2 {
		t.Errorf("gone, and still held: %v", gone)
	}

	s := n.open(Options{Limit: limit})
	taken := map[migrate.OutputID]Found{}
	for _, f := range s.Take(early) {
		taken[f.Output.ID] = f
	}
	first := taken[migrate.OutputID{App: app, Shuffle: 0, Map: 1}]
	if len(taken) != 3 || first.Folder != "blockmgr-a" || limit.Used() != 5 {
		t.Fatalf("taken %+v, %d descriptors", taken, limit.Used())
	}
	if text, err := read(t, first.Output.Data); text != "dddddddddd" || err != nil {
		t.Errorf("data %q, %v", text, err)
	}
	n.commit("local/blockmgr-a/0c", 0, 4, 10)
	n.expect(s, "0_4:34")
	if early.Close(); s.Take(early) != nil {
		t.Error("something was left in a store that was taken")
	}

	s.Release(first.Output.ID)
	if gone := s.Prune(); len(gone) != 1 || gone[0] != first.Output.ID {
		t.Errorf("released and removed, and not forgotten: %v", gone)
	}
	if err := s.Close(); err != nil || limit.Used() != 0 {
		t.Errorf("%d descriptors are left, %v", limit.Used(), err)
	}
}

// TestTakeOfWhatIsKnown: folders that both have seen are looked at once.
func TestTakeOfWhatIsKnown(t *testing.T) {
	n := newNode(t)
	limit := NewLimit(100)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	early, s := n.open(Options{Limit: limit}), n.open(Options{Limit: limit})
	n.expect(early, "0_1:34")
	n.expect(s, "0_1:34")
	if found := s.Take(early); len(found) != 0 || limit.Used() != 2 {
		t.Errorf("taken twice: %v, %d descriptors", found, limit.Used())
	}
	n.expect(s)
	s.Close()
	third := n.open(Options{Limit: limit})
	n.expect(third, "0_1:34")
	if found := s.Take(third); found != nil || limit.Used() != 0 {
		t.Errorf("taken by a closed store: %v, %d descriptors", found, limit.Used())
	}
}

// TestTakeIsWatched: a store that is followed sees what comes into the folders that it has taken.
func TestTakeIsWatched(t *testing.T) {
	n := newNode(t)
	limit := NewLimit(100)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	early := n.open(Options{Limit: limit})
	early.Watch(t.Context())
	n.expect(early, "0_1:34")
	s, err := Open(t.Context(), Options{App: app, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Take(early)
	ticks := s.Watch(t.Context())
	<-ticks
	n.expect(s)
	n.commit("local/blockmgr-a/0c", 0, 2, 10)
	<-ticks
	n.expect(s, "0_2:34")
}

// below is a node's process with some of its local directories.
func (n *node) below(dirs ...string) []Root { return []Root{{Proc: n.proc, PID: nodePID, Dirs: dirs}} }

// TestTakeOfWhatWasNotPinned: it is pinned as soon as there is room.
func TestTakeOfWhatWasNotPinned(t *testing.T) {
	n := newNode(t)
	limit := NewLimit(4)
	limit.take(4) // by somebody else
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	early, s := n.open(Options{Limit: limit}), n.open(Options{Limit: limit})
	n.expect(early, "0_1:34")
	limit.give(4)
	if found := s.Take(early); len(found) != 0 {
		t.Errorf("taken: %v", found)
	}
	n.expect(s, "0_1:34")
	if limit.Used() != 2 {
		t.Errorf("%d descriptors", limit.Used())
	}
}

// TestTakeOfSharedDirectories: an output may lie in one that both stores have and in one that only the other has.
func TestTakeOfSharedDirectories(t *testing.T) {
	n := newNode(t)
	limit := NewLimit(100)
	n.commit("shared/blockmgr-a/0c", 0, 1, 10)
	n.commit("own/blockmgr-b/0c", 0, 2, 10)
	n.must(os.MkdirAll(n.path("shared/blockmgr-b/0c"), 0o755))
	n.must(os.Rename(n.path("own/blockmgr-b/0c/shuffle_0_2_0.index"), n.path("shared/blockmgr-b/0c/shuffle_0_2_0.index")))
	first := n.open(Options{Limit: limit, Roots: n.below("/shared")})
	second := n.open(Options{Limit: limit, Roots: n.below("/shared", "/own")})
	n.expect(first, "0_1:34")
	n.expect(second, "0_1:34", "0_2:34")
	if found := first.Take(second); len(found) != 1 || found[0].Output.ID.Map != 2 || limit.Used() != 4 {
		t.Errorf("taken %+v, %d descriptors", found, limit.Used())
	}
	n.expect(first)
	if first.Close(); limit.Used() != 0 {
		t.Errorf("%d descriptors are left", limit.Used())
	}
}

// TestTakeOfHalfAnOutput: what one store has whole it does not look for in the folders of another.
func TestTakeOfHalfAnOutput(t *testing.T) {
	n := newNode(t)
	limit := NewLimit(100)
	n.commit("one/blockmgr-a/0c", 0, 1, 10)
	n.commit("two/blockmgr-b/0c", 0, 1, 10)
	index := n.path("two/blockmgr-b/0c/shuffle_0_1_0.index")
	n.must(os.Rename(index, n.path("aside")))
	first := n.open(Options{Limit: limit, Roots: n.below("/one")})
	second := n.open(Options{Limit: limit, Roots: n.below("/two")})
	n.expect(first, "0_1:34")
	n.expect(second)
	first.Take(second)
	n.must(os.Rename(n.path("aside"), index))
	n.expect(first)
	if first.Close(); limit.Used() != 0 {
		t.Errorf("%d descriptors are left", limit.Used())
	}
}
