package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers"
)

func (c *cli) noticesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notices",
		Short: "Show what each source of notices sees now, and how it is",
		Long: "Ask the agent that runs on this node what each source of notices sees, when it last answered, and how far this\n" +
			"node's clock is from the source's. When no agent answers at the configured address, ask the sources themselves,\n" +
			"once; what they show then leads to nothing. Exit code 1 when no source works.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.notices(cmd.Context()) },
	}
	c.listenFlag(cmd)
	return cmd
}

// outlook is what the command shows.
type outlook struct {
	Agent     bool            `json:"agent"`            // whether the agent that runs has said it
	Reason    string          `json:"reason,omitempty"` // why that was not so
	Detection string          `json:"detection,omitempty"`
	Sources   []status.Source `json:"sources"`
	Handled   []status.Notice `json:"handled,omitempty"` // the last notices, and what was made of them
}

func (c *cli) notices(ctx context.Context) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	o, err := c.outlook(ctx, cfg)
	if err != nil {
		return err
	}
	if o.Sources == nil {
		o.Sources = []status.Source{}
	}
	now := time.Now()
	if err := c.write(o, func(w io.Writer) error { return o.text(w, now) }); err != nil {
		return err
	}
	for _, s := range o.Sources {
		if s.OK && !s.Drills {
			return nil
		}
	}
	return &exitError{code: exitOther}
}

func (c *cli) outlook(ctx context.Context, cfg config.Config) (*outlook, error) {
	s, why := status.Fetch(ctx, cfg.Listen)
	if why == nil {
		return &outlook{Agent: true, Detection: s.Detection, Sources: s.Sources, Handled: s.Notices}, nil
	}
	log, err := personLog(c.err, cfg.Log)
	if err != nil {
		return nil, usage(err)
	}
	a, err := c.open(cfg, agent.Deps{Log: log, Registry: prometheus.NewRegistry(), Version: thisBuild().Version})
	if err != nil {
		return nil, err
	}
	o := &outlook{Reason: why.Error()}
	o.Sources, o.Detection, err = a.Look(ctx)
	return o, err
}

func (o *outlook) text(w io.Writer, now time.Time) error {
	if !o.Agent {
		fmt.Fprintf(w, "No agent answers (%s); the sources were asked once.\n\n", report.Plain(o.Reason))
	}
	if len(o.Sources) == 0 {
		fmt.Fprintf(w, "No source of notices. %s\n", report.Plain(o.Detection))
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SOURCE\tSTATE\tLAST ANSWER\tCLOCK\tNOTICES\tERROR")
	for _, s := range o.Sources {
		state := "ok"
		if !s.OK {
			state = "down"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", report.Plain(s.Source), state, age(s.LastAnswer, now), skew(s.Skew), len(s.Notices), report.Plain(s.Error))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	o.noticesText(w, now)
	return nil
}

func (o *outlook) noticesText(w io.Writer, now time.Time) {
	any := false
	for _, s := range o.Sources {
		for _, n := range s.Notices {
			if !any {
				fmt.Fprintln(w)
				any = true
			}
			fmt.Fprintf(w, "%s: %s of %s, %s%s\n", report.Plain(n.ID), report.Plain(string(n.Kind)), whom(n), until(n.Deadline, now), o.madeOf(n.ID))
		}
	}
}

// madeOf is what the agent has made of a notice.
func (o *outlook) madeOf(id string) string {
	for _, h := range o.Handled {
		if h.ID == id {
			return ": " + report.Plain(h.LeadsTo)
		}
	}
	return ""
}

func whom(n providers.Notice) string {
	what := "the node"
	switch {
	case len(n.Executors) > 0:
		what = fmt.Sprintf("executors %s", report.Plain(fmt.Sprint(n.Executors)))
	case n.App != "":
		what = "all executors"
	}
	if n.App != "" {
		what += " of " + report.Plain(n.App)
	}
	if n.Drill {
		what += " (a drill)"
	}
	return what
}

func until(deadline, now time.Time) string {
	switch left := deadline.Sub(now); {
	case deadline.IsZero():
		return "without a deadline"
	case left < 0:
		return "deadline was " + report.Seconds(-left.Seconds()) + " ago"
	default:
		return "deadline in " + report.Seconds(left.Seconds())
	}
}

func age(at, now time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return report.Seconds(max(now.Sub(at), 0).Seconds()) + " ago"
}

// skew says which clock is ahead.
func skew(d time.Duration) string {
	switch {
	case d > 0:
		return report.Seconds(d.Seconds()) + " ahead"
	case d < 0:
		return report.Seconds(-d.Seconds()) + " behind"
	}
	return "right"
}
