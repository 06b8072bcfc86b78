package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/integration/lab"
)

const (
	// mirrorPatience is how long copies may take beside the job.
	mirrorPatience = time.Minute
	// mirrorWarmUps are jobs that are not measured: Java compiles what runs often.
	mirrorWarmUps = 3
)

// mirrorJob writes 60 MiB of shuffle data, and computes all the time.
var mirrorJob = lab.Job{Maps: 120, Reduces: 4, KiBPerMap: 512}

// ahead is one job beside an agent.
type ahead struct {
	mode string
	took time.Duration // of the Spark jobs alone
	cpu  time.Duration // of the agent meanwhile
	made int           // map outputs
	done int           // of those, copied when the job ended
}

func (a ahead) String() string {
	return fmt.Sprintf("mirror %-6s %6.2f s, the agent took %.2f s of CPU, %d of %d map outputs were copied at the end",
		a.mode, a.took.Seconds(), a.cpu.Seconds(), a.done, a.made)
}

// mirroring is a node with a job and two agents, of which one runs at a time.
type mirroring struct {
	bench   *bench
	app     *lab.App
	node    *lab.Node
	storage string // a folder on this machine: all that the job can feel of the storage is the disk
	agents  map[string]*lab.Agent
}

// watchMirror lets the same job run beside an agent that copies ahead and beside one that does not, in turn.
func (b *bench) watchMirror(ctx context.Context) (err error) {
	fmt.Fprintf(b.w, "\nSpark %s; a job of %d map outputs of %d KiB, with copies ahead and without; load before: %s\n\n",
		b.spark, mirrorJob.Maps, mirrorJob.KiBPerMap, load())
	c, err := lab.Start(ctx, lab.Options{Spark: b.spark})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	m, err := b.openMirroring(ctx, c)
	if err != nil {
		return err
	}
	for range mirrorWarmUps {
		if _, err := m.job(ctx); err != nil {
			return err
		}
	}
	for i := range b.mirrors {
		order := []string{config.MirrorOff, config.MirrorAlways}
		if i%2 == 1 {
			slices.Reverse(order) // so that neither always comes second
		}
		for _, mode := range order {
			a, err := m.one(ctx, mode)
			if err != nil {
				return fmt.Errorf("mirror %s, run %d: %w", mode, i+1, err)
			}
			b.aheads = append(b.aheads, a)
			fmt.Fprintf(b.w, "run %2d: %s\n", i+1, a)
		}
	}
	fmt.Fprintln(b.w, b.mirrorSpread())
	return nil
}

func (b *bench) openMirroring(ctx context.Context, c *lab.Cluster) (*mirroring, error) {
	m := &mirroring{bench: b, storage: filepath.Join(c.Dir(), "objects"), agents: map[string]*lab.Agent{}}
	if err := os.Mkdir(m.storage, 0o777); err != nil {
		return nil, err
	}
	var err error
	if m.node, err = c.AddNode(ctx, lab.NodeOptions{Address: doomedAddress, Cores: cores}); err != nil {
		return nil, err
	}
	for _, mode := range []string{config.MirrorOff, config.MirrorAlways} {
		m.agents[mode], err = c.NewAgent(m.node, lab.AgentOptions{
			Binary: b.binary, Poll: poll, Config: fmt.Sprintf("mirror: %s\nobjects: {path: \"file://%s\"}\n%s", mode, m.storage, b.config),
		})
		if err != nil {
			return nil, err
		}
	}
	m.app, err = c.Submit(ctx, lab.AppOptions{ExecutorCores: cores, ExecutorMemoryMB: 1024, Job: mirrorJob})
	if err != nil {
		return nil, err
	}
	return m, m.app.WaitExecutors(ctx, 1)
}

// job makes a new dataset and reduces it.
func (m *mirroring) job(ctx context.Context) (time.Duration, error) {
	if err := m.app.Fresh(ctx); err != nil {
		return 0, err
	}
	r, err := m.app.Round(ctx)
	if err == nil && (!r.Exact || r.MapTasks != mirrorJob.Maps) {
		err = fmt.Errorf("the round is wrong: %+v", r)
	}
	return r.Took, err
}

// one is one run of the job beside one agent, which is gone afterwards.
func (m *mirroring) one(ctx context.Context, mode string) (a ahead, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	agent := m.agents[mode]
	if err := agent.Start(ctx); err != nil {
		return a, err
	}
	defer agent.Kill()
	if err := m.awaitCopies(ctx, mode); err != nil { // of what was made beside the other one
		return a, err
	}
	before := len(names(m.storage))
	began, err := lab.UsageOf(agent.PID())
	if err != nil {
		return a, err
	}
	a = ahead{mode: mode, made: mirrorJob.Maps}
	if a.took, err = m.job(ctx); err != nil {
		return a, err
	}
	ended, err := lab.UsageOf(agent.PID())
	a.cpu, a.done = ended.CPU-began.CPU, len(names(m.storage))-before
	return a, errors.Join(err, m.awaitCopies(ctx, mode))
}

// awaitCopies waits until an agent that copies ahead has copied all that there is.
func (m *mirroring) awaitCopies(ctx context.Context, mode string) error {
	if mode != config.MirrorAlways {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, mirrorPatience)
	defer cancel()
	return lab.Until(ctx, "all map outputs are copied", func(context.Context) (bool, error) {
		copied := names(m.storage)
		for _, dir := range m.node.LocalDirs() {
			for name := range names(dir) {
				if !copied[name] {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// names are those of the indexes below a folder, which Spark calls the same on its disks and in its fallback storage. What comes
// and goes meanwhile may be missing.
func names(dir string) map[string]bool {
	found := map[string]bool{}
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
		if name := filepath.Base(path); strings.HasPrefix(name, "shuffle_") && strings.HasSuffix(name, ".index") {
			found[name] = true
		}
		return nil
	})
	return found
}

// times are those of the runs beside one agent, in seconds, the quickest first.
func (b *bench) times(mode string) []float64 {
	var list []float64
	for _, a := range b.aheads {
		if a.mode == mode {
			list = append(list, a.took.Seconds())
		}
	}
	slices.Sort(list)
	return list
}

// mirrorSpread says how far the runs are apart, without which their medians say little.
func (b *bench) mirrorSpread() string {
	var text strings.Builder
	for _, mode := range []string{config.MirrorOff, config.MirrorAlways} {
		if l := b.times(mode); len(l) > 0 {
			fmt.Fprintf(&text, "\nmirror %-6s %d runs: median %.2f s, middle half %.2f to %.2f s, all %.2f to %.2f s",
				mode, len(l), median(l), l[len(l)/4], l[len(l)-1-len(l)/4], l[0], l[len(l)-1])
		}
	}
	if ratios := b.mirrorRatios(); len(ratios) > 0 {
		fmt.Fprintf(&text, "\nwith copies ahead / without, run by run: median %.3f, all %.3f to %.3f", median(ratios), ratios[0], ratios[len(ratios)-1])
	}
	return text.String()
}

// mirrorRatios compare the two jobs of each run, which stand side by side in time: what else the machine does weighs less. The
// smallest comes first.
func (b *bench) mirrorRatios() []float64 {
	var ratios []float64
	for i := 0; i+1 < len(b.aheads); i += 2 {
		with, without := b.aheads[i], b.aheads[i+1]
		if with.mode != config.MirrorAlways {
			with, without = without, with
		}
		ratios = append(ratios, with.took.Seconds()/without.took.Seconds())
	}
	slices.Sort(ratios)
	return ratios
}
