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
	n.commit("local/blockmgr-a/0c", 0, 2, 10) // not seen by the first
	if err := os.RemoveAll(n.path("local/blockmgr-b")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shuffle_0_1_0.index", "shuffle_0_1_0.data"} {
		if err := os.Remove(n.path("local/blockmgr-a/0c", name)); err != nil {
			t.Fatal(err)
		}
	}
	if gone := early.Gone(); len(gone) != 2 {
		t.Errorf("gone, and still held: %v", gone)
	}

	s := n.open(Options{Limit: limit})
	taken := map[migrate.OutputID]Found{}
	for _, f := range s.Take(early) {
		taken[f.Output.ID] = f
	}
	first := taken[migrate.OutputID{App: app, Shuffle: 0, Map: 1}]
	if len(taken) != 2 || first.Folder != "blockmgr-a" || limit.Used() != 3 {
		t.Fatalf("taken %+v, %d descriptors", taken, limit.Used())
	}
	if text, err := read(t, first.Output.Data); text != "dddddddddd" || err != nil {
		t.Errorf("data %q, %v", text, err)
	}
	n.expect(s, "0_2:34")
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
