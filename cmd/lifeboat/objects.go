package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
)

// objectsFlags are those of objects list and gc.
type objectsFlags struct {
	app     string
	path    string
	dryRun  bool
	reached bool
}

func (c *cli) objectsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "objects",
		Short: "Show and clean up the copies in object storage",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(c.objectsListCommand(), c.objectsGCCommand())
	return cmd
}

func (c *cli) objectsListCommand() *cobra.Command {
	var f objectsFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is stored, by application and node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.objects(cmd.Context(), f, agent.CleanUpOptions{App: f.app, ListOnly: true})
		},
	}
	f.common(cmd)
	return cmd
}

func (c *cli) objectsGCCommand() *cobra.Command {
	var f objectsFlags
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove copies that nobody needs any more",
		Long: "Remove the copies of applications that have ended or are older than objects.keep. The copies of an\n" +
			"application whose driver answers are never removed, and nothing that Lifeboat has not stored itself.\n" +
			"A driver that does not answer from here may live all the same: then only the age counts, unless\n" +
			"--drivers-reachable says that a driver which can't be reached has ended.\n\n" + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.objects(cmd.Context(), f, agent.CleanUpOptions{App: f.app, ListOnly: f.dryRun, Reached: f.reach()})
		},
	}
	f.common(cmd)
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be removed")
	cmd.Flags().BoolVar(&f.reached, "drivers-reachable", false, "a driver that refuses connections from here has ended")
	return cmd
}

func (f *objectsFlags) common(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.app, "app", "", "only this application")
	cmd.Flags().StringVar(&f.path, "path", "", "where the copies lie, as s3a://bucket/prefix (default objects.path)")
}

func (c *cli) objects(ctx context.Context, f objectsFlags, o agent.CleanUpOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if f.path != "" {
		cfg.Objects.Path = f.path
	}
	if cfg.Objects.Path == "" {
		return usage(errors.New("where do the copies lie? Give --path or set objects.path, as s3a://bucket/prefix"))
	}
	log, err := personLog(c.err, cfg.Log)
	if err != nil {
		return usage(err)
	}
	cleaner := &agent.Cleaner{Config: cfg, Log: log, Dialer: &net.Dialer{Timeout: cfg.Migrate.DialTimeout}}
	list, err := cleaner.CleanUpPath(ctx, o)
	if list == nil && err != nil {
		return err
	}
	if werr := c.write(list, func(w io.Writer) error { return copiesText(w, list) }); werr != nil {
		return errors.Join(werr, err)
	}
	for _, e := range list {
		if e.Problem != "" {
			err = errors.Join(err, fmt.Errorf("%s from %s: %s", e.App, e.Node, e.Problem))
		}
	}
	return err
}

// reach is nil unless a driver that refuses is to count as one that has ended.
func (f objectsFlags) reach() func(catalog.Application) bool {
	if !f.reached {
		return nil
	}
	return func(catalog.Application) bool { return true }
}

// copiesText is the list for eyes.
func copiesText(w io.Writer, list []agent.Copies) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No copies.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "APPLICATION\tNODE\tOUTPUTS\tSIZE\tNEWEST\tSTATE")
	for _, e := range list {
		state := e.State
		if e.Removed {
			state += ", removed"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", e.App, e.Node, e.Outputs, report.Bytes(e.Bytes), e.Newest.UTC().Format(time.DateTime), state)
	}
	return t.Flush()
}
