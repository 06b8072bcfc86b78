package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// BusyError says that another rescue runs on the same state folder, in this process or another.
type BusyError struct {
	State string
	ID    string // the running rescue; "" in the instant between its lock and its name
	PID   int    // the process that runs it
}

func (e *BusyError) Error() string {
	if e.ID == "" {
		return fmt.Sprintf("another rescue runs on %s", e.State)
	}
	return fmt.Sprintf("rescue %s runs on %s (process %d): wait for its end, or stop that process", e.ID, e.State, e.PID)
}

// lock is a flock on state/lock; the file names who holds it. The kernel frees it with the process.
type lock struct{ file *os.File }

func (s *Store) lock(id string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		busy := &BusyError{State: s.dir}
		busy.ID, busy.PID = holder(f)
		_ = f.Close()
		return nil, busy
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%s %d\n", id, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state folder: lock: %w", err), f.Close())
	}
	return &lock{file: f}, nil
}

// holder reads who has the lock.
func holder(f *os.File) (id string, pid int) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 128))
	if err != nil {
		return "", 0
	}
	id, number, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, err = strconv.Atoi(number)
	if err != nil || !ValidID(id) {
		return "", 0
	}
	return id, pid
}

// running is the rescue that holds the lock, or held it when its process was killed; "" for none. It
// takes no lock itself: that could make a rescue believe that another one runs.
func (s *Store) running() string {
	f, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	id, _ := holder(f)
	return id
}

// release lets the next rescue begin. A dry run has no lock.
func (l *lock) release() error {
	if l == nil {
		return nil
	}
	if err := l.file.Truncate(0); err != nil {
		return errors.Join(err, l.file.Close())
	}
	return l.file.Close()
}
