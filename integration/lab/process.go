package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// spawner starts processes from one operating system thread that lives as long as it does: the kernel
// sends a parent death signal when the *thread* that made the child ends.
type spawner struct {
	jobs chan func()
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, and what it started too
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

// start is cmd.Start on the spawner's thread.
func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	s.jobs <- func() { result <- cmd.Start() }
	return <-result
}

func (s *spawner) close() { close(s.jobs) }

// process is a program in a PID namespace (and, for /proc, a mount namespace) of its own, under a small init. Whatever it starts, in
// whatever session or process group, dies with the init, and the init with the test process.
type process struct {
	cmd  *exec.Cmd
	ns   string // the link of /proc/PID/ns/pid that all of its processes share
	log  string // the file that holds its stdout and stderr
	done chan struct{}
	err  error // why it ended; read after done is closed
}

type processSpec struct {
	args  []string
	env   []string // all of it: nothing is inherited
	dir   string
	log   string
	stdin io.Reader
	extra []*os.File // descriptors 3, 4, …
}

// initScript runs the program as a child: as process 1 it would not get the signals it has no handler
// for. /proc has to be the namespace's own: Spark 4 looks its Python workers up there (ProcessHandle.of in
// PythonWorkerFactory).
const initScript = `mount --make-rprivate / && mount -t proc proc /proc && "$@"; exit $?`

func startProcess(s *spawner, spec processSpec) (*process, error) {
	logFile, err := os.OpenFile(spec.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := exec.Command("bash", append([]string{"-c", initScript, "init"}, spec.args...)...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.ExtraFiles = spec.env, spec.dir, spec.stdin, spec.extra
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = namespaced()
	if err := s.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.args[0], err)
	}
	p := &process{cmd: cmd, log: spec.log, done: make(chan struct{})}
	p.ns, err = os.Readlink(nsLink(cmd.Process.Pid))
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err != nil {
		return nil, p.failed(fmt.Sprintf("%s ended at once", spec.args[0]))
	}
	return p, nil
}

// namespaced needs root, or a kernel that lets users make user namespaces.
func namespaced() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setsid: true}
	if uid := os.Geteuid(); uid != 0 {
		gid := os.Getegid()
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	return attr
}

func nsLink(pid int) string { return fmt.Sprintf("/proc/%d/ns/pid", pid) }

// kill ends all processes of the namespace; when it returns they are gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// pids are the processes of the namespace without its init, as this process sees them.
func (p *process) pids() []int {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	var found []int
	for _, link := range links {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err != nil || pid == p.cmd.Process.Pid {
			continue
		}
		if ns, err := os.Readlink(link); err == nil && ns == p.ns {
			found = append(found, pid)
		}
	}
	return found
}

// stop asks the processes to end (SIGTERM) and kills what is left after the patience.
func (p *process) stop(patience time.Duration) {
	for _, pid := range p.pids() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
	}
}

// failed makes an error of how a process ended, with the end of its log.
func (p *process) failed(what string) error {
	return fmt.Errorf("%s (%w); end of %s:\n%s", what, errors.Join(p.ended()...), p.log, Tail(p.log, 30))
}

func (p *process) ended() []error {
	select {
	case <-p.done:
		return []error{errors.New("exited"), p.err}
	default:
		return []error{errors.New("still running")}
	}
}

// waitFor polls a condition until it holds, the process ends, or the context does.
func (p *process) waitFor(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	err := Until(ctx, what, func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			return false, errEnded
		default:
			return holds(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("%w\n%w", err, p.failed(what))
	}
	return nil
}

var errEnded = errors.New("the process ended")
