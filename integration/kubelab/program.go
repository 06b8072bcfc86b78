package kubelab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// program is a part of the cluster that runs.
type program struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // why it ended; read after done is closed
}

// run starts a part. It ends with this process, whatever happens to it: the thread that starts it must live as long, because
// the kernel sends the death signal when that thread ends.
func (c *Cluster) run(part string, args ...string) (*program, error) {
	p := &program{log: c.path(part + ".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(filepath.Join(c.bin, part), args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.Folder, log, log
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Folder, "TMPDIR=" + c.Folder}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", part, err)
	}
	return p, nil
}

func (p *program) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// kill ends it; when it returns it has gone.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// waitFor looks at a condition again and again until it holds, the program ends, or ctx does.
func (p *program) waitFor(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	err := lab.Until(ctx, what, func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			return false, errors.Join(errors.New("it ended"), p.err)
		default:
			return holds(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("%w\nend of %s:\n%s", err, p.log, lab.Tail(p.log, 20))
	}
	return nil
}
