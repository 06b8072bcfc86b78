// Command demo shows what Lifeboat is for, on real Spark on this machine: a job loses a node that holds
// map outputs, first with nobody to help, then with the agent on that node.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

type options struct {
	spark   string
	job     lab.Job
	verbose bool
}

func main() {
	var o options
	flag.StringVar(&o.spark, "spark", "4.3.0", "version of Spark: 3.5.9, 4.1.4 or 4.3.0")
	flag.IntVar(&o.job.Maps, "maps", 32, "map tasks of the job")
	flag.IntVar(&o.job.KiBPerMap, "kib", 1024, "KiB of shuffle data per map task")
	flag.IntVar(&o.job.MsPerMap, "ms", 500, "how long a map task works, in ms: what losing its output costs")
	flag.BoolVar(&o.verbose, "v", false, "say how the clusters are started")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run plays both acts and compares them.
func run(ctx context.Context, w io.Writer, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	o.job.Reduces = 8
	bin, err := build(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(bin))) }()
	fmt.Fprintf(w, "Spark %s on three nodes; a job of %d map tasks, %d KiB each. Then one node is taken.\n",
		o.spark, o.job.Maps, o.job.KiBPerMap)
	without, err := act(ctx, w, o, "without Lifeboat", nil)
	if err != nil {
		return err
	}
	with, err := act(ctx, w, o, "with Lifeboat on the node", func(ctx context.Context, s *stage) error {
		return s.rescue(ctx, w, bin)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nMap tasks that ran again: %d without Lifeboat, %d with it.\n", without.MapTasks, with.MapTasks)
	return nil
}

// build makes the lifeboat binary of this source tree.
func build(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "lifeboat-demo-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lifeboat")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "github.com/lifeboat/lifeboat/cmd/lifeboat")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("go build: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return path, nil
}

// stage is a running job whose node 127.0.0.2 is about to be taken.
type stage struct {
	*lab.Cluster
	doomed *lab.Node
	app    *lab.App
}

// act runs the job, lets before have the time until the node goes, takes the node, and reads the shuffle
// again. It returns the round after the loss.
func act(ctx context.Context, w io.Writer, o options, title string, before func(context.Context, *stage) error) (_ lab.Round, err error) {
	fmt.Fprintf(w, "\n== %s\n", title)
	s, err := open(ctx, o)
	if s != nil {
		defer func() { err = errors.Join(err, s.Close()) }()
	}
	if err != nil {
		return lab.Round{}, err
	}
	first, err := s.app.Round(ctx)
	if err != nil {
		return lab.Round{}, err
	}
	fmt.Fprintf(w, "   the job ran: %d map tasks, %.1f s\n", first.MapTasks, first.Took.Seconds())
	if before != nil {
		if err := before(ctx, s); err != nil {
			return lab.Round{}, err
		}
	}
	if err := s.doomed.Kill(); err != nil {
		return lab.Round{}, err
	}
	fmt.Fprintf(w, "   node %s is gone: kill -9, its disks with it\n", s.doomed.Address)
	second, err := s.app.Round(ctx)
	if err == nil && !second.Exact {
		err = errors.New("the job's result is wrong")
	}
	fmt.Fprintf(w, "   the job read its shuffle again: %d map tasks had to run again, %.1f s\n", second.MapTasks, second.Took.Seconds())
	return second, err
}

// open starts the cluster and the job's application.
func open(ctx context.Context, o options) (*stage, error) {
	log := io.Discard
	if o.verbose {
		log = os.Stderr
	}
	c, err := lab.Start(ctx, lab.Options{Spark: o.spark, Log: log})
	if err != nil {
		return nil, err
	}
	s := &stage{Cluster: c}
	decommission := map[string]string{"spark.decommission.enabled": "true"}
	for _, n := range []lab.NodeOptions{
		{Address: "127.0.0.2", Cores: 2, Conf: decommission}, {Address: "127.0.0.3"}, {Address: "127.0.0.4"},
	} {
		node, err := c.AddNode(ctx, n)
		if err != nil {
			return s, err
		}
		if s.doomed == nil {
			s.doomed = node
		}
	}
	if s.app, err = c.Submit(ctx, lab.AppOptions{Name: "demo", Job: o.job}); err != nil {
		return s, err
	}
	if err := s.app.WaitExecutors(ctx, 4); err != nil {
		return s, err
	}
	return s, s.app.Warm(ctx, 4)
}

// rescue shows the agent a spot notice and waits until it has done what it can.
func (s *stage) rescue(ctx context.Context, w io.Writer, bin string) error {
	agent, err := s.StartAgent(ctx, s.doomed, lab.AgentOptions{Binary: bin})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "   the cloud gives notice: two minutes\n")
	agent.Announce(2 * time.Minute)
	rep, err := agent.Report(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "   the agent's report:\n\n")
	return rep.Text(w)
}
