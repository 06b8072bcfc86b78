package shuffle

import (
	"os"
	"testing"
)

func TestPruneForgetsWhatWasRemoved(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	n.commit("local/blockmgr-a/0c", 0, 2, 10)
	n.commit("local/blockmgr-b/01", 1, 3, 10)
	s := n.open(Options{Limit: NoPins()})
	if list, _, err := s.Scan(t.Context()); err != nil || len(list) != 3 {
		t.Fatalf("%d found, %v", len(list), err)
	}
	if gone := s.Prune(); len(gone) != 0 {
		t.Fatalf("all is there, and %v was forgotten", gone)
	}

	for _, name := range []string{"shuffle_0_1_0.index", "shuffle_0_1_0.data"} {
		if err := os.Remove(n.path("local/blockmgr-a/0c", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(n.path("local/blockmgr-b")); err != nil {
		t.Fatal(err)
	}
	gone := s.Prune()
	if len(gone) != 2 || len(s.known) != 1 {
		t.Errorf("forgotten %v, %d left", gone, len(s.known))
	}
	if list, _, err := s.Scan(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%d found again, %v", len(list), err)
	}
	n.commit("local/blockmgr-a/0c", 0, 1, 20)
	if list, _, err := s.Scan(t.Context()); err != nil || len(list) != 1 || list[0].Output.Data.Size() != 20 {
		t.Errorf("an output that came again was not found: %+v, %v", list, err)
	}
}

func TestPruneKeepsWhatIsPinned(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	s := n.open(Options{})
	list, _, err := s.Scan(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%d found, %v", len(list), err)
	}
	if err := os.RemoveAll(n.path("local/blockmgr-a")); err != nil {
		t.Fatal(err)
	}
	if gone := s.Prune(); len(gone) != 0 {
		t.Fatalf("forgotten: %v", gone)
	}
	if _, err := read(t, list[0].Output.Data); err != nil {
		t.Error(err)
	}
	s.Release(list[0].Output.ID)
	if gone := s.Prune(); len(gone) != 1 {
		t.Errorf("released and removed, and not forgotten: %v", gone)
	}
}

// TestLetGoOfRemovedFolders: what lay in one that has gone keeps a file system in use as well.
func TestLetGoOfRemovedFolders(t *testing.T) {
	n := newNode(t)
	limit := NewLimit(100)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	s := n.open(Options{Limit: limit})
	n.expect(s, "0_1:34")
	n.must(os.RemoveAll(n.path("local/blockmgr-a")))
	n.expect(s)
	s.LetGo(nodePID)
	if limit.Used() != 0 {
		t.Errorf("%d descriptors are left", limit.Used())
	}
}
