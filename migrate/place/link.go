package place

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
)

// position is where Spark looks for a block (DiskBlockManager.getFile and ExecutorDiskUtils.getFilePath, Spark 3.4 to 4.3): the
// number of the folder, and the sub-folder.
func position(name string, folders, subFolders int) (folder int, sub string) {
	h := int(java.NonNegativeHash(name))
	return h % folders, fmt.Sprintf("%02x", h/folders%subFolders)
}

// openFolder opens a block manager's folder: its local dir as the process sees it, and from there nothing is followed.
func openFolder(r shuffle.Root, folder string) (int, error) {
	local, name := path.Split(path.Clean(folder))
	if !path.IsAbs(folder) || !strings.HasPrefix(name, "blockmgr-") {
		return -1, fmt.Errorf("%q is no folder of a block manager", folder)
	}
	dir, err := shuffle.OpenLocalDir(r, local)
	if err != nil {
		return -1, fmt.Errorf("local dir %s: %w", local, err)
	}
	defer unix.Close(dir)
	fd, err := shuffle.OpenBelow(dir, name)
	if err != nil {
		return -1, fmt.Errorf("folder %s: %w", folder, err)
	}
	return fd, nil
}

// errOther says that a file of this name is there already, and that it is not the same.
var errOther = errors.New("another file of this name is there")

// link makes both names, or none. Only hands call it.
func (p *Place) link(out *migrate.Output) error {
	undo := func() {}
	if out.Data != nil && out.Data.Size() > 0 {
		var err error
		if undo, err = p.linkBlob(out.ID.DataBlock(), out.Data, sameSize); err != nil {
			return err
		}
	}
	if _, err := p.linkBlob(out.ID.IndexBlock(), out.Index, sameBytes); err != nil {
		undo()
		return err
	}
	return nil
}

// linkBlob makes one name. A file that is there already has to be the same one, or one that same finds equal: an executor
// that got the output before has its own copy. undo takes the name away again, if it was made here.
func (p *Place) linkBlob(name string, b migrate.Blob, same func(fd int, b migrate.Blob) (bool, error)) (undo func(), err error) {
	file, ok := b.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%w: %s is no file", ErrNoLink, name)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	bucket, err := p.bucket(name)
	if err != nil {
		return nil, fmt.Errorf("folder of %s: %w", name, err)
	}
	defer unix.Close(bucket)
	made := false
	var failed error
	err = raw.Control(func(fd uintptr) { made, failed = linkFile(int(fd), bucket, name, b, same) })
	if err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	return func() {
		if made {
			p.unlink(name)
		}
	}, nil
}

// linkFile gives an open file a name in a directory. linkat of a descriptor itself would need CAP_DAC_READ_SEARCH, which
// whoever acts as the executor does not have; its name in proc needs nothing.
func linkFile(fd, dir int, name string, b migrate.Blob, same func(int, migrate.Blob) (bool, error)) (made bool, err error) {
	err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EEXIST):
		return false, compare(fd, dir, name, b, same)
	case isNoLink(err):
		return false, fmt.Errorf("%w: %w", ErrNoLink, err)
	}
	return false, fmt.Errorf("link %s: %w", name, err)
}

// isNoLink is what linkat(2) answers where there can be no link; ENOENT: the file has no name any more.
func isNoLink(err error) bool {
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EMLINK), errors.Is(err, unix.EOPNOTSUPP),
		errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOENT):
		return true
	}
	return false
}

// compare says whether the file that has the name already will do.
func compare(fd, dir int, name string, b migrate.Blob, same func(int, migrate.Blob) (bool, error)) error {
	var want, got unix.Stat_t
	if err := unix.Fstat(fd, &want); err != nil {
		return err
	}
	if err := unix.Fstatat(dir, name, &got, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err // it has just gone: transient
	}
	switch {
	case got.Dev == want.Dev && got.Ino == want.Ino:
		return nil
	case got.Mode&unix.S_IFMT != unix.S_IFREG || got.Size != b.Size():
		return fmt.Errorf("%w: %s", errOther, name)
	}
	there, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(there)
	equal, err := same(there, b)
	if err == nil && !equal {
		err = fmt.Errorf("%w: %s", errOther, name)
	}
	return err
}

// sameSize believes in a data file that has the right length: Spark gives a map id once.
func sameSize(fd int, b migrate.Blob) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == b.Size(), err
}

// sameBytes reads an index to its end.
func sameBytes(fd int, b migrate.Blob) (bool, error) {
	if ok, err := sameSize(fd, b); !ok || err != nil {
		return false, err
	}
	here, there := make([]byte, 32<<10), make([]byte, 32<<10)
	for at := int64(0); at < b.Size(); at += int64(len(here)) {
		part := min(b.Size()-at, int64(len(here)))
		if _, err := b.ReadAt(here[:part], at); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if n, err := unix.Pread(fd, there[:part], at); err != nil || int64(n) != part || !bytes.Equal(here[:part], there[:part]) {
			return false, err
		}
	}
	return true, nil
}

// bucket opens the sub-folder of a name. One that is not there yet is made, as the executor itself would.
func (p *Place) bucket(name string) (int, error) {
	folder, sub := position(name, len(p.o.Folders), p.o.SubFolders)
	p.mu.Lock()
	if p.dirs == nil {
		p.mu.Unlock()
		return -1, errClosed
	}
	dir := p.dirs[folder]
	p.mu.Unlock()
	fd, err := shuffle.OpenBelow(dir, sub)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := unix.Mkdirat(dir, sub, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return shuffle.OpenBelow(dir, sub)
}

// unlink takes a name away that was made a moment ago. What fails leaves a name that nobody was told of.
func (p *Place) unlink(name string) {
	if bucket, err := p.bucket(name); err == nil {
		_ = unix.Unlinkat(bucket, name, 0)
		unix.Close(bucket)
	}
}
