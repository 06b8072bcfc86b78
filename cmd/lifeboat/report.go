package main

import (
	"cmp"
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
			"its last four letters, or \"last\" for the newest, show that rescue in full; the exit code then is that of\n" +
			"the rescue.\n\n" + exitCodes,
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

// newestReport is what people call the newest rescue.
const newestReport = "last"

func (c *cli) listReports(n int) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	list, damaged := newestReports(cfg.State, n)
	if len(list) == 0 && damaged != nil {
		return damaged
	}
	err = c.write(list, func(w io.Writer) error { return report.ListText(w, list) })
	return errors.Join(err, damaged)
}

// newestReports are those of the last n rescues, salvages and adoptions. The error names the ones that can't be read.
func newestReports(state string, n int) ([]*report.Report, error) {
	list, damaged := report.List(state, n)
	list = append([]*report.Report{}, list...) // none is an empty list, not null
	for _, other := range otherReports(state) {
		more, err := report.List(other, n)
		list, damaged = append(list, more...), errors.Join(damaged, err)
	}
	slices.SortStableFunc(list, func(x, y *report.Report) int { return strings.Compare(y.ID, x.ID) })
	return list[:min(n, len(list))], damaged
}

// otherReports are the folders with reports of what was no rescue of this node.
func otherReports(state string) []string {
	return []string{agent.SalvageState(state), agent.AdoptionState(state)}
}

func (c *cli) showReport(id string) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	r, err := findReport(cfg.State, id)
	if err != nil {
		return err
	}
	if err := c.write(r, r.Text); err != nil {
		return err
	}
	return outcome(r.ExitCode())
}

// findReport is the report of a rescue, a salvage or an adoption.
func findReport(state, id string) (*report.Report, error) {
	if id == newestReport {
		list, damaged := newestReports(state, 1)
		if damaged != nil || len(list) == 0 { // the newest may be the one that can't be read
			return nil, cmp.Or(damaged, errors.New("no rescue has been reported on this node"))
		}
		return list[0], nil
	}
	r, err := report.Load(state, id)
	if errors.Is(err, report.ErrNotFound) {
		for _, other := range otherReports(state) {
			if r, err2 := report.Load(other, id); err2 == nil {
				return r, nil
			}
		}
	}
	return r, err
}
