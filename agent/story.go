package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

// tells says whether the phases of this rescue are told: where there is Kubernetes, and for what goes from here.
func (r *rescue) tells() bool { return r.kube != nil && !r.dryRun && r.salvage == nil }

// why is what takes the node, for people.
func (r *rescue) why() string {
	n := r.main()
	text := fmt.Sprintf("%s (%s)", n.Kind, n.Source)
	if n.Drill {
		text += ", a drill"
	}
	return text
}

// sayNode tells that the rescue begins, of the node that it is for.
func (r *rescue) sayNode(found executor.Found) {
	executors := 0
	for _, e := range found.Executors {
		if r.concerns(e) {
			executors++
		}
	}
	if !r.tells() || executors == 0 {
		return
	}
	what := "executors leave"
	if r.wholeNode() {
		what = "this node goes"
	}
	r.kube.Tell(r.journal.ID(), kubernetes.Began, fmt.Sprintf("Rescue %s: %s at %s, in %s: %s. Executors here: %d.",
		r.journal.ID(), what, clock(r.taken()), report.Seconds(r.untilTaken().Seconds()), r.why(), executors), r.kube.NodeObject())
}

// sayBegan tells the application's pods that it is about to be rescued: what was found, and where it can go.
func (a *application) sayBegan() {
	if !a.tells() {
		return
	}
	a.mu.Lock()
	peers := len(a.willing)
	a.mu.Unlock()
	where := fmt.Sprintf("executors elsewhere that can take them: %d", peers)
	if peers == 0 {
		where = "they go to object storage"
	}
	until := fmt.Sprintf("The end is at %s, in %s: %s", clock(a.taken()), report.Seconds(a.untilTaken().Seconds()), a.why())
	var driver kubernetes.Object
	for _, m := range a.snapshot() {
		pod, known := a.pod(m)
		if !known {
			continue
		}
		driver = kubernetes.DriverObject(pod)
		a.kube.Tell(a.journal.ID(), kubernetes.Began, fmt.Sprintf("Rescue %s: this executor leaves. Map outputs found: %s; %s. %s.",
			a.journal.ID(), a.outputsOf(m), where, until), kubernetes.PodObject(pod))
	}
	a.kube.NoteRescue(a.journal.ID(), driver)
	what := fmt.Sprintf("executors that leave node %s: %d", a.kube.Name(), len(a.snapshot()))
	if a.wholeNode() {
		what = fmt.Sprintf("node %s goes, with executors of this application: %d", a.kube.Name(), len(a.snapshot()))
	}
	a.kube.Tell(a.journal.ID(), kubernetes.Began, fmt.Sprintf("Rescue %s: %s. Map outputs found: %s; %s. %s.", a.journal.ID(), what, amount(a.engine.Progress().Found), where, until), driver)
}

// saySaved tells what of an executor's outputs is safe elsewhere, just before it is ended, and what is not.
func (a *application) saySaved(m *member) {
	pod, known := a.pod(m)
	if !known || !a.tells() {
		return
	}
	found, saved := a.outputsOf(m), a.outputsOf(m, migrate.Saved)
	if saved.Outputs > 0 || found.Outputs == 0 {
		a.kube.Tell(a.journal.ID(), kubernetes.Saved, fmt.Sprintf("Rescue %s: map outputs saved: %s of %s, %s after the notice. Destinations of its application's: %d.",
			a.journal.ID(), saved, found, report.Seconds(time.Since(a.notice.Seen).Seconds()), a.places()), kubernetes.PodObject(pod))
	}
	if saved.Outputs < found.Outputs {
		a.kube.Tell(a.journal.ID(), kubernetes.Lost, fmt.Sprintf("Rescue %s: map outputs not saved: %d of %s; Spark computes them again.",
			a.journal.ID(), found.Outputs-saved.Outputs, found), kubernetes.PodObject(pod))
	}
}

// sayEnded tells how an executor has left.
func (a *application) sayEnded(m *member, how string) {
	if pod, known := a.pod(m); known && a.tells() {
		a.kube.Tell(a.journal.ID(), kubernetes.Ended, fmt.Sprintf("Rescue %s: this executor has left (%s), %s before the node goes.",
			a.journal.ID(), how, report.Seconds(a.untilTaken().Seconds())), kubernetes.PodObject(pod))
	}
}

// outputsOf counts what an executor has left here: all of it, or what has come to one of some ends.
func (a *application) outputsOf(m *member, states ...migrate.State) report.Amount {
	var sum report.Amount
	for _, r := range a.engine.Results() {
		if r.Output.Executor == m.ID && (len(states) == 0 || slices.Contains(states, r.State)) {
			sum.Add(r.Output.Bytes())
		}
	}
	return sum
}

// places is to how many destinations outputs have gone.
func (a *application) places() int {
	at := map[migrate.Target]bool{}
	for _, r := range a.engine.Results() {
		if r.State == migrate.Saved {
			at[r.Location.Target] = true
		}
	}
	return len(at)
}

func amount(c migrate.Count) report.Amount { return report.Amount{Outputs: c.Outputs, Bytes: c.Bytes} }

// clock is a time as people on call compare it with others.
func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

// sayOver tells how the rescue went: of the node, and of each application's driver.
func (r *rescue) sayOver(rep *report.Report) {
	if !r.tells() || rep.Interrupted || len(rep.Applications) == 0 && !rep.Withdrawn {
		return
	}
	node := r.kube.NodeObject()
	r.kube.NoteRescue(rep.ID, node)
	if rep.Withdrawn {
		r.kube.Tell(rep.ID, kubernetes.Ended, fmt.Sprintf("Rescue %s: the notice was withdrawn before anybody was told; nothing was done.", rep.ID), node)
		return
	}
	found, saved, lost := rep.Total()
	took := report.Seconds(rep.Ended.Sub(rep.Began).Seconds())
	r.sayTotal(node, rep.ID, took, rep.SecondsLeft, found, saved, lost, "")
	for i := range rep.Applications {
		of := &rep.Applications[i]
		a := r.lookup(of.ID)
		if a == nil {
			continue
		}
		why := of.Error
		if why == "" && len(of.Losses) > 0 {
			why = of.Losses[0].Reason
		}
		for _, m := range a.snapshot() {
			if pod, known := a.pod(m); known {
				driver := kubernetes.DriverObject(pod)
				r.kube.NoteRescue(rep.ID, driver) // also when it could not begin
				r.sayTotal(driver, rep.ID, took, rep.SecondsLeft, of.Found, of.Saved, of.Lost, why)
				break
			}
		}
	}
}

// sayTotal tells what was saved, and, in an Event of its own, what was lost.
func (r *rescue) sayTotal(on kubernetes.Object, id, took string, left float64, found, saved, lost report.Amount, why string) {
	end := report.Seconds(left) + " before the deadline"
	if left < 0 {
		end = report.Seconds(-left) + " after the deadline"
	}
	if saved.Outputs > 0 {
		r.kube.Tell(id, kubernetes.Saved, fmt.Sprintf("Rescue %s: map outputs saved: %s of %s.", id, saved, found), on)
	}
	if lost.Outputs > 0 {
		text := fmt.Sprintf("Rescue %s: map outputs lost: %s of %s; Spark computes them again.", id, lost, found)
		if why != "" {
			text += " Because: " + strings.TrimSuffix(why, ".") + "."
		}
		r.kube.Tell(id, kubernetes.Lost, text, on)
	}
	r.kube.Tell(id, kubernetes.Ended, fmt.Sprintf("Rescue %s on node %s is over after %s, %s. Saved: %s, lost: %s. Details: lifeboat report %s",
		id, r.kube.Name(), took, end, saved, lost, id), on)
}

// noteUnsaid brings a report up to date with what the API server has not taken by now, and what was given up.
func (a *Agent) noteUnsaid(id string) {
	waiting, failed := a.kube.Unsaid(id)
	rep, err := report.Load(a.cfg.State, id)
	if err != nil {
		return // it was pruned, or the rescue goes on with the next run
	}
	rep.Unsaid = waiting
	for _, text := range failed {
		if !slices.Contains(rep.Problems, text) {
			rep.Problems = append(rep.Problems, text)
		}
	}
	if err := report.Write(a.cfg.State, rep); err != nil {
		a.log.Error("report without what was not said to Kubernetes", zap.String("rescue", id), zap.Error(err))
	}
}

// followStory waits until nothing is left to be said of a rescue. Its report learns what had to wait, and what was given up.
func (a *Agent) followStory(ctx context.Context, rep *report.Report) {
	for a.kube != nil && pause(ctx, retryPause) == nil {
		waiting, failed := a.kube.Unsaid(rep.ID)
		if len(waiting) > 0 {
			continue
		}
		if len(rep.Unsaid)+len(failed) > 0 {
			a.noteUnsaid(rep.ID)
		}
		return
	}
}

// runKubernetes is the Client's background, and what reports have to say of its end.
func (a *Agent) runKubernetes(ctx context.Context) {
	a.kube.Run(ctx)
	for _, id := range a.kube.Behind() {
		a.noteUnsaid(id)
	}
}
