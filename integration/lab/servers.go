package lab

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/lifeboat/lifeboat/integration/tools"
)

// Servers are programs that stand beside Spark, each with a folder of its own: object storages, toxiproxy.
type Servers struct {
	dir     string
	log     io.Writer
	spawner *spawner

	mu    sync.Mutex
	procs []*process
}

// NewServers begins without any, below a folder that must exist. The caller must Close.
func NewServers(dir string, log io.Writer) *Servers {
	if log == nil {
		log = io.Discard
	}
	return &Servers{dir: dir, log: log, spawner: newSpawner()}
}

// Close ends all of them at once. Their files stay.
func (s *Servers) Close() {
	s.kill()
	s.spawner.close()
}

func (s *Servers) kill() {
	s.mu.Lock()
	procs := s.procs
	s.procs = nil
	s.mu.Unlock()
	for _, p := range procs {
		p.kill()
	}
}

// server says what to start.
type server struct {
	tool    string // as install.sh calls it
	program string // in the tool's folder
	args    []string
	env     []string
	answers func(ctx context.Context) bool // it is up
}

// folder makes a folder for what a server keeps.
func (s *Servers) folder(name string) (string, error) { return newFolder(s.dir, name) }

// start starts a program and waits until it answers.
func (s *Servers) start(ctx context.Context, v server) (*process, error) {
	home, err := tools.Path(ctx, v.tool, s.log)
	if err != nil {
		return nil, err
	}
	dir, err := s.folder(v.tool)
	if err != nil {
		return nil, err
	}
	p, err := startProcess(s.spawner, processSpec{
		args: append([]string{filepath.Join(home, v.program)}, v.args...), dir: dir, log: filepath.Join(dir, "log"),
		env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "TMPDIR=" + dir}, v.env...),
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.procs = append(s.procs, p)
	s.mu.Unlock()
	return p, p.waitFor(ctx, v.tool+" answers", func(ctx context.Context) (bool, error) { return v.answers(ctx), nil })
}
