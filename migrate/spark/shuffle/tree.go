package shuffle

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Caps against a local directory full of rubbish; real nodes stay far below.
	maxFolders = 1024    // blockmgr folders in one local directory
	maxBuckets = 4096    // sub-folders of one blockmgr folder
	maxWaiting = 1 << 20 // names that are not yet returned

	// settled is how old a time stamp must be before "unchanged" can be believed: clocks of file
	// systems tick every 4 ms to 2 s.
	settled = 2 * time.Second
)

// root is a process's root directory, held until all its local directories are open.
type root struct {
	fd      int
	pid     int
	missing []string
}

func (r *root) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
		r.fd = -1
	}
}

// stamp tells whether a directory may have changed since it was listed.
type stamp struct {
	mtime  int64
	listed time.Time // when the last complete listing began; zero: never
}

func (s stamp) fresh(mtime int64) bool {
	return !s.listed.IsZero() && s.mtime == mtime && s.listed.Sub(time.Unix(0, mtime)) >= settled
}

// local is one local directory.
type local struct {
	fd        int
	dir       string // as the process sees it
	pid       int
	device    uint64
	inode     uint64
	stamp     stamp
	folders   []*folder
	refused   map[string]string // entries that can't be used, and why
	watchedBy *watcher
}

// folder is one blockmgr-<uuid>.
type folder struct {
	handle
	store     atomic.Pointer[Store] // that holds it
	seed      maphash.Seed          // of the store that opened it
	pid       int                   // of the local directory
	name      string
	device    uint64
	inode     uint64
	stamp     stamp
	buckets   []*bucket
	refused   map[string]string
	watchedBy *watcher
	outputs   int
	bytes     int64
}

// bucket is one sub-folder of a blockmgr folder, where the files are. It is not kept open.
type bucket struct {
	folder    *folder
	name      string
	inode     uint64
	stamp     stamp
	names     []name // not yet returned
	watchedBy *watcher
}

func (b *bucket) path(n name) string { return b.name + "/" + n.String() }

// list brings the tree up to date, from the roots down to the names in the buckets.
func (s *Store) list(p *pass) {
	for _, r := range s.roots {
		s.openLocals(p, r)
	}
	s.locals = slices.DeleteFunc(s.locals, s.dropLocal)
	for _, l := range s.locals {
		if p.ctx.Err() != nil {
			return
		}
		s.listLocal(p, l)
		for _, f := range l.folders {
			s.listFolder(p, f)
			f.buckets = slices.DeleteFunc(f.buckets, func(b *bucket) bool { return !s.listBucket(p, b) })
		}
	}
}

// openLocals opens the local directories that have appeared.
func (s *Store) openLocals(p *pass, r *root) {
	r.missing = slices.DeleteFunc(r.missing, func(dir string) bool {
		fd, err := openat2(r.fd, dir, directory, inRoot)
		if errors.Is(err, unix.ENOENT) {
			p.skip(dir, fmt.Sprintf("process %d has no such local directory", r.pid))
			return false
		}
		if err == nil {
			err = s.addLocal(fd, dir, r.pid)
		}
		if err != nil {
			p.errs = append(p.errs, fmt.Errorf("local directory %s of process %d: %w", dir, r.pid, explain(err)))
			return false
		}
		return true
	})
	if len(r.missing) == 0 {
		r.close()
	}
}

func (s *Store) addLocal(fd int, dir string, pid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	for _, l := range s.locals {
		if l.device == st.Dev && l.inode == st.Ino { // executors of one worker share them
			unix.Close(fd)
			return nil
		}
	}
	s.locals = append(s.locals, &local{fd: fd, dir: dir, pid: pid, device: st.Dev, inode: st.Ino})
	return nil
}

// dropLocal closes a local directory that was removed, as those of a standalone application are when it ends.
func (s *Store) dropLocal(l *local) bool {
	gone := removed(l.fd)
	if gone {
		s.closeLocal(l)
	}
	return gone
}

func (s *Store) closeLocal(l *local) {
	for _, f := range l.folders {
		s.closeFolder(f)
	}
	s.unwatch(l.device, l.inode)
	unix.Close(l.fd)
}

func removed(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) != nil || st.Nlink == 0
}

// listLocal looks for blockmgr folders that came or went.
func (s *Store) listLocal(p *pass, l *local) {
	s.watch(l.fd, &l.watchedBy)
	var st unix.Stat_t
	if err := unix.Fstat(l.fd, &st); err != nil {
		p.errs = append(p.errs, fmt.Errorf("local directory %s: %w", l.dir, err))
		return
	}
	l.folders = slices.DeleteFunc(l.folders, s.dropFolder)
	if !l.stamp.fresh(st.Mtim.Nano()) {
		if err := s.findFolders(l); err != nil {
			p.errs = append(p.errs, fmt.Errorf("local directory %s: %w", l.dir, explain(err)))
		} else {
			l.stamp = stamp{st.Mtim.Nano(), p.now}
		}
	}
	for name, reason := range l.refused {
		p.skip(name, reason)
	}
}

func (s *Store) findFolders(l *local) error {
	had := make(map[string]bool, len(l.folders))
	for _, f := range l.folders {
		had[f.name] = true
	}
	l.refused = nil
	return entries(l.fd, ".", func(entry string) bool {
		if !isManagerName(entry) || had[entry] || s.leave[entry] {
			return true
		}
		if len(l.folders) >= maxFolders {
			refuse(&l.refused, l.dir, fmt.Sprintf("more than %d folders", maxFolders))
			return false
		}
		f, err := s.openFolder(l, entry)
		switch {
		case err == nil:
			l.folders = append(l.folders, f)
		case !errors.Is(err, unix.ENOENT):
			refuse(&l.refused, entry, fmt.Sprintf("folder can't be opened: %v", explain(err)))
		}
		return true
	})
}

// refuse notes at most as many entries as somebody will read.
func refuse(refused *map[string]string, name, reason string) {
	if *refused == nil {
		*refused = make(map[string]string)
	}
	if len(*refused) < 100 {
		(*refused)[name] = reason
	}
}

func (s *Store) openFolder(l *local, name string) (*folder, error) {
	fd, err := openat2(l.fd, name, directory|unix.O_NOFOLLOW, below)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := &folder{seed: s.seed, pid: l.pid, name: name, device: st.Dev, inode: st.Ino}
	f.store.Store(s)
	f.fd = int32(fd)
	return f, nil
}

// dropFolder closes a folder that was removed.
func (s *Store) dropFolder(f *folder) bool {
	gone := removed(int(f.fd))
	if gone {
		s.closeFolder(f)
	}
	return gone
}

func (s *Store) closeFolder(f *folder) {
	for _, b := range f.buckets {
		s.dropBucket(b)
	}
	s.unwatch(f.device, f.inode)
	f.close()
}

// listFolder looks for buckets that are new; listBucket sees those that went.
func (s *Store) listFolder(p *pass, f *folder) {
	s.watch(int(f.fd), &f.watchedBy)
	var st unix.Stat_t
	err := unix.Fstat(int(f.fd), &st)
	if err == nil && !f.stamp.fresh(st.Mtim.Nano()) {
		if err = f.findBuckets(); err == nil {
			f.stamp = stamp{st.Mtim.Nano(), p.now}
		}
	}
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("folder %s: %w", f.name, explain(err)))
	}
	for name, reason := range f.refused {
		p.skip(f.name, name+": "+reason)
	}
}

func (f *folder) findBuckets() error {
	had := make(map[string]bool, len(f.buckets))
	for _, b := range f.buckets {
		had[b.name] = true
	}
	f.refused = nil
	return entries(int(f.fd), ".", func(entry string) bool {
		if !isBucketName(entry) || had[entry] {
			return true
		}
		if len(f.buckets) >= maxBuckets {
			refuse(&f.refused, "sub-folders", fmt.Sprintf("more than %d", maxBuckets))
			return false
		}
		var st unix.Stat_t
		err := unix.Fstatat(int(f.fd), entry, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err != nil: // it went as it was seen
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			refuse(&f.refused, entry, "not a directory")
		default:
			f.buckets = append(f.buckets, &bucket{folder: f, name: entry, inode: st.Ino})
		}
		return true
	})
}

// listBucket reads the names of a bucket, if it may have changed. False: it is no more.
func (s *Store) listBucket(p *pass, b *bucket) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(b.folder.fd), b.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Ino != b.inode || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s.dropBucket(b)
		b.folder.stamp = stamp{} // another one of the same name may be there
		return false
	}
	wanted := b.watchedBy != s.watcher
	if p.ctx.Err() != nil || (b.stamp.fresh(st.Mtim.Nano()) && !wanted) {
		return true
	}
	fd, err := openat2(int(b.folder.fd), b.name, directory|unix.O_NOFOLLOW, below)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("folder %s/%s: %w", b.folder.name, b.name, explain(err)))
		return true
	}
	defer unix.Close(fd)
	s.watch(fd, &b.watchedBy) // before it is listed: nothing may fall between
	if b.stamp.fresh(st.Mtim.Nano()) {
		return true
	}
	complete, err := s.readNames(fd, b)
	switch {
	case err != nil:
		p.errs = append(p.errs, fmt.Errorf("folder %s/%s: %w", b.folder.name, b.name, err))
	case !complete:
		b.stamp = stamp{}
		p.skip(b.folder.name, fmt.Sprintf("%s: more than %d files at once: the rest waits", b.name, maxWaiting))
	default:
		b.stamp = stamp{st.Mtim.Nano(), p.now}
	}
	return true
}

// readNames collects the shuffle files of a bucket that are not yet returned; false: not all.
func (s *Store) readNames(fd int, b *bucket) (bool, error) {
	s.waiting -= len(b.names)
	b.names = b.names[:0]
	complete := true
	err := entries(fd, ".", func(entry string) bool {
		n, ok := parseName(entry)
		if !ok || s.known[n.key()] != nil {
			return true
		}
		complete = s.waiting < maxWaiting
		if complete {
			b.names = append(b.names, n)
			s.waiting++
		}
		return complete
	})
	return complete, err
}

func (s *Store) dropBucket(b *bucket) {
	s.waiting -= len(b.names)
	b.names = nil
	s.unwatch(b.folder.device, b.inode)
}

// entries calls visit for each name in a directory until that returns false. The directory is opened
// anew: a shared offset would be shared with other scans.
func entries(dir int, path string, visit func(entry string) bool) error {
	fd, err := openat2(dir, path, directory, below)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	for {
		names, err := f.Readdirnames(512)
		for _, entry := range names {
			if !visit(entry) {
				return nil
			}
		}
		if err == io.EOF || errors.Is(err, unix.ENOENT) { // removed as it was read
			return nil
		}
		if err != nil {
			return err
		}
	}
}
