//go:build integration

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// scene is one rescue of node-a in the running cluster.
type scene struct {
	t      *testing.T
	ctx    context.Context
	known  []*report.Report
	about  []*Job
	report string // id of the rescue, once it is over
}

// newScene installs the agent, and gives node-a back when the test ends.
func newScene(t *testing.T, o AgentOptions) *scene {
	t.Helper()
	s := &scene{t: t, ctx: t.Context()}
	must(t, shared.InstallAgent(s.ctx, o))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shared.AgentLog("node-a", 60))
		}
		shared.Metadata("node-a").Withdraw()
		if n := shared.Node("node-a"); !n.On() {
			must(t, n.PowerOn(context.Background()))
		}
		giveBack(t, "node-a")
	})
	must(t, lab.Until(s.ctx, "nothing is left of earlier applications", func(context.Context) (bool, error) {
		seen := s.status()
		return seen != nil && len(seen.Executors) == 0 && seen.Rescue == nil, nil
	}))
	s.learn()
	return s
}

// status is what the agent of node-a shows; nil while it does not answer.
func (s *scene) status() *status.Status {
	var seen status.Status
	if err := shared.Status(s.ctx, "node-a", "/status", &seen); err != nil {
		return nil
	}
	return &seen
}

// learn takes the reports that there are for known.
func (s *scene) learn() {
	s.t.Helper()
	known, err := shared.Reports("node-a")
	must(s.t, err)
	s.known = known
}

// job starts an application whose driver is on node-b, and runs its first round.
func (s *scene) job(o JobOptions) *Job {
	s.t.Helper()
	return s.jobs(o)[0]
}

// jobs starts several, side by side.
func (s *scene) jobs(options ...JobOptions) []*Job {
	s.t.Helper()
	begin := time.Now()
	all, errs := make([]*Job, len(options)), make([]error, len(options))
	for _, o := range options {
		must(s.t, shared.MakeNamespace(s.ctx, cmp.Or(o.Namespace, "spark")))
	}
	var starts sync.WaitGroup
	for i, o := range options {
		o.Node = "node-b"
		starts.Go(func() { all[i], errs[i] = shared.Job(s.ctx, o) })
	}
	starts.Wait()
	s.t.Cleanup(func() {
		for _, j := range all {
			if j != nil {
				_ = j.Stop(context.Background())
			}
		}
	})
	must(s.t, errors.Join(errs...))
	s.about = all
	s.t.Logf("%d jobs are there after %v", len(all), time.Since(begin).Round(time.Second))
	for _, j := range all {
		first, err := j.Round(s.ctx)
		must(s.t, err)
		s.t.Logf("%s: first round: %v", j.Name, first)
		if first.MapTasks != j.options.Maps {
			s.t.Errorf("%s: %d map tasks ran in the first round, want %d", j.Name, first.MapTasks, j.options.Maps)
		}
	}
	for _, j := range all {
		s.awaitSeen(j)
	}
	return all
}

// awaitSeen waits until the agent of node-a sees all executors of the application that are there.
func (s *scene) awaitSeen(j *Job) {
	s.t.Helper()
	pods := s.on(j, "node-a")
	if len(pods) == 0 {
		s.t.Fatalf("%s has no executor on node-a", j.Name)
	}
	must(s.t, lab.Until(s.ctx, "the agent sees the executors of "+j.Name, func(context.Context) (bool, error) {
		seen := s.status()
		if seen == nil {
			return false, nil
		}
		own := slices.DeleteFunc(seen.Executors, func(e status.Executor) bool { return e.App != j.App })
		return len(own) == len(pods), nil
	}))
}

// on are the application's executors on a node.
func (s *scene) on(j *Job, node string) []Pod {
	s.t.Helper()
	pods, err := j.Executors(s.ctx)
	must(s.t, err)
	return slices.DeleteFunc(pods, func(p Pod) bool { return p.Node != node })
}

// rescued waits for the report of a rescue that saved everything.
func (s *scene) rescued() *report.Report {
	s.t.Helper()
	rep := rescued(s.t, "node-a", s.about, s.known...)
	found, saved, lost := rep.Total()
	s.report = rep.ID
	s.t.Logf("rescue %s: found %v, saved %v, lost %v in %v; %d runs; unsaid %q, problems %q", rep.Outcome, found, saved, lost,
		rep.Ended.Sub(rep.Began).Round(time.Millisecond), max(rep.Runs, 1), rep.Unsaid, rep.Problems)
	return rep
}

// events are the reasons of the Events of the rescue about an object: those of others may be about the node, too.
func (s *scene) events(namespace, name string) []string {
	s.t.Helper()
	out, err := shared.Kubectl(s.ctx, "-n", namespace, "get", "events", "--field-selector", "involvedObject.name="+name,
		"-o", `jsonpath={range .items[?(@.reportingComponent=="lifeboat")]}{.reason} {.message}{"\n"}{end}`)
	must(s.t, err)
	var reasons []string
	for line := range strings.Lines(out) {
		if reason, message, _ := strings.Cut(line, " "); strings.Contains(message, s.report) {
			reasons = append(reasons, reason)
		}
	}
	slices.Sort(reasons)
	return reasons
}

// told waits until the story of a rescue without losses is told of an object.
func (s *scene) told(namespace, name string) {
	s.t.Helper()
	want := []string{"SparkRescueBegan", "SparkRescueEnded", "SparkRescueSaved"}
	var got []string
	err := lab.Until(s.ctx, "the story of "+name+" is told", func(context.Context) (bool, error) {
		got = slices.Compact(s.events(namespace, name))
		return slices.Equal(got, want), nil
	})
	if err != nil {
		s.t.Errorf("%v; told: %q", err, got)
	}
}

// awaitSaved looks at what the journal of a new rescue on node-a says, so that something can be done in its middle.
func (s *scene) awaitSaved(n int) {
	s.t.Helper()
	state, err := shared.Node("node-a").File(agentState)
	must(s.t, err)
	must(s.t, lab.Until(s.ctx, fmt.Sprintf("%d outputs are saved", n), func(context.Context) (bool, error) {
		journals, _ := filepath.Glob(filepath.Join(state, "rescues", "*", "journal.jsonl"))
		for _, path := range journals {
			if slices.ContainsFunc(s.known, func(r *report.Report) bool { return strings.Contains(path, r.ID) }) {
				continue
			}
			text, _ := os.ReadFile(path)
			saved := strings.Count(string(text), `"type":"saved"`) // none by a rescue of what an earlier job has left
			if saved > 0 && strings.Contains(string(text), `"type":"done"`) {
				return false, fmt.Errorf("the rescue is over already:\n%s", text)
			}
			if saved >= n {
				return true, nil
			}
		}
		return false, nil
	}))
}

// killAgent ends the agent's process on node-a at once, and the kubelet starts another one.
func (s *scene) killAgent() {
	s.t.Helper()
	const script = `for p in /proc/[0-9]*; do [ "$(tr '\0' ' ' <$p/cmdline 2>/dev/null | cut -c1-23)" = "/usr/bin/lifeboat agent" ] && kill -9 ${p#/proc/} && echo killed; done; true`
	out, err := shared.Node("node-a").Run(s.ctx, "bash", "-c", script)
	must(s.t, err)
	if !strings.Contains(out, "killed") {
		s.t.Fatalf("there is no agent to kill: %q", out)
	}
}
