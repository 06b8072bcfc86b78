package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// shownExamples and shownSkipped are how many lines of a kind a person sees; JSON has more.
const (
	shownExamples = 3
	shownSkipped  = 10
)

// Text writes the report for a person's eyes.
func (r *Report) Text(w io.Writer) error {
	var b bytes.Buffer
	r.head(&b)
	for i := range r.Applications {
		r.Applications[i].text(&b, r.DryRun)
	}
	r.tail(&b)
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Report) head(b *bytes.Buffer) {
	found, saved, lost := r.Total()
	headline := r.Outcome.headline()
	if r.DryRun {
		headline = "dry run, nothing was done; it would be: " + headline
	}
	what := "Rescue"
	if r.Notice.Drill {
		what = "Drill"
	}
	fmt.Fprintf(b, "%s %s on %s: %s\n\n", what, r.ID, r.Node, headline)
	t := table(b)
	row(t, "  notice", fmt.Sprintf("%s (%s) %s", r.Notice.Source, r.Notice.Kind, r.Notice.ID))
	for _, n := range r.Merged {
		row(t, "  also", fmt.Sprintf("%s (%s) %s", n.Source, n.Kind, n.ID))
	}
	row(t, "  began", r.Began.UTC().Format(time.DateTime)+" UTC, took "+Seconds(r.Ended.Sub(r.Began).Seconds()))
	switch {
	case r.Deadline.IsZero():
	case r.SecondsLeft < 0:
		row(t, "  deadline", "missed by "+Seconds(-r.SecondsLeft))
	default:
		row(t, "  deadline", Seconds(r.SecondsLeft)+" left at the end")
	}
	row(t, "  found", found.String())
	row(t, "  saved", saved.String())
	if stored := r.TotalStored(); stored.Outputs > 0 {
		row(t, "  stored", stored.String()+", waiting for an executor")
	}
	row(t, "  lost", lost.String())
	if len(r.Phases) > 0 {
		row(t, "  phases", phases(r.Phases))
	}
	if r.Runs > 1 {
		row(t, "  agent", fmt.Sprintf("taken up again in the middle, %d runs", r.Runs))
	}
	if r.Withdrawn {
		row(t, "  notice", "withdrawn before anybody was told: nothing was done")
	}
	for _, a := range r.Acknowledged {
		text := "told that the node may go"
		if a.Error != "" {
			text = "not told that the node may go: " + a.Error
		}
		row(t, "  "+a.Source, text)
	}
	if r.Interrupted {
		row(t, "  agent", "stopped before the end; the next run goes on")
	}
	_ = t.Flush()
}

func (a *Application) text(b *bytes.Buffer, dry bool) {
	name := a.ID
	if a.Name != "" {
		name = fmt.Sprintf("%s %q", a.ID, a.Name)
	}
	fmt.Fprintf(b, "\nApplication %s: %s\n", name, a.Outcome.headline())
	t := table(b)
	row(t, "  driver", strings.TrimSpace(a.Driver+spark(a.Spark)))
	if a.Error != "" {
		row(t, "  error", a.Error)
	}
	row(t, "  saved", fmt.Sprintf("%s of %s", a.Saved, a.Found))
	if a.Stored.Outputs > 0 {
		row(t, "  stored", a.Stored.String()+", waiting for an executor")
	}
	if a.Retries > 0 {
		row(t, "  retries", fmt.Sprint(a.Retries))
	}
	if a.Recompute.Known {
		row(t, "  recompute", fmt.Sprintf("%s of task time avoided, %s to come",
			Seconds(a.Recompute.Avoided), Seconds(a.Recompute.Incurred)))
	}
	for _, n := range a.Notes {
		row(t, "  note", n)
	}
	_ = t.Flush()
	a.tables(b, dry)
}

func (a *Application) tables(b *bytes.Buffer, dry bool) {
	if len(a.Executors) > 0 {
		t := table(b)
		row(t, "\n  EXECUTOR", "HOST", "DRIVER TOLD", "ENDED", "RDD BLOCKS LOST")
		for _, e := range a.Executors {
			row(t, "  "+e.ID, e.Host, e.told(), e.ended(), e.blocks())
		}
		_ = t.Flush()
	}
	if len(a.Destinations) > 0 {
		t := table(b)
		head := "SAVED TO"
		if dry {
			head = "WOULD GO TO"
		}
		row(t, "\n  "+head, "OUTPUTS", "SIZE")
		for _, d := range a.Destinations {
			waits := ""
			if d.Waiting {
				waits = "waiting for an executor"
			}
			row(t, "  "+d.Target, fmt.Sprint(d.Outputs), Bytes(d.Bytes), waits)
		}
		_ = t.Flush()
	}
	if len(a.Losses) > 0 {
		t := table(b)
		row(t, "\n  LOST BECAUSE", "OUTPUTS", "SIZE", "AS")
		for _, l := range a.Losses {
			row(t, "  "+l.Reason, fmt.Sprint(l.Outputs), Bytes(l.Bytes), l.examples(a.ID))
		}
		_ = t.Flush()
	}
}

func (r *Report) tail(b *bytes.Buffer) {
	if len(r.Skipped) > 0 {
		b.WriteByte('\n')
		t := table(b)
		row(t, "SKIPPED FILE", "BECAUSE")
		for i, s := range r.Skipped {
			if i == shownSkipped {
				row(t, fmt.Sprintf("… and %d more", len(r.Skipped)-i), "")
				break
			}
			row(t, s.Path, s.Reason)
		}
		_ = t.Flush()
	}
	list(b, "Not said to Kubernetes yet", r.Unsaid)
	list(b, "Problems", r.Problems)
	list(b, "What to do next", r.advice())
}

func list(b *bytes.Buffer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "  - %s\n", Plain(l))
	}
}

// ListText writes one line for each report.
func ListText(w io.Writer, reports []*Report) error {
	if len(reports) == 0 {
		_, err := fmt.Fprintln(w, "No rescue has been reported on this node.")
		return err
	}
	t := table(w)
	row(t, "RESCUE", "BEGAN (UTC)", "NOTICE", "RESULT", "SAVED", "LOST", "TOOK", "LEFT")
	for _, r := range reports {
		_, saved, lost := r.Total()
		result := r.Outcome.headline()
		if r.DryRun {
			result = "dry run: " + result
		}
		if r.Notice.Drill {
			result = "drill: " + result
		}
		row(t, r.ID, r.Began.UTC().Format(time.DateTime), r.Notice.Source, result,
			saved.String(), lost.String(), Seconds(r.Ended.Sub(r.Began).Seconds()), Seconds(r.SecondsLeft))
	}
	return t.Flush()
}

// headline says what an outcome means.
func (o Outcome) headline() string {
	switch o {
	case All:
		return "all saved"
	case Stored:
		return "stored, waiting for an executor"
	case Some:
		return "some lost"
	case None:
		return "nothing saved"
	case Nothing:
		return "nothing to save"
	}
	return ""
}

func (e Executor) told() string {
	switch {
	case e.Told && e.Trigger != "":
		return "by " + e.Trigger
	case e.Told:
		return "yes"
	}
	return "no"
}

func (e Executor) ended() string {
	if !e.Ended {
		return "no"
	}
	s := "after " + Seconds(e.EndedAfterSeconds)
	if e.EndedBy != "" {
		s += " (" + e.EndedBy + ")"
	}
	return s
}

func (e Executor) blocks() string {
	if e.RDDBlocksLost < 0 {
		return "not known"
	}
	return fmt.Sprint(e.RDDBlocksLost)
}

// examples names a few, without the application that stands above them.
func (l Loss) examples(app string) string {
	shown := make([]string, 0, shownExamples+1)
	for i, e := range l.Examples {
		if i == shownExamples {
			shown = append(shown, "…")
			break
		}
		shown = append(shown, strings.TrimPrefix(e, app+"/"))
	}
	return strings.Join(shown, " ")
}

func spark(version string) string {
	if version == "" {
		return ""
	}
	return "  Spark " + version
}

func phases(list []Phase) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = p.Name + " " + Seconds(p.Seconds)
	}
	return strings.Join(parts, ", ")
}

// String is the amount for a person's eyes.
func (a Amount) String() string {
	if a.Outputs == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", a.Outputs, Bytes(a.Bytes))
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// row writes one line; trailing empty cells leave no blanks behind.
func row(t io.Writer, cells ...string) {
	for i := range cells {
		lead := cells[i][:len(cells[i])-len(strings.TrimLeft(cells[i], "\n"))]
		cells[i] = lead + Plain(cells[i][len(lead):])
	}
	_, _ = fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

// Plain keeps what came from other processes (host names, errors, paths) from moving the cursor of a
// terminal or breaking a table.
func Plain(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t' || c == '\r':
			return ' '
		case c < ' ' || c >= 0x7f && c < 0xa0:
			return '?'
		}
		return c
	}, s)
}
