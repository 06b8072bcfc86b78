package shuffle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

const (
	// inRoot resolves a path as the process itself would: symlinks are allowed, but none leads out
	// of its root.
	inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	// below is for what lies under a local directory. Whoever can write there must not choose what
	// the agent opens: no symlink, no way up, no mount (a FUSE mount could hang the agent).
	below = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

	directory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
)

// ErrGone says that the process whose files were asked for has ended.
var ErrGone = executor.ErrGone

var errNotRegular = errors.New("not a regular file")

// openat2 retries what the kernel asks to retry: EAGAIN is a rename during the walk.
func openat2(dir int, path string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags), Resolve: resolve}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, path, &how)
		if err == nil {
			return fd, nil
		}
		if err == unix.ENOSYS {
			return -1, fmt.Errorf("openat2: %w (Linux 5.6 is needed)", err)
		}
		if (err != unix.EINTR && err != unix.EAGAIN) || try == 16 {
			return -1, err
		}
	}
}

// openRoot takes hold of the root directory of a process.
func openRoot(r Root) (int, error) {
	path := filepath.Join(r.Proc, strconv.Itoa(r.PID), "root")
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ENOENT || err == unix.ESRCH:
		return -1, fmt.Errorf("root directory of process %d: %w", r.PID, ErrGone)
	case err == unix.EACCES || err == unix.EPERM:
		return -1, fmt.Errorf("root directory of process %d: %w: the agent needs CAP_SYS_PTRACE, or to run as Spark's user", r.PID, err)
	case err != nil:
		return -1, fmt.Errorf("root directory of process %d: %w", r.PID, err)
	}
	if r.Start == 0 {
		return fd, nil
	}
	// Checked after opening: then the root is that of the process that was meant.
	if start, err := executor.StartTime(r.Proc, r.PID); err != nil || start != r.Start {
		unix.Close(fd)
		return -1, fmt.Errorf("root directory of process %d: %w", r.PID, errors.Join(ErrGone, err))
	}
	return fd, nil
}

// openPath takes hold of a file without opening it, and looks what it is: opening a device or a FIFO
// can have effects of its own.
func openPath(dir int, path string) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := openat2(dir, path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, below)
	if err != nil {
		return -1, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, st, errNotRegular
	}
	return fd, st, nil
}

// openHeld opens for reading the very file that openPath took hold of.
func openHeld(held int) (int, error) {
	for {
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(held), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openRegular is openPath and openHeld in one.
func openRegular(dir int, path string) (int, unix.Stat_t, error) {
	held, st, err := openPath(dir, path)
	if err != nil {
		return -1, st, err
	}
	defer unix.Close(held)
	fd, err := openHeld(held)
	return fd, st, err
}

// readFull reads until the buffer is full or the file ends.
func readFull(fd int, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, nil
		}
		done += n
	}
	return done, nil
}

// explain adds to an error what would help.
func explain(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: the agent needs CAP_DAC_READ_SEARCH, or to run as Spark's user and group", err)
	}
	return err
}

// OpenLocalDir opens a directory as a process sees it, never outside of its root. An error wraps ErrGone when the
// process has ended. The caller closes the descriptor.
func OpenLocalDir(r Root, dir string) (int, error) {
	if r.Proc == "" {
		r.Proc = "/proc"
	}
	root, err := openRoot(r)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	return openat2(root, dir, directory, inRoot)
}

// OpenBelow opens a directory below another one that is open. No symlink and no mount is followed on the way, and
// nothing leads up (openat2(2)): whoever can write there does not choose what is opened.
func OpenBelow(dir int, path string) (int, error) {
	return openat2(dir, path, directory|unix.O_NOFOLLOW, below)
}
