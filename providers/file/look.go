package file

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/providers"
)

// maxSize of the file in bytes.
const maxSize = 64 << 10

// version is one state of the file. Two looks at an unchanged file give equal versions.
type version struct {
	inode   uint64
	mtime   time.Time
	content string
}

// digest names the version: the same in another run of the agent, another one for each writing.
func (v version) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d %s", v.inode, v.mtime.UnixNano(), v.content)
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// look reads the file. found is false when there is none. Whoever can make this file appear can end
// executors, so both it and its folder must be out of everybody else's reach: no symbolic or further
// hard link, nothing but a regular file, owned and writable by root or this process only. Folders
// above are not checked. Errors are PollErrors.
func look(folder, name string) (v version, found bool, err error) {
	dir, err := openFolder(folder)
	if err != nil {
		return version{}, false, err
	}
	defer unix.Close(dir)
	for range 10 {
		v, found, err = read(dir, name)
		if !errors.Is(err, errReplaced) {
			break
		}
	}
	return v, found, err
}

// errReplaced says that another file took the place of the one that was opened, or none: only another
// look can tell.
var errReplaced = errors.New("replaced while it was read")

// read opens and reads the file below an open folder.
func read(dir int, name string) (v version, found bool, err error) {
	// O_NONBLOCK: opening a named pipe must not hang.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return version{}, false, nil
	case errors.Is(err, unix.ELOOP):
		return version{}, false, denied("%s is a symbolic link", name)
	case errors.Is(err, unix.ENXIO):
		return version{}, false, denied("%s is no regular file", name)
	case err != nil:
		return version{}, false, &providers.PollError{Result: providers.Unreachable, Err: fmt.Errorf("open %s: %w", name, err)}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return version{}, false, &providers.PollError{Result: providers.Unreachable, Err: fmt.Errorf("stat %s: %w", name, err)}
	}
	if st.Nlink == 0 {
		return version{}, false, &providers.PollError{Result: providers.Unreachable, Err: fmt.Errorf("%s: %w", name, errReplaced)}
	}
	if err := checkFile(name, &st); err != nil {
		return version{}, false, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return version{}, false, &providers.PollError{Result: providers.Unreachable, Err: fmt.Errorf("read %s: %w", name, err)}
	}
	if len(content) > maxSize {
		return version{}, false, tooLarge(name)
	}
	return version{inode: st.Ino, mtime: time.Unix(st.Mtim.Unix()), content: string(content)}, true, nil
}

// openFolder opens the folder and checks that nobody else can put files into it or move them there.
func openFolder(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &providers.PollError{Result: providers.Unreachable, Err: fmt.Errorf("folder %s: %w", path, err)}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
		err = &providers.PollError{Result: providers.Unreachable, Err: fmt.Errorf("folder %s: %w", path, err)}
	case !trusted(st.Uid):
		err = denied("folder %s belongs to user %d: only root or user %d may own it", path, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0:
		err = denied("folder %s can be written by its group or by everybody (mode %#o): use chmod go-w", path, st.Mode&0o7777)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkFile refuses a file that somebody else could have made, filled or linked here.
func checkFile(name string, st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return denied("%s is no regular file", name)
	case !trusted(st.Uid):
		return denied("%s belongs to user %d: only root or user %d may give notice", name, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return denied("%s can be written by its group or by everybody (mode %#o): use chmod go-w", name, st.Mode&0o7777)
	case st.Nlink > 1:
		return denied("%s has %d links", name, st.Nlink)
	case st.Size > maxSize:
		return tooLarge(name)
	}
	return nil
}

func trusted(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

func denied(format string, args ...any) error {
	return &providers.PollError{Result: providers.Denied, Err: fmt.Errorf(format, args...)}
}

func tooLarge(name string) error {
	return &providers.PollError{Result: providers.Malformed, Err: fmt.Errorf("%s is larger than %d bytes", name, maxSize)}
}
