package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
)

const maxDeadline = 24 * time.Hour

// rescueFlags are what an operator can ask for.
type rescueFlags struct {
	app       string
	executors []string
	deadline  time.Duration
	dryRun    bool
}

func (c *cli) rescueCommand() *cobra.Command {
	f := rescueFlags{deadline: time.Minute}
	cmd := &cobra.Command{
		Use:   "rescue",
		Short: "Rescue the executors of this node now",
		Long: "Rescue now, without a notice: tell the drivers, copy the map outputs to executors elsewhere, and end\n" +
			"the executors here. With --executor only those leave, and the others on this node may take copies; but\n" +
			"copies on the same host do not protect a stage that still runs. The first interrupt stops the rescue and ends\n" +
			"no more executors; an agent that starts later goes on with it.\n\n" + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.rescue(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.app, "app", "", "only the executors of this application")
	flags.StringArrayVar(&f.executors, "executor", nil, "only this executor; can be repeated")
	flags.DurationVar(&f.deadline, "deadline", f.deadline, "how long the rescue may take in all")
	flags.BoolVar(&f.dryRun, "dry-run", false, "look and plan only: tell nobody, copy nothing, end nothing")
	return cmd
}

func (f rescueFlags) check() error {
	if err := checkDeadline(f.deadline); err != nil {
		return err
	}
	for _, e := range f.executors {
		if e == "" {
			return usage(errors.New("--executor: the id is empty"))
		}
	}
	return nil
}

func checkDeadline(d time.Duration) error {
	if d <= 0 || d > maxDeadline {
		return usage(fmt.Errorf("--deadline: %s is out of range: give more than 0s and at most %s", d, config.Duration(maxDeadline)))
	}
	return nil
}

func (c *cli) rescue(ctx context.Context, f rescueFlags) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	show := newProgress(c.err, c.format)
	log, err := personLog(show, cfg.Log)
	if err != nil {
		return usage(err)
	}
	a, err := c.open(cfg, agent.Deps{Log: log, Registry: prometheus.NewRegistry(), Version: thisBuild().Version})
	if err != nil {
		return err
	}
	r, err := a.Rescue(ctx, agent.Request{
		App: f.app, Executors: f.executors, Deadline: time.Now().Add(f.deadline), DryRun: f.dryRun, Progress: show.update,
	})
	show.end()
	if errors.Is(err, agent.ErrAmbiguous) {
		return usage(err)
	}
	if r == nil {
		return err
	}
	if err := errors.Join(c.write(r, r.Text), err); err != nil {
		return err
	}
	if r.Interrupted {
		return errors.New("interrupted: an agent that starts on this node goes on with the rescue")
	}
	return outcome(r.ExitCode())
}
