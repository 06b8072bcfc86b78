package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/report"
)

func (c *cli) executorsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "executors",
		Short: "Show the Spark executors on this node and what would be lost with them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.executors(cmd.Context()) },
	}
}

func (c *cli) executors(ctx context.Context) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	log, err := personLog(c.err, cfg.Log)
	if err != nil {
		return usage(err)
	}
	a, err := c.open(cfg, agent.Deps{Log: log, Registry: prometheus.NewRegistry(), Version: thisBuild().Version})
	if err != nil {
		return err
	}
	list, partly := a.Inventory(ctx)
	if list == nil {
		list = []agent.ExecutorView{}
	}
	err = c.write(list, func(w io.Writer) error { return executorsText(w, list) })
	return errors.Join(err, partly)
}

func executorsText(w io.Writer, list []agent.ExecutorView) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No Spark executor runs on this node.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "APPLICATION\tEXECUTOR\tPID\tHOST\tSPARK\tMANAGER\tTASKS\tOUTPUTS\tSIZE\tDRIVER")
	var outputs int
	var bytes int64
	for _, e := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", report.Plain(e.App), report.Plain(e.Executor), e.PID, report.Plain(e.Host),
			orDash(e.Spark), orDash(e.Manager), tasks(e.Tasks), e.Outputs, report.Bytes(e.Bytes), report.Plain(e.Driver))
		outputs += e.Outputs
		bytes += e.Bytes
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d executors, %d map outputs, %s at risk\n", len(list), outputs, report.Bytes(bytes))
	shown := map[string]bool{}
	for _, e := range list {
		if !shown[e.App] {
			shown[e.App] = true
			fmt.Fprintf(w, "copies of %s: %s\n", report.Plain(e.App), orDash(e.Objects))
		}
		for _, p := range e.Problems {
			fmt.Fprintf(w, "executor %s of %s: %s\n", report.Plain(e.Executor), report.Plain(e.App), report.Plain(p))
		}
	}
	return nil
}

func tasks(n int) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return report.Plain(s)
}
