package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is a handle on one process that can't slip to another one when its id is used again (a
// pidfd, Linux 5.3). It may be used by many goroutines.
type Process struct {
	PID   int
	Start uint64

	file   *os.File
	conn   syscall.RawConn
	watch  sync.Once
	exited chan struct{} // closed when the process has ended
	broken chan struct{} // closed when nobody can wait any more; err says why
	err    error
}

// Open takes hold of the process that was found with this id and start time. ErrGone when it has
// ended. The id must be one of the agent's own process namespace (hostPID on Kubernetes).
func Open(pid int, start uint64) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: pidfd_open: %w", pid, err)
	}
	// Non-blocking, so that os.File puts it into the runtime's poller and waiting costs no thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("process %d: pidfd: %w", pid, err)
	}
	p := &Process{PID: pid, Start: start, file: os.NewFile(uintptr(fd), "pidfd"), exited: make(chan struct{}), broken: make(chan struct{})}
	if p.conn, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, fmt.Errorf("process %d: pidfd: %w", pid, err)
	}
	// Looked at after the handle was taken: whoever has the id now had it then, or is younger.
	if now, err := StartTime("/proc", pid); err != nil || now != start {
		p.file.Close()
		return nil, fmt.Errorf("process %d: %w", pid, errors.Join(ErrGone, err))
	}
	return p, nil
}

// Signal sends a signal. ErrGone when the process has ended, AccessError when the agent may not.
func (p *Process) Signal(sig syscall.Signal) error {
	var sent error
	if err := p.conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	switch {
	case sent == nil:
		return nil
	case errors.Is(sent, unix.ESRCH):
		return fmt.Errorf("process %d: %w", p.PID, ErrGone)
	case errors.Is(sent, unix.EPERM):
		return &AccessError{PID: p.PID, What: "send " + sig.String(), Need: "CAP_KILL", Err: sent}
	}
	return fmt.Errorf("process %d: send %v: %w", p.PID, sig, sent)
}

// Alive is false once all threads of the process have ended, also while its parent has not yet taken notice.
func (p *Process) Alive() bool {
	ended := true
	err := p.conn.Control(func(fd uintptr) { ended = readable(fd) })
	return err == nil && !ended
}

// Done waits until the process has ended: nil then, otherwise ctx's error, or os.ErrClosed after Close.
func (p *Process) Done(ctx context.Context) error {
	p.watch.Do(func() { go p.wait() })
	select {
	case <-p.exited:
		return nil
	case <-p.broken:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Process) wait() {
	if err := p.conn.Read(readable); err != nil {
		// The poller's own error for a closed file is not os.ErrClosed.
		p.err = fmt.Errorf("process %d: wait: %w (%w)", p.PID, os.ErrClosed, err)
		close(p.broken)
		return
	}
	close(p.exited)
}

// Close lets go of the process; the process itself is not touched.
func (p *Process) Close() error { return p.file.Close() }

// readable is what a pidfd becomes when its process has ended (pidfd_open(2)).
func readable(fd uintptr) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}
