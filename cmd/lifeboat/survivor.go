package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/survivor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// survivorFlags are what an operator can ask for.
type survivorFlags struct {
	namespace string
	dryRun    bool
}

func (c *cli) survivorCommand() *cobra.Command {
	var f survivorFlags
	cmd := &cobra.Command{
		Use:   "survivor",
		Short: "Act for nodes of a Kubernetes cluster that died without a word",
		Long: "Watch the nodes of survivor.nodes, and take the executors' pods from one that is certainly dead, so that their\n" +
			"drivers notice within seconds and volumes can go elsewhere. Run it away from those nodes, with two replicas: one\n" +
			"leads. Runs until SIGTERM or SIGINT. Exit code 0 after a signal, 2 for a bad configuration, 1 for anything else.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.survivor(cmd.Context(), f) },
	}
	c.listenFlag(cmd)
	cmd.Flags().StringVar(&f.namespace, "namespace", "", "namespace of the Lease that the replicas share (default $POD_NAMESPACE)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only log and write events: delete, patch and taint nothing")
	return cmd
}

func (c *cli) survivor(ctx context.Context, f survivorFlags) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	log, err := daemonLog(c.err, cfg.Log)
	if err != nil {
		return usage(err)
	}
	s, cluster, err := newSurvivor(cfg, f, log)
	if err != nil {
		return usage(err)
	}
	defer cluster.Close()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log.Info("survivor begins", zap.String("version", thisBuild().Version), zap.String("nodes", cfg.Survivor.Nodes))
	err = s.Run(ctx)
	log.Info("survivor ends", zap.Error(err))
	return err
}

func newSurvivor(cfg config.Config, f survivorFlags, log *zap.Logger) (*survivor.Survivor, *kube.Cluster, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cluster, err := kube.Open(kube.Access{Kubeconfig: cfg.Providers.Kube.Kubeconfig})
	if err != nil {
		return nil, nil, err
	}
	s, err := survivor.New(survivor.Options{
		Cluster: cluster, Config: cfg.Survivor, DryRun: f.dryRun, Listen: cfg.Listen, Version: thisBuild().Version,
		Namespace: cmp.Or(f.namespace, os.Getenv("POD_NAMESPACE")), Name: os.Getenv("POD_NAME"), Log: log, Registry: registry,
	})
	return s, cluster, err
}
