package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
)

// story writes one act, a line per step with the seconds since the act began.
type story struct {
	w     io.Writer
	began time.Time
}

func newStory(w io.Writer, title string) *story {
	fmt.Fprintf(w, "\n%s\n", title)
	return &story{w: w, began: time.Now()}
}

// tell says what has just happened, or begins.
func (s *story) tell(format string, args ...any) { s.at(time.Now(), format, args...) }

func (s *story) at(when time.Time, format string, args ...any) {
	fmt.Fprintf(s.w, "%7.1f s  %s\n", when.Sub(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// rescue tells what the agent did, step by step, from its report.
func (s *story) rescue(r *report.Report, shown time.Time) {
	phases := map[string]time.Duration{}
	for _, p := range r.Phases {
		phases[p.Name] = time.Duration(p.Seconds * float64(time.Second))
	}
	found, saved, lost := r.Total()
	when := r.Notice.Seen
	s.at(when, "  Lifeboat sees it, %.1f s after it appeared", when.Sub(shown).Seconds())
	when = r.Began.Add(max(phases["pin"], phases["reach"]))
	s.at(when, "  it holds all %d map outputs open, has found the driver, and has %s ready to take them", found.Outputs, destinations(r))
	when = when.Add(phases["tell"])
	s.at(when, "  the driver knows: no new tasks for the executors that leave")
	when = when.Add(phases["copy"])
	s.at(when, "  %d map outputs (%s) are copied and acknowledged, %d are lost", saved.Outputs, report.Bytes(saved.Bytes), lost.Outputs)
	s.at(r.Ended, "  the executors have been ended, the driver has seen them leave; %.0f s are left", r.SecondsLeft)
}

// destinations are the executors that took something.
func destinations(r *report.Report) string {
	n := 0
	for _, a := range r.Applications {
		n += len(a.Destinations)
	}
	if n == 1 {
		return "1 other executor"
	}
	return strconv.Itoa(n) + " other executors"
}

func introduce(w io.Writer, o options) {
	fmt.Fprintf(w, `A Spark job writes shuffle data in %d map tasks, %d KiB and %.1f s each, on three "nodes" of this machine.
Then the cloud takes one node away, with the map outputs on it, and the job needs all of them again.
The numbers on the left are seconds.
`, o.job.Maps, o.job.KiBPerMap, float64(o.job.MsPerMap)/1000)
}

// compare prints both acts side by side, and says whether the agent kept its promise.
func compare(w io.Writer, without, with *outcome) error {
	_, saved, _ := with.report.Total()
	fmt.Fprintln(w)
	for _, row := range [][3]string{
		{"", "without", "with Lifeboat"},
		{"map tasks run again", strconv.Itoa(without.after.MapTasks), strconv.Itoa(with.after.MapTasks)},
		{"the round after the loss", seconds(without.after.Took), seconds(with.after.Took)},
		{"result", rightOrWrong(without.after.Exact), rightOrWrong(with.after.Exact)},
		{"rescue, from notice to end", "-", seconds(with.rescue)},
		{"moved", "-", fmt.Sprintf("%d outputs, %s", saved.Outputs, report.Bytes(saved.Bytes))},
	} {
		fmt.Fprintf(w, "%-28s%10s%24s\n", row[0], row[1], row[2])
	}
	fmt.Fprintln(w)
	var broken []string
	if with.after.MapTasks > 0 {
		broken = append(broken, fmt.Sprintf("%d map tasks ran again in spite of Lifeboat", with.after.MapTasks))
	}
	if !with.after.Exact {
		broken = append(broken, "the result is wrong")
	}
	if without.after.MapTasks == 0 {
		broken = append(broken, "nothing was lost without Lifeboat, so this shows nothing")
	}
	if len(broken) > 0 {
		return errors.New(strings.Join(broken, "; "))
	}
	fmt.Fprintln(w, "With Lifeboat no map task ran twice.")
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func rightOrWrong(exact bool) string {
	if exact {
		return "right"
	}
	return "WRONG"
}
