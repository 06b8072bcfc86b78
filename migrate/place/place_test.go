package place

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
)

const app = "app-1"

// someone is a user that is not the one of the tests.
func someone() executor.Identity {
	return executor.Identity{UID: 12345, GID: 12346, Groups: []int{12347}}
}

// fakeDriver is told where blocks lie.
type fakeDriver struct {
	mu     sync.Mutex
	blocks []string
	at     java.BlockManagerID
	stall  chan struct{} // answers come when it is closed
	fails  error
	denies bool
}

func (d *fakeDriver) UpdateBlock(ctx context.Context, at java.BlockManagerID, block string, _, _ int64) (bool, error) {
	d.mu.Lock()
	stall, fails, denies := d.stall, d.fails, d.denies
	d.mu.Unlock()
	if stall != nil {
		select {
		case <-stall:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if fails != nil || denies {
		return false, fails
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blocks, d.at = append(d.blocks, block), at
	return true, nil
}

func (d *fakeDriver) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *fakeDriver) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.blocks)
}

// volume is a local dir with the folders of an executor that lives and of one that does not.
type volume struct {
	t       *testing.T
	dir     string
	old     string
	folders []string
	as      executor.Identity
	driver  *fakeDriver
	sub     int
}

// newVolume is owned by someone, if the tests may do that.
func newVolume(t *testing.T, folders int) *volume {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	v := &volume{t: t, dir: dir, old: filepath.Join(dir, "blockmgr-old"), driver: &fakeDriver{}, as: me(t), sub: defaultSubFolders}
	if os.Geteuid() == 0 {
		v.as = someone()
		for up := dir; up != "/" && up != os.TempDir(); up = filepath.Dir(up) {
			must(t, os.Chmod(up, 0o755))
		}
		must(t, os.Chown(dir, v.as.UID, v.as.GID))
	}
	v.mkdir(v.old)
	for i := range folders {
		v.folders = append(v.folders, filepath.Join(dir, fmt.Sprintf("blockmgr-new%d", i)))
		v.mkdir(v.folders[i])
	}
	return v
}

func me(t *testing.T) executor.Identity {
	t.Helper()
	start, err := executor.StartTime("/proc", os.Getpid())
	must(t, err)
	id, err := executor.Finder{}.IdentityOf(os.Getpid(), start)
	must(t, err)
	return id
}

func (v *volume) mkdir(path string) {
	must(v.t, os.Mkdir(path, 0o755))
	must(v.t, os.Chown(path, v.as.UID, v.as.GID))
}

func (v *volume) open() *Place {
	v.t.Helper()
	start, err := executor.StartTime("/proc", os.Getpid())
	must(v.t, err)
	p, err := Open(Options{
		Target: target(), App: app, Root: shuffle.Root{PID: os.Getpid(), Start: start}, Folders: v.folders, SubFolders: v.sub, As: v.as, Driver: v.driver,
	})
	must(v.t, err)
	v.t.Cleanup(p.Close)
	return p
}

func target() migrate.Target { return migrate.Target{Executor: "7", Host: "10.0.0.7", Port: 40123} }

// file is an open file as a Blob that can be linked.
type file struct{ *os.File }

func (f file) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return -1
	}
	return info.Size()
}

// keep writes a blob into a folder and opens it.
func (v *volume) keep(dir, name string, b migrate.Blob) (migrate.Blob, error) {
	if b == nil {
		return nil, nil
	}
	data, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err == nil && int64(len(data)) != b.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, &migrate.Error{Op: "read", Kind: migrate.Corrupt, Err: err}
	}
	path := filepath.Join(dir, name)
	if err := errors.Join(os.WriteFile(path, data, 0o644), os.Chown(path, v.as.UID, v.as.GID)); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	v.t.Cleanup(func() { f.Close() })
	return file{f}, nil
}

// left is an output as the old executor has left it.
func (v *volume) left(dir string, out *migrate.Output) (*migrate.Output, error) {
	index, err1 := v.keep(dir, out.ID.IndexBlock(), out.Index)
	data, err2 := v.keep(dir, out.ID.DataBlock(), out.Data)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &migrate.Output{ID: out.ID, Index: index, Data: data}, nil
}

func (v *volume) output(m int64, size int) *migrate.Output {
	v.t.Helper()
	out, err := v.left(v.old, migratetest.Output(app, 0, m, size))
	must(v.t, err)
	return out
}

// path is where Spark looks for a block.
func (v *volume) path(name string) string {
	folder, sub := position(name, len(v.folders), v.sub)
	return filepath.Join(v.folders[folder], sub, name)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// conforming leaves each output on the volume before it is put.
type conforming struct {
	*Place
	v     *volume
	mu    sync.Mutex
	fresh int
}

func (c *conforming) Put(ctx context.Context, out *migrate.Output) (migrate.Location, error) {
	c.mu.Lock()
	c.fresh++
	dir := filepath.Join(c.v.old, fmt.Sprint(c.fresh))
	c.v.mkdir(dir)
	kept, err := c.v.left(dir, out)
	c.mu.Unlock()
	if err != nil {
		return migrate.Location{}, err
	}
	return c.Place.Put(ctx, kept)
}

func TestConformance(t *testing.T) {
	migratetest.Conform(t, func(t *testing.T) migratetest.Harness {
		v := newVolume(t, 2)
		c := &conforming{Place: v.open(), v: v}
		return migratetest.Harness{
			Destination: c,
			Stored: func(id migrate.OutputID) (index, data []byte, ok bool) {
				if !slices.Contains(v.driver.told(), id.IndexBlock()) {
					return nil, nil, false
				}
				index, err := os.ReadFile(v.path(id.IndexBlock()))
				data, _ = os.ReadFile(v.path(id.DataBlock()))
				return index, data, err == nil
			},
			Stall: func() { v.driver.set(func() { v.driver.stall = make(chan struct{}) }) },
			Break: func() { v.driver.set(func() { v.driver.fails = errors.New("reset") }) },
			Heal: func() {
				v.driver.set(func() { v.driver.stall, v.driver.fails = nil, nil })
			},
		}
	})
}

func TestPosition(t *testing.T) {
	// The hashes of these names are 793681805 and 25441679.
	for _, c := range []struct {
		name         string
		folders, sub int
		folder       int
		want         string
	}{
		{"shuffle_3_17_0.index", 1, 64, 0, "0d"},
		{"shuffle_3_17_0.data", 1, 64, 0, "0f"},
		{"shuffle_3_17_0.index", 3, 64, 2, "19"},
		{"shuffle_3_17_0.data", 3, 1000, 2, "22f"},
		{"shuffle_3_17_0.data", 2, 64, 1, "07"},
	} {
		if folder, sub := position(c.name, c.folders, c.sub); folder != c.folder || sub != c.want {
			t.Errorf("%s in %d: %d/%s, want %d/%s", c.name, c.folders, folder, sub, c.folder, c.want)
		}
	}
}

func TestPutLinks(t *testing.T) {
	v := newVolume(t, 3)
	p := v.open()
	for m, size := range []int{1000, 0, 70_000} {
		out := v.output(int64(m), size)
		at, err := p.Put(t.Context(), out)
		if err != nil || at.Target != target() || !at.Announced {
			t.Fatalf("map %d: %+v, %v", m, at, err)
		}
		names := []string{out.ID.IndexBlock()}
		if size > 0 {
			names = []string{out.ID.DataBlock(), out.ID.IndexBlock()}
		}
		if got := v.driver.told(); !slices.Equal(got[len(got)-len(names):], names) {
			t.Errorf("map %d: told of %v, want %v last", m, got, names)
		}
		for _, name := range names {
			var old, now unix.Stat_t
			must(t, unix.Stat(filepath.Join(v.old, name), &old))
			must(t, unix.Lstat(v.path(name), &now))
			if old.Ino != now.Ino || old.Dev != now.Dev || now.Nlink != 2 {
				t.Errorf("%s is not the same file: %d and %d", name, old.Ino, now.Ino)
			}
			must(t, unix.Lstat(filepath.Dir(v.path(name)), &now))
			if int(now.Uid) != v.as.UID || int(now.Gid) != v.as.GID || now.Mode&0o777 != 0o755 {
				t.Errorf("its sub-folder belongs to %d:%d, mode %o", now.Uid, now.Gid, now.Mode)
			}
		}
	}
	if want := (java.BlockManagerID{Executor: "7", Host: "10.0.0.7", Port: 40123}); v.driver.at != want {
		t.Errorf("told of %v, want %v", v.driver.at, want)
	}
}

// What stands in the place of a file is never replaced, and only an equal one will do.
func TestWhatIsThereStays(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(v *volume, out *migrate.Output)
		kind  migrate.Kind
		ok    bool
	}{
		"an equal copy": {func(v *volume, out *migrate.Output) {
			for _, n := range []string{out.ID.IndexBlock(), out.ID.DataBlock()} {
				b, err := os.ReadFile(filepath.Join(v.old, n))
				must(v.t, err)
				v.plant(n, b)
			}
		}, migrate.Transient, true},
		"an index with other offsets": {func(v *volume, out *migrate.Output) {
			v.plant(out.ID.IndexBlock(), bytes.Repeat([]byte{1}, int(out.Index.Size())))
		}, migrate.Elsewhere, false},
		"shorter data": {func(v *volume, out *migrate.Output) { v.plant(out.ID.DataBlock(), []byte("short")) }, migrate.Elsewhere, false},
		"a folder": {func(v *volume, out *migrate.Output) {
			must(v.t, os.MkdirAll(v.path(out.ID.DataBlock()), 0o755))
		}, migrate.Elsewhere, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVolume(t, 1)
			v.t = t
			out := v.output(1, 1000)
			c.spoil(v, out)
			before, _ := os.ReadFile(v.path(out.ID.IndexBlock()))
			_, err := v.open().Put(t.Context(), out)
			if c.ok != (err == nil) || err != nil && migrate.KindOf(err) != c.kind {
				t.Errorf("got %v", err)
			}
			if told := v.driver.told(); c.ok != (len(told) == 2) {
				t.Errorf("told of %v", told)
			}
			after, _ := os.ReadFile(v.path(out.ID.IndexBlock()))
			if !bytes.Equal(before, after) {
				t.Error("what was there has changed")
			}
			if _, err := os.Lstat(v.path(out.ID.DataBlock())); before != nil && !c.ok && err == nil {
				t.Error("the data was left behind without its index")
			}
		})
	}
}

// plant puts a file where a block belongs.
func (v *volume) plant(name string, content []byte) {
	v.t.Helper()
	path := v.path(name)
	must(v.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(v.t, os.Chown(filepath.Dir(path), v.as.UID, v.as.GID))
	must(v.t, os.WriteFile(path, content, 0o644))
}

// Nothing is ever made outside of the executor's folders, whatever stands in the way.
func TestHostileFolders(t *testing.T) {
	for name, spoil := range map[string]func(v *volume, out *migrate.Output, outside string) error{
		"sub-folder is a symlink": func(v *volume, out *migrate.Output, outside string) error {
			return os.Symlink(outside, filepath.Dir(v.path(out.ID.DataBlock())))
		},
		"sub-folder is a relative symlink": func(v *volume, out *migrate.Output, _ string) error {
			return os.Symlink("../..", filepath.Dir(v.path(out.ID.DataBlock())))
		},
		"sub-folder is a file": func(v *volume, out *migrate.Output, _ string) error {
			return os.WriteFile(filepath.Dir(v.path(out.ID.DataBlock())), nil, 0o644)
		},
		"file is a symlink": func(v *volume, out *migrate.Output, outside string) error {
			path := v.path(out.ID.DataBlock())
			return errors.Join(os.Mkdir(filepath.Dir(path), 0o777), os.Symlink(filepath.Join(outside, "new"), path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVolume(t, 1)
			out, outside := v.output(1, 1000), t.TempDir()
			must(t, os.Chmod(outside, 0o777))
			p := v.open()
			must(t, spoil(v, out, outside))
			if _, err := p.Put(t.Context(), out); migrate.KindOf(err) != migrate.Elsewhere {
				t.Errorf("got %v", err)
			}
			if got, _ := os.ReadDir(outside); len(got) > 0 {
				t.Errorf("%v was made outside", got)
			}
			if told := v.driver.told(); len(told) > 0 {
				t.Errorf("told of %v", told)
			}
		})
	}
}

func TestFolderIsASymlink(t *testing.T) {
	v := newVolume(t, 1)
	must(t, os.Remove(v.folders[0]))
	must(t, os.Symlink(t.TempDir(), v.folders[0]))
	for _, folder := range []string{v.folders[0], v.dir, "blockmgr-x", v.folders[0] + "/../../etc", ""} {
		if p, err := Open(Options{Target: target(), App: app, Root: shuffle.Root{PID: os.Getpid()}, Folders: []string{folder}, As: v.as, Driver: v.driver}); err == nil {
			p.Close()
			t.Errorf("%q was opened", folder)
		}
	}
}

// What the executor may not do, the agent does not do for it.
func TestAsTheExecutor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("has to run as root")
	}
	v := newVolume(t, 1)
	out := v.output(1, 1000)
	must(t, os.Chown(v.folders[0], 0, 0)) // not its own any more
	if _, err := v.open().Put(t.Context(), out); migrate.KindOf(err) != migrate.Elsewhere {
		t.Errorf("made a folder where the executor may not: %v", err)
	}
	v = newVolume(t, 1)
	out = v.output(2, 1000)
	for _, n := range []string{out.ID.IndexBlock(), out.ID.DataBlock()} {
		must(t, os.Chown(filepath.Join(v.old, n), 0, 0))
		must(t, os.Chmod(filepath.Join(v.old, n), 0o600))
	}
	protected, err := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	must(t, err)
	if _, err := v.open().Put(t.Context(), out); string(protected) == "1\n" && !errors.Is(err, ErrNoLink) {
		t.Errorf("linked a file that is not the executor's: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Error("the test itself is somebody else now")
	}
}

func TestAnotherFileSystem(t *testing.T) {
	v := newVolume(t, 1)
	shm, err := os.MkdirTemp("/dev/shm", "place-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(shm) })
	must(t, os.Chmod(shm, 0o755))
	out, err := v.left(shm, migratetest.Output(app, 0, 1, 1000))
	must(t, err)
	if _, err := v.open().Put(t.Context(), out); !errors.Is(err, ErrNoLink) || migrate.KindOf(err) != migrate.Elsewhere {
		t.Errorf("got %v", err)
	}
	if _, err := v.open().Put(t.Context(), migratetest.Output(app, 0, 1, 1000)); !errors.Is(err, ErrNoLink) {
		t.Errorf("in memory: %v", err)
	}
}

func TestErrors(t *testing.T) {
	v := newVolume(t, 1)
	out := v.output(1, 1000)
	v.driver.denies = true
	p := v.open()
	if _, err := p.Put(t.Context(), out); !errors.Is(err, errNotAccepted) || migrate.KindOf(err) != migrate.Transient {
		t.Errorf("denied: %v", err)
	}
	v.driver.set(func() { v.driver.denies = false })
	stranger := *out
	stranger.ID.App = "app-2"
	if _, err := p.Put(t.Context(), &stranger); migrate.KindOf(err) != migrate.Elsewhere {
		t.Errorf("another application: %v", err)
	}
	at := []migrate.Located{
		{Output: out, At: migrate.Location{Target: target()}},
		{Output: out, At: migrate.Location{Target: migrate.Target{Executor: "8"}}},
	}
	if err := p.Announce(t.Context(), at); migrate.KindOf(err) != migrate.Elsewhere || len(v.driver.told()) != 2 {
		t.Errorf("announced %v: %v", v.driver.told(), err)
	}
	p.o.Root.Start++
	if _, err := p.Put(t.Context(), out); migrate.KindOf(err) != migrate.Gone {
		t.Errorf("ended: %v", err)
	}
	p.Close()
	if err := p.Link(t.Context(), out); err == nil {
		t.Error("linked after Close")
	}
}
