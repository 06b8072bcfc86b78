package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
)

func (c *cli) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say in plain words how the agent on this node is, and how far a rescue is",
		Long: "Ask the agent that runs on this node whether it would hear a notice, what runs here, and how far the rescue is that runs\n" +
			"now. With -o json, its whole status page. Exit code 0 when the agent is ready, 1 when it is not or does not answer.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.status(cmd.Context()) },
	}
	c.listenFlag(cmd)
	return cmd
}

func (c *cli) status(ctx context.Context) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	s, err := status.Fetch(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	now := time.Now()
	if err := c.write(s, func(w io.Writer) error { return statusText(w, s, now) }); err != nil {
		return err
	}
	if len(s.NotReady()) > 0 {
		return &exitError{code: exitOther}
	}
	return nil
}

// statusText is the status page for eyes.
func statusText(w io.Writer, s *status.Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(what, text string) { fmt.Fprintf(t, "%s\t%s\n", what, report.Plain(text)) }
	line("agent", fmt.Sprintf("%s on %s, for %s", s.Version, s.Node, report.Seconds(now.Sub(s.Started).Seconds())))
	reasons := s.NotReady()
	if len(reasons) == 0 {
		line("ready", "yes")
	}
	for _, r := range reasons {
		line("not ready", r)
	}
	line("sources", sourcesLine(s.Sources))
	line("executors", fmt.Sprint(len(s.Executors)))
	if s.Rescue == nil {
		line("rescue", "none runs")
	} else {
		rescueLines(line, s.Rescue)
	}
	last := "none since the agent began"
	if s.LastReport != "" {
		last = s.LastReport
	}
	line("last report", last)
	return t.Flush()
}

func sourcesLine(list []status.Source) string {
	up, all := 0, 0
	for _, s := range list {
		if s.Drills {
			continue
		}
		all++
		if s.OK {
			up++
		}
	}
	return fmt.Sprintf("%d of %d answer", up, all)
}

// rescueLines say how far a rescue is.
func rescueLines(line func(what, text string), r *status.Rescue) {
	notice := fmt.Sprintf("%s (%s)", r.Notice.Source, r.Notice.Kind)
	if r.Notice.Drill {
		notice += ", a drill"
	}
	line("rescue", fmt.Sprintf("%s runs, for %s", r.ID, notice))
	left := report.Seconds(r.SecondsLeft) + " left"
	if r.SecondsLeft < 0 {
		left = "missed by " + report.Seconds(-r.SecondsLeft)
	}
	line("  deadline", left)
	line("  found", report.Amount{Outputs: r.Found, Bytes: r.FoundBytes}.String())
	line("  saved", report.Amount{Outputs: r.Saved, Bytes: r.SavedBytes}.String())
	line("  lost", report.Amount{Outputs: r.Lost, Bytes: r.LostBytes}.String())
	for _, p := range r.Phases {
		line("  doing", p)
	}
}
