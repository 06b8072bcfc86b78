package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/drill"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	drillLook = 200 * time.Millisecond // between looks at what has become of it
	// drillHeard is how long a drill lasts that leads to no rescue, when the agent can't be asked whether it has seen it.
	drillHeard = 2 * time.Second
	// drillTaken is how long the agent may take to take it, and to write its report after the deadline.
	drillTaken = 15 * time.Second
)

// drillFlags are what an operator can ask for.
type drillFlags struct {
	kind      string
	in        time.Duration
	app       string
	executors []string
	dryRun    bool
}

func (c *cli) drillCommand() *cobra.Command {
	f := drillFlags{kind: string(providers.Preemption), in: time.Minute}
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Give the agent on this node a notice that is marked as a drill",
		Long: "A drill goes through everything that a real notice does, in the agent that runs on this node: drivers are told,\n" +
			"map outputs copied and EXECUTORS ENDED, unless --dry-run is given. Reports, metrics and logs say that it is a drill.\n" +
			"A real notice takes precedence: one that comes meanwhile makes the drill a real rescue, with the time that it gives.\n" +
			"An interrupt withdraws the drill; a rescue that has told somebody is finished all the same.\n\n" + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.drill(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "kind", f.kind, "kind of the notice: "+strings.Join(kinds(), ", "))
	flags.DurationVar(&f.in, "in", f.in, "time until the node would be taken")
	flags.StringVar(&f.app, "app", "", "only the executors of this application")
	flags.StringArrayVar(&f.executors, "executor", nil, "only this executor; can be repeated")
	flags.BoolVar(&f.dryRun, "dry-run", false, "look and plan only: tell nobody, copy nothing, end nothing")
	c.listenFlag(cmd)
	return cmd
}

func kinds() []string {
	var list []string
	for _, k := range providers.Kinds() {
		list = append(list, string(k))
	}
	return list
}

func (f drillFlags) check() error {
	if !slices.Contains(kinds(), f.kind) {
		return usage(fmt.Errorf("--kind: %q is not known: give one of %s", f.kind, strings.Join(kinds(), ", ")))
	}
	if f.in <= 0 || f.in > maxDeadline {
		return usage(fmt.Errorf("--in: %s is out of range: give more than 0s and at most %s", f.in, config.Duration(maxDeadline)))
	}
	for _, e := range f.executors {
		if e == "" {
			return usage(errors.New("--executor: the id is empty"))
		}
	}
	return nil
}

func (c *cli) drill(ctx context.Context, f drillFlags) (err error) {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	deadline := time.Now().Add(f.in)
	d, err := drill.Give(cfg.State, drill.Request{
		Kind: providers.Kind(f.kind), Deadline: deadline, App: f.app, Executors: f.executors, DryRun: f.dryRun,
	})
	if errors.Is(err, drill.ErrNoAgent) {
		return fmt.Errorf("%w: start one with lifeboat agent, or name its configuration with --config", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.End()) }()
	w := drillWatch{cli: c, cfg: cfg, id: d.ID, kind: f.kind, given: time.Now(), deadline: deadline, show: newProgress(c.err, c.format)}
	r, err := w.wait(ctx)
	w.show.end()
	if err != nil || r == nil {
		return err
	}
	if !r.Notice.Drill {
		fmt.Fprintf(c.err, "a real notice came: rescue %s is none of a drill\n", r.ID)
	}
	if err := c.write(r, r.Text); err != nil {
		return err
	}
	return outcome(r.ExitCode())
}

// drillWatch follows one drill.
type drillWatch struct {
	*cli
	cfg             config.Config
	id, kind        string
	given, deadline time.Time
	show            *progress
	leads           string // what the agent has made of it, as far as is known
}

// wait returns the report, or nil when the drill leads to none.
func (w *drillWatch) wait(ctx context.Context) (*report.Report, error) {
	tick := time.NewTicker(drillLook)
	defer tick.Stop()
	for {
		r, damaged := report.For(w.cfg.State, w.id)
		if r != nil {
			return r, nil
		}
		over, err := w.look(ctx)
		if over || err != nil {
			return nil, errors.Join(err, damaged)
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("interrupted: the drill is withdrawn; a rescue that has told somebody is finished")
		case <-tick.C:
		}
	}
}

// look says whether the drill has led to all that it leads to.
func (w *drillWatch) look(ctx context.Context) (over bool, err error) {
	s, err := status.Fetch(ctx, w.cfg.Listen)
	if err != nil {
		return w.unheard()
	}
	i := slices.IndexFunc(s.Notices, func(n status.Notice) bool { return n.ID == w.id })
	if i < 0 {
		return false, w.untaken()
	}
	if leads := s.Notices[i].LeadsTo; leads != w.leads {
		w.leads = leads
		fmt.Fprintf(w.show, "the drill leads to: %s\n", leads)
	}
	switch w.leads {
	case agent.NoticeMirrored, agent.NoticeRecorded, agent.NoticeRepeated:
		return true, nil
	}
	if r := s.Rescue; r != nil {
		w.show.update(agent.Progress{
			ID: r.ID, Deadline: r.Deadline,
			Found: report.Amount{Outputs: r.Found, Bytes: r.FoundBytes}, Saved: report.Amount{Outputs: r.Saved, Bytes: r.SavedBytes},
			Lost: report.Amount{Outputs: r.Lost, Bytes: r.LostBytes},
		})
	}
	return false, w.late()
}

// untaken is an error when the agent should have seen the drill.
func (w *drillWatch) untaken() error {
	if time.Since(w.given) > drillTaken {
		return errors.New("the agent does not take the drill: see its log, and lifeboat notices")
	}
	return nil
}

// unheard decides without the agent's own word, which it gives only where it listens.
func (w *drillWatch) unheard() (over bool, err error) {
	if err := drill.Attended(w.cfg.State); err != nil {
		return false, fmt.Errorf("the agent has ended, and the next one goes on: %w", err)
	}
	act := w.cfg.Notices.Act(w.kind)
	if act == config.ActRescue || time.Since(w.given) < drillHeard {
		return false, w.late()
	}
	fmt.Fprintf(w.show, "notices.%s is %s: the drill leads to no rescue; see the agent's log\n", w.kind, act)
	return true, nil
}

// late is an error when the agent should have reported.
func (w *drillWatch) late() error {
	if time.Since(w.deadline) > drillTaken {
		return errors.New("the agent has reported nothing although the deadline has passed: see its log")
	}
	return nil
}
