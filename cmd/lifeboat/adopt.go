package main

import (
	"context"
	"errors"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
)

// adoptFlags are what an operator can ask for.
type adoptFlags struct {
	app      string
	executor string
	deadline time.Duration
	stay     bool
	dryRun   bool
}

func (c *cli) adoptCommand() *cobra.Command {
	f := adoptFlags{deadline: 5 * time.Minute}
	cmd := &cobra.Command{
		Use:   "adopt --app ID --executor ID",
		Short: "Make map outputs count that an earlier executor left in the local dirs of one that lives here",
		Long: "Look in the local dirs of an executor of this node for map outputs whose executor has ended, as on a volume that it\n" +
			"has taken over. They get a second name in its own folders, or are uploaded to it where that can't be, and the driver\n" +
			"is told. What Spark has computed again meanwhile stays as it is. Agents do this by themselves for persistent volume\n" +
			"claims (kubernetes.volumes.adopt); the command is for when they did not.\n\n" + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.adopt(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.app, "app", "", "application id (needed)")
	flags.StringVar(&f.executor, "executor", "", "the executor that has the files now (needed)")
	flags.DurationVar(&f.deadline, "deadline", f.deadline, "how long it may take in all")
	flags.BoolVar(&f.stay, "stay", false, "stay until the executor's own recovery of volumes, which takes adopted files away, is over")
	flags.BoolVar(&f.dryRun, "dry-run", false, "look only: tell nobody, change nothing")
	return cmd
}

func (f adoptFlags) check() error {
	if f.app == "" || f.executor == "" {
		return usage(errors.New("--app and --executor: who takes the files? Give both ids, as `lifeboat executors` lists them"))
	}
	return checkDeadline(f.deadline)
}

func (c *cli) adopt(ctx context.Context, f adoptFlags) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	show := newProgress(c.err, c.format)
	log, err := personLog(show, cfg.Log)
	if err != nil {
		return usage(err)
	}
	a, err := c.open(cfg, agent.Deps{Log: log, Registry: prometheus.NewRegistry(), Version: thisBuild().Version})
	if err != nil {
		return err
	}
	r, err := a.Adopt(ctx, agent.AdoptRequest{
		App: f.app, Executor: f.executor, Deadline: time.Now().Add(f.deadline), DryRun: f.dryRun, Stay: f.stay, Progress: show.update,
	})
	show.end()
	if r == nil {
		return err
	}
	if err := errors.Join(c.write(r, r.Text), err); err != nil {
		return err
	}
	return outcome(r.ExitCode())
}
