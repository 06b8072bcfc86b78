package main

import (
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/report"
)

func (c *cli) reportCommand() *cobra.Command {
	last := 20
	cmd := &cobra.Command{
		Use:   "report [ID]",
		Short: "List the last rescues, or show one in full",
		Long: "Without an ID, list the last rescues, newest first. With one, or with enough of its beginning or\n" +
			"its last four letters, show that rescue in full; the exit code then is that of the rescue.\n\n" + exitCodes,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return c.showReport(args[0])
			}
			if last < 1 {
				return usage(errors.New("--last: show at least 1 rescue"))
			}
			return c.listReports(last)
		},
	}
	cmd.Flags().IntVarP(&last, "last", "n", last, "how many rescues to list")
	return cmd
}

func (c *cli) listReports(n int) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	list, damaged := report.List(cfg.State, n)
	salvages, damagedToo := report.List(agent.SalvageState(cfg.State), n)
	list = append(append([]*report.Report{}, list...), salvages...)
	slices.SortStableFunc(list, func(x, y *report.Report) int { return strings.Compare(y.ID, x.ID) })
	list, damaged = list[:min(n, len(list))], errors.Join(damaged, damagedToo)
	if len(list) == 0 && damaged != nil {
		return damaged
	}
	err = c.write(list, func(w io.Writer) error { return report.ListText(w, list) })
	return errors.Join(err, damaged)
}

func (c *cli) showReport(id string) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	r, err := report.Load(cfg.State, id)
	if errors.Is(err, report.ErrNotFound) {
		if salvage, err2 := report.Load(agent.SalvageState(cfg.State), id); err2 == nil {
			r, err = salvage, nil
		}
	}
	if err != nil {
		return err
	}
	if err := c.write(r, r.Text); err != nil {
		return err
	}
	return outcome(r.ExitCode())
}
