package place

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

var errClosed = errors.New("place: it is closed")

// hands is one thread of the agent that touches files as somebody else: what that one may not do, it can't do either, whatever
// capabilities the agent has. The thread ends with it and is never given back to others.
type hands struct {
	work chan task
	done chan struct{} // closed by close
	once sync.Once
	gone chan struct{} // closed when the thread has ended
}

type task struct {
	do     func() error
	answer chan error // takes one without being read
}

func newHands(as executor.Identity) (*hands, error) {
	h := &hands{work: make(chan task), done: make(chan struct{}), gone: make(chan struct{})}
	ready := make(chan error, 1)
	go h.run(as, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return h, nil
}

func (h *hands) run(as executor.Identity, ready chan<- error) {
	defer close(h.gone)
	runtime.LockOSThread() // for ever: the runtime ends the thread when this returns
	err := become(as)
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case t := <-h.work:
			t.answer <- t.do()
		case <-h.done:
			return
		}
	}
}

// become changes as whom this thread touches files. setfsuid(2) has no error: what it came to has to be asked.
func become(as executor.Identity) error {
	if os.Geteuid() == as.UID && os.Getegid() == as.GID && as.UID != 0 {
		return nil // the agent is that user, and has no more rights than it
	}
	if err := setGroups(as.Groups); err != nil {
		return fmt.Errorf("setgroups: %w: the agent needs CAP_SETGID, or to run as Spark's user", err)
	}
	const ask = -1
	_ = unix.Setfsgid(as.GID)
	if now, _ := unix.SetfsgidRetGid(ask); now != as.GID {
		return fmt.Errorf("setfsgid %d: %w: the agent needs CAP_SETGID, or to run as Spark's user", as.GID, unix.EPERM)
	}
	_ = unix.Setfsuid(as.UID)
	if now, _ := unix.SetfsuidRetUid(ask); now != as.UID {
		return fmt.Errorf("setfsuid %d: %w: the agent needs CAP_SETUID, or to run as Spark's user", as.UID, unix.EPERM)
	}
	return nil
}

// setGroups is for this thread alone, unlike unix.Setgroups.
func setGroups(groups []int) error {
	ids := make([]uint32, len(groups), len(groups)+1)
	for i, g := range groups {
		ids[i] = uint32(g)
	}
	ids = slices.Grow(ids, 1)                      // so that there is an address
	first := unsafe.Pointer(unsafe.SliceData(ids)) //nolint:gosec // the system call takes an address
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(ids)), uintptr(first), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// do runs f as the other. What has begun is waited for: it is a few system calls.
func (h *hands) do(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t := task{do: f, answer: make(chan error, 1)}
	select {
	case h.work <- t:
		return <-t.answer
	case <-ctx.Done():
		return ctx.Err()
	case <-h.done:
		return errClosed
	}
}

// close ends the thread, after what it does.
func (h *hands) close() {
	h.once.Do(func() { close(h.done) })
	<-h.gone
}
