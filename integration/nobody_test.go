//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestNobodyTold goes through what a person does by hand on a node, one cluster for all. As long as there is no usable
// destination nobody is told, nothing is ended and everything is reported as lost.
func TestNobodyTold(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	c := cluster(t, sparkVersion())
	doomed := node(t, c, lab.NodeOptions{Address: "127.0.0.2", Cores: 3, Conf: decommission})
	// Its only executor is here, so it never has a peer.
	alone := submit(t, c, lab.AppOptions{Name: "alone", Cores: 1, Job: lab.Job{Maps: 4, KiBPerMap: 64}}, 1)
	app := submit(t, c, lab.AppOptions{Name: "app", Job: lab.Job{Maps: 12, KiBPerMap: 64, MsPerMap: 50}}, 2)
	round(t, alone)
	round(t, app)
	by := hand{t: t, node: doomed, apps: map[*lab.App]int{alone: 1, app: 2}}
	by.agent = command(t, c, doomed, "")

	t.Run("usage", func(t *testing.T) {
		for _, args := range [][]string{{"rescue", "--deadline", "-1s"}, {"rescue", "--executor", "0"}, {"rescue", "--nonsense"}} {
			if out, errs, exit := by.agent.Command(ctx, args...); exit != 2 {
				t.Errorf("lifeboat %v: exit code %d, want 2: %s%s", args, exit, out, errs)
			}
		}
	})
	t.Run("executors", func(t *testing.T) {
		for _, v := range inventory(t, by.agent, doomed) {
			if v.Outputs == 0 || v.Tasks != 0 {
				t.Errorf("%d outputs, %d tasks; want some outputs and no task: %+v", v.Outputs, v.Tasks, v)
			}
		}
	})
	t.Run("dry run without peers", func(t *testing.T) { by.lost("rescue", "--dry-run") })
	t.Run("no peer", func(t *testing.T) { by.lost("rescue", "--deadline", "8s") })
	t.Run("one executor", func(t *testing.T) { oneExecutor(t, by.agent, doomed, app) })

	node(t, c, lab.NodeOptions{Address: "127.0.0.3", Cores: 2})
	must(t, app.WaitExecutors(ctx, 4))
	must(t, app.Warm(ctx, 4))
	must(t, app.Fresh(ctx))
	round(t, app)
	by.apps[app] = 4
	t.Run("dialect refused", func(t *testing.T) {
		other := hand{t: t, node: doomed, apps: by.apps, agent: command(t, c, doomed, "spark: {dialect: spark-3.5-scala-2.12}\n")}
		rep := other.lost("rescue", "--deadline", "3s")
		part := application(t, rep, app.ID)
		if took := part.Phases[len(part.Phases)-1]; !strings.Contains(part.Error, "dialect") || took.Seconds > 3 {
			t.Errorf("given up in phase %s after %.1f s: %q; want the dialect named soon", took.Name, took.Seconds, part.Error)
		}
	})
	t.Run("dry run", func(t *testing.T) { by.untouched(3, "rescue", "--dry-run") })
	t.Run("some lost", func(t *testing.T) {
		delete(by.apps, app)
		rep := by.untouched(3, "rescue", "--deadline", "4s")
		if got := application(t, rep, app.ID); got.Outcome != report.All || !told(got) {
			t.Errorf("the application with peers: outcome %s: %+v", got.Outcome, got)
		}
		must(t, doomed.Kill())
		if got := round(t, app); got.MapTasks != 0 || got.Counted != 0 {
			t.Errorf("%d map tasks ran again, want 0", got.MapTasks)
		}
	})
}

// command configures lifeboat for a node without a daemon.
func command(t *testing.T, c *lab.Cluster, n *lab.Node, config string) *lab.Agent {
	t.Helper()
	a, err := c.NewAgent(n, lab.AgentOptions{Binary: binary(t), Config: config})
	must(t, err)
	return a
}

// hand runs rescues by hand that must not touch some applications of a node.
type hand struct {
	t     *testing.T
	agent *lab.Agent
	node  *lab.Node
	apps  map[*lab.App]int // with the number of their executors, here and elsewhere
}

// lost is a rescue in which everything is lost.
func (h hand) lost(args ...string) *report.Report {
	h.t.Helper()
	return h.untouched(4, args...)
}

// untouched runs a rescue that ends with an exit code. The applications must be no worse off than without it.
func (h hand) untouched(code int, args ...string) *report.Report {
	h.t.Helper()
	before := h.state()
	rep := rescue(h.t, h.agent, code, args...)
	for app, executors := range h.apps {
		part := application(h.t, rep, app.ID)
		if told(part) || part.Found.Outputs == 0 || len(part.Destinations) > 0 {
			h.t.Errorf("%s: told %v: %+v", app.ID, told(part), part)
		}
		if part.Outcome != report.None && code == 4 {
			h.t.Errorf("%s: outcome %s", app.ID, part.Outcome)
		}
		must(h.t, app.Warm(deadline(h.t, time.Minute), executors)) // every executor still takes tasks
		if got := round(h.t, app); got.MapTasks != 0 || got.Counted != 0 {
			h.t.Errorf("%d map tasks of %s ran again, want 0", got.MapTasks, app.ID)
		}
	}
	if after := h.state(); !slices.Equal(before, after) {
		h.t.Errorf("something was told or ended: before %q, after %q", before, after)
	}
	return rep
}

// state lists the executors here, and what the drivers said about decommissioning so far.
func (h hand) state() []string {
	var state []string
	for app := range h.apps {
		for _, p := range h.node.Executors() {
			if p.App == app.ID {
				state = append(state, "process "+strconv.Itoa(p.PID))
			}
		}
		state = append(state, decommissionLines(h.t, app)...)
	}
	slices.Sort(state)
	return state
}

// decommissionLines are the lines of the driver's log that speak of it.
func decommissionLines(t *testing.T, app *lab.App) []string {
	t.Helper()
	text, err := os.ReadFile(app.Log())
	must(t, err)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(strings.ToLower(line), "decommission") {
			lines = append(lines, line)
		}
	}
	return lines
}

// rescue runs lifeboat and returns its report.
func rescue(t *testing.T, a *lab.Agent, code int, args ...string) *report.Report {
	t.Helper()
	out, errs, exit := a.Command(deadline(t, 2*time.Minute), append(args, "-o", "json")...)
	var rep report.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil || exit != code {
		t.Fatalf("lifeboat %v: exit code %d, want %d; %v: %s%s", args, exit, code, err, out, errs)
	}
	return &rep
}

// oneExecutor lets one executor leave, with none but another one of the same node to take its outputs.
func oneExecutor(t *testing.T, a *lab.Agent, n *lab.Node, app *lab.App) {
	ctx := deadline(t, 2*time.Minute)
	var mine []lab.Process
	for _, p := range n.Executors() {
		if p.App == app.ID {
			mine = append(mine, p)
		}
	}
	leaves, stays := mine[0], mine[1]
	out, errs, exit := a.Command(ctx, "rescue", "--app", app.ID, "--executor", leaves.ID, "--deadline", "30s")
	if exit != 0 || !strings.Contains(out, "all saved") || !strings.Contains(out, "executors on this host") {
		t.Errorf("exit code %d, want 0 and a note on executors of this host: %s%s", exit, out, errs)
	}
	must(t, lab.Until(ctx, "the executor has left", func(context.Context) (bool, error) { return !alive(leaves.PID), nil }))
	if !alive(stays.PID) {
		t.Errorf("executor %s has left too", stays.ID)
	}
	for _, line := range decommissionLines(t, app) {
		if strings.Contains(strings.ToLower(line), "executor "+stays.ID+" ") {
			t.Errorf("the driver was told of executor %s: %s", stays.ID, line)
		}
	}
	must(t, app.WaitExecutors(ctx, 2)) // the master starts another one
	if got := round(t, app); got.MapTasks != 0 || got.Counted != 0 {
		t.Errorf("%d map tasks ran again, want 0", got.MapTasks)
	}
}
