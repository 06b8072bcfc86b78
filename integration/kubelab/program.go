package kubelab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// Spec says how a program runs.
type Spec struct {
	Args []string // the program's path comes first
	Env  []string // all of it: nothing is inherited
	Dir  string
	Log  string // file to which its output is added
	PID  string // file that gets its process id, for Find; "": none
	Net  Net
	// Cloneflags are further namespaces of its own.
	Cloneflags uintptr
	// Outlives lets it run on when this process ends. It then has to be ended by its id.
	Outlives bool
}

// Program is one that runs: a child of this process, or one that an earlier process has left.
type Program struct {
	PID  int
	Log  string
	done chan struct{}
	err  error // why it ended; read after done is closed
}

// Run starts a program. Unless it outlives this process it ends with it, whatever happens: the thread that starts it must live as
// long, because the kernel sends the death signal when that thread ends.
func Run(s Spec) (*Program, error) {
	p := &Program{Log: s.Log, done: make(chan struct{})}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.Env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: s.Cloneflags}
	if !s.Outlives {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	// What this process has inherited, as the lock that it runs under, must not be held by a program that outlives it.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep inherited files to this process: %w", err)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := s.Net.enter()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Args[0], err)
	}
	p.PID = cmd.Process.Pid
	if s.PID == "" {
		return p, nil
	}
	birth, err := birthOf(p.PID)
	if err != nil {
		return p, err
	}
	return p, os.WriteFile(s.PID, []byte(fmt.Sprintf("%d %s\n", p.PID, birth)), 0o600)
}

// ErrGone says that the program of a file has ended.
var ErrGone = errors.New("it does not run")

// Find finds a program that another process has started, by the file in which its id is.
func Find(pidFile, log string) (*Program, error) {
	raw, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", pidFile, ErrGone)
	}
	if err != nil {
		return nil, err
	}
	id, birth, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	pid, err := strconv.Atoi(id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pidFile, err)
	}
	if now, err := birthOf(pid); err != nil || now != birth {
		return nil, fmt.Errorf("%s: %w", pidFile, ErrGone)
	}
	p := &Program{PID: pid, Log: log, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for range ticker.C {
			if now, err := birthOf(pid); err != nil || now != birth {
				return
			}
		}
	}()
	return p, nil
}

// birthOf is when a process was started, in the kernel's ticks: with its id it names a process for ever. A process that only
// waits to be collected has none.
func birthOf(pid int) (string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:])) // a name may hold blanks
	const state, start = 0, 19                                                        // proc(5): fields 3 and 22
	if len(fields) <= start || fields[state] == "Z" {
		return "", ErrGone
	}
	return fields[start], nil
}

// Signal sends a signal to it.
func (p *Program) Signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return ErrGone
	default:
		return syscall.Kill(p.PID, s)
	}
}

// Kill ends it; when it returns it has gone.
func (p *Program) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}

// Done is closed when it has ended.
func (p *Program) Done() <-chan struct{} { return p.done }

// WaitFor looks at a condition again and again until it holds, the program ends, or ctx does.
func (p *Program) WaitFor(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	err := lab.Until(ctx, what, func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			return false, errors.Join(errors.New("it ended"), p.err)
		default:
			return holds(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("%w\nend of %s:\n%s", err, p.Log, lab.Tail(p.Log, 20))
	}
	return nil
}
