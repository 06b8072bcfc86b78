package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

const (
	network = "127.0.8" // no other lab's, so that the demo may run beside the tests
	warning = 2 * time.Minute
	slots   = 4 // executors, of one core each
)

// outcome is what one act came to.
type outcome struct {
	after  lab.Round // the round after the loss
	report *report.Report
	rescue time.Duration // from the notice in the metadata until everything was safe and the executors had ended
}

// play runs the job once, takes the node in its middle, and tells the story. With a binary the agent runs on
// that node.
func play(ctx context.Context, w io.Writer, o options, title, binary string) (out *outcome, err error) {
	s := newStory(w, title)
	var log io.Writer
	if o.verbose {
		log = os.Stderr
	}
	s.tell("starting Spark %s: a master, a driver, three nodes", o.spark)
	c, err := lab.Start(ctx, lab.Options{Spark: o.spark, Log: log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	f, err := c.Fleet(ctx, lab.FleetOptions{Network: network, App: lab.AppOptions{Name: "demo", Job: o.job}})
	if err != nil {
		return nil, err
	}
	if err := f.App.Warm(ctx, slots); err != nil {
		return nil, err
	}
	s.tell("node %s runs two executors, nodes %s and %s one each", f.Doomed.Address, f.Peers[0].Address, f.Peers[1].Address)
	first, err := f.App.Round(ctx)
	if err != nil {
		return nil, err
	}
	outputs, bytes := held(f.Doomed)
	s.tell("the job computes: %d map tasks, %.1f s; %d map outputs (%s) lie on node %s",
		first.MapTasks, first.Took.Seconds(), outputs, report.Bytes(bytes), f.Doomed.Address)
	out = &outcome{}
	if binary == "" {
		s.tell("NOTICE: the cloud will take node %s in 2 minutes. Nobody listens.", f.Doomed.Address)
	} else if err := out.rescued(ctx, s, f, binary); err != nil {
		return nil, err
	}
	return out, out.lose(ctx, s, f)
}

// rescued shows the agent a spot notice and waits until it has done what it can.
func (out *outcome) rescued(ctx context.Context, s *story, f *lab.Fleet, binary string) error {
	agent, err := f.StartAgent(ctx, f.Doomed, lab.AgentOptions{Binary: binary})
	if err != nil {
		return err
	}
	s.tell("lifeboat agent is ready on node %s (process %d)", f.Doomed.Address, agent.PID())
	s.tell("NOTICE: the cloud will take node %s in 2 minutes", f.Doomed.Address)
	shown := time.Now()
	agent.Announce(warning)
	out.report, err = agent.Report(ctx)
	if err != nil {
		return err
	}
	out.rescue = out.report.Ended.Sub(shown)
	s.rescue(out.report, shown)
	return nil
}

// lose takes the node away and has the job read its shuffle again.
func (out *outcome) lose(ctx context.Context, s *story, f *lab.Fleet) (err error) {
	if err := f.Doomed.Kill(); err != nil {
		return err
	}
	s.tell("kill -9 of everything on node %s; its files are removed", f.Doomed.Address)
	if out.after, err = f.App.Round(ctx); err != nil {
		return err
	}
	s.tell("the job reads its shuffle again: %d map tasks had to run again, %.1f s, the result is %s",
		out.after.MapTasks, out.after.Took.Seconds(), rightOrWrong(out.after.Exact))
	return nil
}

// held counts the map outputs that lie on a node.
func held(n *lab.Node) (outputs int, bytes int64) {
	for _, dir := range n.LocalDirs() {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !strings.HasPrefix(d.Name(), "shuffle_") {
				return nil //nolint:nilerr // Spark goes on working there
			}
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
			if strings.HasSuffix(path, ".index") {
				outputs++
			}
			return nil
		})
	}
	return outputs, bytes
}
