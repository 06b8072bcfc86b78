package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestUnfinishedActedPrune(t *testing.T) {
	s := testStore(t)
	if r, err := s.Unfinished(); r != nil || err != nil {
		t.Fatalf("%v %v", r, err)
	}
	must(t, begun(t, s).Close())
	for i, id := range []string{id2, id3} {
		j, err := s.Create(id, notice(fmt.Sprint("later", i)), Scope{})
		must(t, err)
		must(t, j.Done("all", 0))
		must(t, j.Close())
	}
	r, err := s.Unfinished()
	must(t, err)
	if r == nil || r.ID != id1 {
		t.Fatalf("unfinished %+v", r)
	}
	for id, want := range map[string]bool{"n1": true, "n2": true, "later0": true, "later1": true, "": false, "x": false} {
		if s.Acted(id) != want {
			t.Errorf("acted on %q: %v", id, !want)
		}
	}
	must(t, s.Prune(3))
	must(t, s.Prune(1))
	ids, err := IDs(s.dir)
	must(t, err)
	if len(ids) != 1 || ids[0] != id3 || s.Acted("n1") {
		t.Errorf("left %v", ids)
	}
	if r, err := s.Unfinished(); r != nil || err != nil {
		t.Errorf("%v %v", r, err)
	}
}

func TestPruneSparesTheRunningRescue(t *testing.T) {
	s := testStore(t)
	j := begun(t, s)
	must(t, os.Mkdir(Folder(s.dir, id2), 0o700))
	must(t, os.Mkdir(Folder(s.dir, id3), 0o700))
	must(t, s.Prune(1))
	ids, err := IDs(s.dir)
	must(t, err)
	if len(ids) != 2 || ids[0] != id1 {
		t.Errorf("left %v", ids)
	}
	must(t, j.Close())
}

func TestStateFolderIsOursAlone(t *testing.T) {
	s := testStore(t)
	must(t, begun(t, s).Close())
	for path, want := range map[string]os.FileMode{
		s.dir:             0o700,
		Folder(s.dir, ""): 0o700, Folder(s.dir, id1): 0o700,
		filepath.Join(Folder(s.dir, id1), journalFile): 0o600, filepath.Join(s.dir, lockFile): 0o600,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
	}
	if err := s.Writable(); err != nil {
		t.Error(err)
	}
	must(t, os.RemoveAll(s.dir))
	if s.Writable() == nil {
		t.Error("a folder that is gone is writable")
	}
}

func TestOpenFolders(t *testing.T) {
	open := func(t *testing.T, content ...string) (string, error) {
		dir := filepath.Join(t.TempDir(), "s")
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.Chmod(dir, 0o755))
		for _, c := range content {
			must(t, os.Mkdir(filepath.Join(dir, c), 0o700))
		}
		_, err := Open(dir, zap.NewNop())
		return dir, err
	}
	t.Run("empty one is closed", func(t *testing.T) {
		dir, err := open(t)
		must(t, err)
		info, err := os.Stat(dir)
		must(t, err)
		if info.Mode().Perm() != 0o700 {
			t.Errorf("mode %o", info.Mode().Perm())
		}
	})
	t.Run("ours is closed", func(t *testing.T) {
		_, err := open(t, "rescues", "applications.json")
		must(t, err)
	})
	t.Run("somebody's is left alone", func(t *testing.T) {
		dir, err := open(t, "www")
		if err == nil || !strings.Contains(err.Error(), `"www"`) {
			t.Errorf("got %v", err)
		}
		info, err := os.Stat(dir)
		must(t, err)
		if info.Mode().Perm() != 0o755 {
			t.Errorf("mode %o", info.Mode().Perm())
		}
	})
	t.Run("symlink", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "l")
		must(t, os.Symlink(t.TempDir(), link))
		if _, err := Open(link, zap.NewNop()); err == nil {
			t.Error("followed")
		}
	})
	t.Run("another owner", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root to give a folder away")
		}
		dir := t.TempDir()
		must(t, os.Chown(dir, 12345, 12345))
		if _, err := Open(dir, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "12345") {
			t.Errorf("got %v", err)
		}
	})
}

func TestBadIDs(t *testing.T) {
	s := testStore(t)
	for _, id := range []string{"", "..", "../../etc", "20261121-101502-7f3a/..", "20261121-101502-7F3A"} {
		if _, err := s.Create(id, notice("n"), Scope{}); err == nil {
			t.Errorf("%q created", id)
		}
		if _, _, err := s.Open(id); err == nil {
			t.Errorf("%q opened", id)
		}
		if _, err := s.Read(id); err == nil {
			t.Errorf("%q read", id)
		}
	}
	now := time.Date(2026, 11, 21, 11, 15, 2, 0, time.FixedZone("", 3600))
	if id := NewID(now); !ValidID(id) || !strings.HasPrefix(id, "20261121-101502-") {
		t.Errorf("id %s", id)
	}
}

func TestDryRunTakesNoLockAndIsNotTakenUp(t *testing.T) {
	s := testStore(t)
	dry, err := s.Create(id1, notice("n1"), Scope{DryRun: true})
	must(t, err)
	j, err := s.Create(id2, notice("n2"), Scope{})
	must(t, err)
	other, err := s.Create(id3, notice("n3"), Scope{DryRun: true})
	must(t, err)
	must(t, other.Done("all", 0))
	must(t, other.Close())
	must(t, j.Done("all", 0))
	must(t, j.Close())
	must(t, dry.Close())
	if r, err := s.Unfinished(); r != nil || err != nil {
		t.Errorf("unfinished: %+v, %v", r, err)
	}
}

func TestWithdrawnNoticeIsNotActedOn(t *testing.T) {
	s := testStore(t)
	j, err := s.Create(id1, notice("n1"), Scope{})
	must(t, err)
	must(t, j.Merged(notice("n2")))
	must(t, j.Withdrawn(notice("n1")))
	must(t, j.Withdrawn(notice("n2")))
	must(t, j.Close())
	if s.Acted("n1") || s.Acted("n2") {
		t.Error("acted on a withdrawn notice")
	}
	if r, err := s.Unfinished(); r != nil || err != nil {
		t.Errorf("unfinished: %+v, %v", r, err)
	}
	j, err = s.Create(id2, notice("n1"), Scope{}) // it came again
	must(t, err)
	must(t, j.Close())
	if !s.Acted("n1") {
		t.Error("not acted on when it came again")
	}
}

func TestToldAcrossRescues(t *testing.T) {
	s := testStore(t)
	must(t, begun(t, s).Close())
	j, err := s.Create(id2, notice("n2"), Scope{})
	must(t, err)
	must(t, j.TellIntent(app, "2", "rpc"))
	must(t, j.Close())
	got := s.Told(10)
	if len(got) != 3 || got[Executor{app, "1"}].Trigger != "rpc" || got[Executor{app, "1"}].At.IsZero() ||
		got[Executor{"other", "1"}].Trigger != "sigpwr" || !got[Executor{app, "2"}].At.IsZero() {
		t.Errorf("got %+v", got)
	}
	if got := s.Told(1); len(got) != 1 {
		t.Errorf("of the newest: %+v", got)
	}
}

func TestNothingIsLeftOfAFailedCreate(t *testing.T) {
	s := testStore(t)
	long := notice("n1")
	long.Executors = []string{strings.Repeat("x", maxLine)}
	if _, err := s.Create(id1, long, Scope{}); err == nil {
		t.Fatal("no error")
	}
	if ids, err := IDs(s.dir); len(ids) != 0 || err != nil {
		t.Errorf("left: %v, %v", ids, err)
	}
	j, err := s.Create(id1, notice("n1"), Scope{})
	must(t, err)
	must(t, j.Close())
}

func TestFinishedRescuesAreReadOnce(t *testing.T) {
	s := testStore(t)
	j, err := s.Create(id1, notice("n1"), Scope{})
	must(t, err)
	must(t, j.TellIntent(app, "1", "rpc"))
	if !s.Acted("n1") || s.Told(1)[Executor{app, "1"}].Trigger != "rpc" {
		t.Error("a running rescue is not seen")
	}
	must(t, j.Merged(notice("n2")))
	if !s.Acted("n2") {
		t.Error("what a running rescue adds is not seen")
	}
	must(t, j.Done("all", 0))
	must(t, j.Close())
	if !s.Acted("n2") {
		t.Error("a finished rescue is not seen")
	}
	must(t, os.Truncate(filepath.Join(Folder(s.dir, id1), journalFile), 0))
	if !s.Acted("n1") || len(s.Told(1)) != 1 {
		t.Error("a finished rescue is read again")
	}
	j, err = s.Create(id2, notice("n9"), Scope{})
	must(t, err)
	must(t, j.Close())
	must(t, s.Prune(1))
	if s.Acted("n1") || len(s.digests) != 0 {
		t.Error("a removed rescue is remembered")
	}
}
