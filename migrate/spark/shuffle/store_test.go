package shuffle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

func TestScanFindsWhatIsCommitted(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	n.commit("local/blockmgr-a/3f", 0, 2, 0) // nothing written: no data file
	n.commit("local/blockmgr-b/00", 1, 9223372036854775807, 4)
	for _, ignored := range []string{"shuffle_0_3_0.index.6b1f", "shuffle_0_1_0.checksum.ADLER32", "shuffleMerged_x_0_0_1.data", "temp_shuffle_1", "rdd_0_1", "shuffle_0_4_7.index"} {
		n.file(n.path("local/blockmgr-a/0c", ignored), []byte("x"))
	}
	n.file(n.path("local/not-blockmgr/0c/shuffle_0_5_0.index"), index(0))
	n.file(n.path("local/blockmgr-a/xyz/shuffle_0_6_0.index"), index(0))
	s := n.open(Options{})

	list, skipped, err := s.Scan(t.Context())
	if err != nil || len(list) != 3 || len(skipped) != 0 {
		t.Fatalf("%d found, skipped %+v, %v", len(list), skipped, err)
	}
	first := list[0]
	if want := (migrate.OutputID{App: app, Shuffle: 0, Map: 1}); first.Output.ID != want || first.Folder != "blockmgr-a" {
		t.Errorf("got %+v", first)
	}
	if time.Since(first.Output.Committed) > time.Minute || first.Output.Committed.After(time.Now()) {
		t.Errorf("committed %v", first.Output.Committed)
	}
	if text, err := read(t, first.Output.Data); text != "dddddddddd" || err != nil {
		t.Errorf("data %q, %v", text, err)
	}
	if text, err := read(t, first.Output.Index); text != string(index(0, 5, 10)) || err != nil {
		t.Errorf("index %q, %v", text, err)
	}
	if list[1].Output.Data != nil {
		t.Error("an output without records has no data")
	}
	folders := s.Folders()
	if len(folders) != 2 || folders[0].Outputs+folders[1].Outputs != 3 || folders[0].Bytes+folders[1].Bytes != 34+24+28 {
		t.Errorf("folders %+v", folders)
	}
	if f := folders[0]; f.Path != "/local/"+f.Name || f.PID != nodePID {
		t.Errorf("folder %+v", f)
	}
	n.expect(s)
}

func TestScanIsIncremental(t *testing.T) {
	n := newNode(t)
	n.must(os.Mkdir(n.path("local"), 0o755))
	s := n.open(Options{})
	n.expect(s)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	n.expect(s, "0_1:34")
	n.commit("local/blockmgr-a/0c", 0, 2, 12)
	n.expect(s, "0_2:36")
	n.commit("local/blockmgr-a/1d", 0, 3, 2)
	n.commit("local/blockmgr-late/00", 0, 4, 2)
	n.expect(s, "0_3:26", "0_4:26")
	n.expect(s)
	// Old time stamps: what has not changed is not listed again.
	dirs := []string{n.path("local"), n.path("local/blockmgr-a"), n.path("local/blockmgr-a/0c")}
	backdate(t, dirs...)
	n.expect(s)
	for _, l := range s.locals {
		for _, f := range l.folders {
			for _, b := range f.buckets {
				if b.name == "0c" && !b.stamp.fresh(b.stamp.mtime) {
					t.Error("an unchanged bucket would be listed again")
				}
			}
		}
	}
	n.commit("local/blockmgr-a/0c", 0, 5, 2)
	n.expect(s, "0_5:26")
	n.must(os.RemoveAll(n.path("local/blockmgr-a")))
	n.expect(s)
	if folders := s.Folders(); len(folders) != 1 {
		t.Errorf("folders %+v", folders)
	}
}

func TestHalfCommittedIsPending(t *testing.T) {
	n := newNode(t)
	s := n.open(Options{})
	base := n.path("local/blockmgr-a/0c/shuffle_0_1_0")
	n.file(base+".index", index(0, 5))
	n.reasons(n.expect(s), "data file of 5 bytes is missing")
	backdate(t, base+".index") // its change time stays young
	n.reasons(n.expect(s), "data file of 5 bytes is missing")
	n.file(base+".data", []byte("12345678"))
	n.reasons(n.expect(s), "data file has 8 bytes, its index says 5")
	n.file(base+".data", []byte("123"))
	n.reasons(n.expect(s), "data file has 3 bytes")
	n.file(base+".data", []byte("12345"))
	if skipped := n.expect(s, "0_1:21"); len(skipped) != 0 {
		t.Errorf("skipped %+v", skipped)
	}
	n.file(n.path("local/blockmgr-a/0d/shuffle_0_2_0.data"), []byte("1"))
	n.reasons(n.expect(s), "index file is missing")
	n.file(n.path("local/blockmgr-a/0d/shuffle_0_2_0.index"), index(0))
	n.reasons(n.expect(s), "data file has 1 bytes, its index says 0")
}

func TestSeveralLocalDirs(t *testing.T) {
	n := newNode(t)
	roots := []Root{{Proc: n.proc, PID: nodePID, Dirs: []string{"/l1", "/l2"}}, {Proc: n.proc, PID: nodePID, Dirs: []string{"/l2", "/l3"}}}
	n.file(n.path("l1/blockmgr-a/00/shuffle_0_1_0.index"), index(0, 3))
	n.file(n.path("l2/blockmgr-b/01/shuffle_0_1_0.data"), []byte("abc"))
	s := n.open(Options{Roots: roots})
	skipped := n.expect(s, "0_1:19")
	n.reasons(skipped, "no such local directory")
	if len(s.locals) != 2 {
		t.Errorf("%d local directories, want 2: one is shared", len(s.locals))
	}
	n.commit("l3/blockmgr-c/00", 0, 2, 2)
	if skipped := n.expect(s, "0_2:26"); len(skipped) != 0 {
		t.Errorf("skipped %+v", skipped)
	}
}

func TestCopiesOfOneOutput(t *testing.T) {
	n := newNode(t)
	base := func(folder string) string { return n.path("local", folder, "0c/shuffle_0_1_0") }
	// a: broken; b: complete and old; c: complete and new; d: data alone, newest.
	n.file(base("blockmgr-a")+".index", index(0, 9))
	n.file(base("blockmgr-a")+".data", []byte("short"))
	n.file(base("blockmgr-b")+".index", index(0, 3))
	n.file(base("blockmgr-b")+".data", []byte("old"))
	backdate(t, base("blockmgr-b")+".index", base("blockmgr-b")+".data")
	n.file(base("blockmgr-c")+".index", index(0, 3))
	n.file(base("blockmgr-c")+".data", []byte("new"))
	n.file(base("blockmgr-d")+".data", []byte("mix"))
	s := n.open(Options{})
	list, skipped, err := s.Scan(t.Context())
	if err != nil || len(list) != 1 || len(skipped) != 0 {
		t.Fatalf("%+v, %+v, %v", list, skipped, err)
	}
	if text, _ := read(t, list[0].Output.Data); text != "new" || list[0].Folder != "blockmgr-c" {
		t.Errorf("got %q from %s", text, list[0].Folder)
	}
	n.expect(s)
}

func TestPinnedOutlivesEverything(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	n.commit("local/blockmgr-a/0d", 0, 2, 10)
	s := n.open(Options{})
	list, _, err := s.Scan(t.Context())
	n.must(err)
	n.must(os.RemoveAll(n.root))
	n.must(os.RemoveAll(filepath.Join(n.proc, "77")))
	for _, f := range list {
		if text, err := read(t, f.Output.Data); text != "dddddddddd" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	}
	if found, _, err := s.Scan(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("scan after everything went: %v, %v", found, err)
	}
	s.Release(list[0].Output.ID)
	if _, err := read(t, list[0].Output.Data); migrate.KindOf(err) != migrate.Corrupt {
		t.Errorf("released and deleted: %v", err)
	}
	if _, err := Open(t.Context(), Options{Roots: []Root{{Proc: n.proc, PID: nodePID}}}); !errors.Is(err, ErrGone) {
		t.Errorf("open of a process that has gone: %v", err)
	}
}

func TestRealProcessRoot(t *testing.T) {
	dir := t.TempDir()
	n := &node{t: t, root: dir}
	n.commit("real/blockmgr-a/0c", 0, 1, 10)
	n.must(os.Symlink(dir+"/real", dir+"/link")) // absolute symlinks of local directories are fine
	cmd := exec.Command("sleep", "60")
	n.must(cmd.Start())
	t.Cleanup(func() { // both fail when it has ended before
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pid := cmd.Process.Pid
	if _, err := Open(t.Context(), Options{Roots: []Root{{PID: pid, Start: 1}}}); !errors.Is(err, ErrGone) {
		t.Errorf("another process's start time: %v", err)
	}
	s := n.open(Options{Roots: []Root{{PID: pid, Dirs: []string{dir + "/link"}}, {PID: 1 << 30, Dirs: []string{"/"}}}})
	n.must(cmd.Process.Kill())
	_, err := cmd.Process.Wait()
	n.must(err)
	list, _, err := s.Scan(t.Context()) // the first look comes after its end
	if len(list) != 1 || !errors.Is(err, ErrGone) {
		t.Fatalf("%d found, %v", len(list), err)
	}
	n.expect(s) // the missing root is reported once
	if err := s.Add(Root{PID: pid}); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "has gone") {
		t.Errorf("add of a process that has gone: %v", err)
	}
}

func TestHostileFiles(t *testing.T) {
	n := newNode(t)
	secret := t.TempDir()
	outside := &node{t: t, root: secret}
	outside.commit("blockmgr-x/00", 9, 9, 5)
	n.must(os.MkdirAll(n.path("local/blockmgr-a/00"), 0o755))
	n.must(os.Symlink(secret+"/blockmgr-x", n.path("local/blockmgr-out")))
	n.must(os.Symlink(secret+"/blockmgr-x/00", n.path("local/blockmgr-a/01")))
	n.must(os.Symlink("00", n.path("local/blockmgr-a/02")))
	in := func(name string) string { return n.path("local/blockmgr-a/00", name) }
	n.must(os.Symlink(secret+"/blockmgr-x/00/shuffle_9_9_0.index", in("shuffle_0_1_0.index")))
	n.file(in("shuffle_0_2_0.index"), index(0, 5))
	n.must(os.Symlink(secret+"/blockmgr-x/00/shuffle_9_9_0.data", in("shuffle_0_2_0.data")))
	n.file(in("shuffle_0_3_0.index"), index(0, 5))
	n.must(unix.Mkfifo(in("shuffle_0_3_0.data"), 0o644))
	n.file(in("shuffle_0_4_0.index"), index(0, 5))
	n.must(os.Mkdir(in("shuffle_0_4_0.data"), 0o755))
	n.must(unix.Mkfifo(in("shuffle_0_5_0.index"), 0o644))
	n.must(os.WriteFile(in("shuffle_0_6_0.index"), nil, 0o644))
	n.must(os.Truncate(in("shuffle_0_6_0.index"), maxIndex+8))
	n.file(in("shuffle_0_7_0.index"), index(0, 7, 5))
	n.commit("local/blockmgr-a/00", 0, 8, 6)
	s := n.open(Options{})
	skipped := n.expect(s, "0_8:30")
	reasons := make(map[string]string)
	for _, sk := range skipped {
		key := sk.Folder
		if sk.ID.App != "" {
			key = sk.ID.String()
		} else if word, _, ok := strings.Cut(sk.Reason, ": "); ok && len(word) == 2 {
			key = word
		}
		reasons[key] = sk.Reason
	}
	for key, want := range map[string]string{
		"blockmgr-out": "can't be opened", "01": "not a directory", "02": "not a directory",
		app + "/shuffle_0_1": "not a regular file", app + "/shuffle_0_2": "not a regular file", app + "/shuffle_0_3": "not a regular file",
		app + "/shuffle_0_4": "not a regular file", app + "/shuffle_0_5": "not a regular file", app + "/shuffle_0_6": "the cap is", app + "/shuffle_0_7": "go down",
	} {
		if !strings.Contains(reasons[key], want) {
			t.Errorf("%s: %q, want %q", key, reasons[key], want)
		}
	}
	if len(skipped) != 10 {
		t.Errorf("%d skipped", len(skipped))
	}
}

func TestLocalDirStaysInRoot(t *testing.T) {
	n := newNode(t)
	host := t.TempDir()
	(&node{t: t, root: host}).commit("blockmgr-host/00", 9, 9, 5)
	n.commit("data/real/blockmgr-a/00", 0, 1, 5)
	n.must(os.Symlink("/data/real", n.path("absolute"))) // means <root>/data/real
	n.must(os.Symlink(host, n.path("escape")))
	n.must(os.Symlink("../../../../../.."+host, n.path("climb")))
	s := n.open(Options{Roots: []Root{{Proc: n.proc, PID: nodePID, Dirs: []string{"/absolute", "/escape", "/climb", "/../../.." + host}}}})
	n.reasons(n.expect(s, "0_1:29"), "no such", "no such", "no such")
}

func TestLazyBeyondTheLimit(t *testing.T) {
	n := newNode(t)
	for m := range 4 {
		n.commit("local/blockmgr-a/0c", 0, m, 10)
	}
	core, logs := observer.New(zap.WarnLevel)
	limit := NewLimit(2)
	s := n.open(Options{Limit: limit, Log: zap.New(core)})
	list, _, err := s.Scan(t.Context())
	n.must(err)
	if len(list) != 4 || limit.Used() != 2 || !limit.Reached() || logs.Len() != 1 {
		t.Fatalf("%d found, %d used, reached %v, %d logs", len(list), limit.Used(), limit.Reached(), logs.Len())
	}
	before := descriptors(t)
	for _, f := range list {
		if text, err := read(t, f.Output.Data); text != "dddddddddd" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	file := func(m int) string { return n.path("local/blockmgr-a/0c", fmt.Sprintf("shuffle_0_%d_0.data", m)) }
	n.file(file(1), []byte("DDDDDDDDDD"))
	n.must(os.Remove(file(2)))
	n.must(os.Truncate(file(3), 3))
	for _, f := range list[1:] {
		if _, err := read(t, f.Output.Data); migrate.KindOf(err) != migrate.Corrupt {
			t.Errorf("%v: %v", f.Output.ID, err)
		}
		raw, _ := f.Output.Data.(syscall.Conn).SyscallConn()
		if err := raw.Control(func(uintptr) { t.Error("called") }); migrate.KindOf(err) != migrate.Corrupt {
			t.Errorf("%v: %v", f.Output.ID, err)
		}
	}
	s.Release(list[0].Output.ID)
	if text, err := read(t, list[0].Output.Data); limit.Used() != 0 || err != nil || text != "dddddddddd" {
		t.Errorf("after release: %d used, %q, %v", limit.Used(), text, err)
	}
}

func TestBlobReads(t *testing.T) {
	n := newNode(t)
	n.file(n.path("local/blockmgr-a/00/shuffle_0_1_0.index"), index(0, 10))
	path := n.file(n.path("local/blockmgr-a/00/shuffle_0_1_0.data"), []byte("0123456789"))
	s := n.open(Options{})
	list, _, err := s.Scan(t.Context())
	n.must(err)
	data := list[0].Output.Data
	for _, c := range []struct {
		off  int64
		size int
		want string
		err  error
	}{{0, 4, "0123", nil}, {6, 4, "6789", nil}, {6, 5, "6789", io.EOF}, {10, 1, "", io.EOF}, {99, 1, "", io.EOF}, {3, 0, "", nil}} {
		buf := make([]byte, c.size)
		got, err := data.ReadAt(buf, c.off)
		if string(buf[:got]) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%+v: %q, %v", c, buf[:got], err)
		}
	}
	if _, err := data.ReadAt(nil, -1); err == nil {
		t.Error("negative offset")
	}
	raw, err := data.(syscall.Conn).SyscallConn()
	n.must(err)
	var st unix.Stat_t
	n.must(raw.Read(func(fd uintptr) bool { return unix.Fstat(int(fd), &st) == nil }))
	if st.Size != 10 {
		t.Errorf("size %d", st.Size)
	}
	if raw.Write(func(uintptr) bool { return true }) == nil || raw.Read(func(uintptr) bool { return false }) == nil {
		t.Error("no error")
	}
	n.must(os.Truncate(path, 4))
	if got, err := data.ReadAt(make([]byte, 10), 0); got != 4 || migrate.KindOf(err) != migrate.Corrupt {
		t.Errorf("truncated in place: %d, %v", got, err)
	}
	n.must(s.Close())
	if _, err := data.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, _, err := s.Scan(t.Context()); err == nil {
		t.Error("scan after Close")
	}
	if s.Add(Root{Proc: n.proc, PID: nodePID}) == nil {
		t.Error("add after Close")
	}
}

func TestCloseWhileReading(t *testing.T) {
	n := newNode(t)
	for m := range 8 {
		n.commit("local/blockmgr-a/0c", 0, m, 100)
	}
	before := descriptors(t)
	limit := NewLimit(8)
	s := n.open(Options{Limit: limit})
	list, _, err := s.Scan(t.Context())
	n.must(err)
	var readers sync.WaitGroup
	for _, f := range list {
		readers.Go(func() {
			for {
				if _, err := read(t, f.Output.Data); err != nil {
					return
				}
			}
		})
	}
	n.must(s.Close())
	readers.Wait()
	if after := descriptors(t); after != before || limit.Used() != 0 {
		t.Errorf("%d descriptors before, %d after; %d counted", before, after, limit.Used())
	}
}

func TestScanStopsWithItsContext(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	s := n.open(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, _, err := s.Scan(ctx); !errors.Is(err, context.Canceled) || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	n.expect(s, "0_1:34")
}

func TestFilesVanishBetweenListAndOpen(t *testing.T) {
	n := newNode(t)
	for m := range 3 {
		n.commit("local/blockmgr-a/0c", 0, m, 10)
	}
	s := n.open(Options{})
	p := &pass{ctx: t.Context(), now: time.Now()}
	s.scan.Lock()
	s.list(p)
	n.must(os.Remove(n.path("local/blockmgr-a/0c/shuffle_0_0_0.index")))
	n.must(os.Remove(n.path("local/blockmgr-a/0c/shuffle_0_0_0.data")))
	n.must(os.Remove(n.path("local/blockmgr-a/0c/shuffle_0_1_0.data")))
	s.join(p)
	s.scan.Unlock()
	if len(p.found) != 1 || len(p.errs) != 0 || len(p.skipped) != 1 {
		t.Errorf("found %v, skipped %v, errors %v", p.found, p.skipped, p.errs)
	}
}

func TestLimitDefault(t *testing.T) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	if got := NewLimit(0).Highest(); got != int(min(r.Max, 1<<20))/2 {
		t.Errorf("got %d, hard limit %d", got, r.Max)
	}
}

func TestSync(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	s := n.open(Options{})
	n.expect(s, "0_1:34")
	if err := s.Sync(t.Context(), nodePID, []string{"/local", "/not-there"}); err != nil {
		t.Errorf("sync: %v", err)
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the deadline is here"))
	for range 100 { // a quick disk may be done all the same
		if err := s.Sync(over, nodePID, []string{"/local"}); err != nil {
			if !strings.Contains(err.Error(), "/local") || !strings.Contains(err.Error(), "the deadline is here") {
				t.Errorf("sync that is not waited for: %v", err)
			}
			return
		}
	}
	t.Error("it is waited for after the deadline")
}

// TestLetGo: of a process whose files are safe nothing stays open, and others keep theirs.
func TestLetGo(t *testing.T) {
	n := newNode(t)
	n.commit("local/blockmgr-a/0c", 0, 1, 10)
	s := n.open(Options{})
	found, _, err := s.Scan(t.Context())
	if err != nil || len(found) != 1 {
		t.Fatalf("%d found, %v", len(found), err)
	}
	held := func() (paths []string) {
		entries, err := os.ReadDir("/proc/self/fd")
		n.must(err)
		for _, e := range entries {
			if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, n.path("")) {
				paths = append(paths, to)
			}
		}
		return paths
	}
	if len(held()) == 0 {
		t.Fatal("nothing is held open")
	}
	s.LetGo(nodePID + 1)
	if _, err := read(t, found[0].Output.Data); err != nil {
		t.Errorf("of another process: %v", err)
	}
	s.LetGo(nodePID)
	if left := held(); len(left) > 0 {
		t.Errorf("still open: %q", left)
	}
	if _, err := read(t, found[0].Output.Data); migrate.KindOf(err) != migrate.Corrupt {
		t.Errorf("read after that: %v", err)
	}
	n.expect(s)
}
