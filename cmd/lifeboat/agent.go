package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
)

func (c *cli) agentCommand() *cobra.Command {
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Wait for notices and rescue when one comes",
		Long: "Run until SIGTERM or SIGINT. The first one ends the intake of notices, and a running rescue goes on for\n" +
			"shutdown.grace; the second one stops everything at once. A rescue that was stopped goes on when the agent\n" +
			"starts again. Exit code 0 after a signal, 2 for a bad configuration, 1 for anything else.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			if printConfig {
				return c.write(cfg, cfg.Print)
			}
			return c.agent(cmd.Context(), cfg)
		},
	}
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print the effective configuration and exit")
	c.listenFlag(cmd)
	return cmd
}

func (c *cli) agent(ctx context.Context, cfg config.Config) error {
	log, err := daemonLog(c.err, cfg.Log)
	if err != nil {
		return usage(err)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, stop, done := stages(ctx, signals, log)
	defer done()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	version := thisBuild().Version
	a, err := c.open(cfg, agent.Deps{Log: log, Registry: registry, Version: version})
	if err != nil {
		return err
	}
	log.Info("agent begins", zap.String("version", version), zap.String("node", cfg.Node.Name), zap.String("state", cfg.State))
	err = a.Run(ctx, stop)
	log.Info("agent ends", zap.Error(err))
	return err
}

// stages turns the first signal into a closed stop, and the second into a cancelled context. Call done at the end.
func stages(ctx context.Context, signals <-chan os.Signal, log *zap.Logger) (_ context.Context, stop <-chan struct{}, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	first := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			log.Info("stopping: a second signal stops at once", zap.Stringer("signal", s))
			close(first)
		case <-ctx.Done():
			return
		}
		select {
		case s := <-signals:
			log.Warn("stopping at once", zap.Stringer("signal", s))
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, first, cancel
}
