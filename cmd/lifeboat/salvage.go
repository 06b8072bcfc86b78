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

// salvageFlags are what an operator can ask for.
type salvageFlags struct {
	app       string
	node      string
	path      string
	executors []string
	deadline  time.Duration
	dryRun    bool
}

func (c *cli) salvageCommand() *cobra.Command {
	f := salvageFlags{deadline: 10 * time.Minute}
	cmd := &cobra.Command{
		Use:   "salvage --app ID",
		Short: "Make copies in object storage count whose executors have died",
		Long: "Adopt what lies in object storage of executors that have died: the driver is told where it lies, if the\n" +
			"application reads its fallback storage there; otherwise it is given back to executors that live. What Spark\n" +
			"has computed again meanwhile stays as it is. Agents do this by themselves (objects.salvage); the command is\n" +
			"for when none of them has an executor of the application.\n\n" + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.salvage(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.app, "app", "", "application id (needed)")
	flags.StringVar(&f.node, "node", "", "only what this node stored")
	flags.StringVar(&f.path, "path", "", "where the copies lie (default: as the application's driver says, else objects.path)")
	flags.StringArrayVar(&f.executors, "executor", nil, "this executor has died; can be repeated (default: those that the driver no longer lists)")
	flags.DurationVar(&f.deadline, "deadline", f.deadline, "how long it may take in all")
	flags.BoolVar(&f.dryRun, "dry-run", false, "look only: tell nobody, copy nothing")
	return cmd
}

func (f salvageFlags) check() error {
	if f.app == "" {
		return usage(errors.New("--app: which application? Give its id"))
	}
	return checkDeadline(f.deadline)
}

func (c *cli) salvage(ctx context.Context, f salvageFlags) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if f.path != "" {
		cfg.Objects.Path, cfg.Objects.Override = f.path, true
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
	r, err := a.Salvage(ctx, agent.SalvageRequest{
		App: f.app, Node: f.node, Executors: f.executors, Deadline: time.Now().Add(f.deadline), DryRun: f.dryRun, Progress: show.update,
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
