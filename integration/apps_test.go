//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// decommission lets workers and executors handle SIGPWR.
var decommission = map[string]string{"spark.decommission.enabled": "true"}

// TestDriverDoesNotAnswer has two applications on the node. The driver of one is stopped: that must not hold
// up the other. The stopped one goes on later with its right result.
func TestDriverDoesNotAnswer(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	c := cluster(t, sparkVersion())
	doomed := node(t, c, lab.NodeOptions{Address: "127.0.0.2", Cores: 2, Conf: decommission})
	node(t, c, lab.NodeOptions{Address: "127.0.0.3", Cores: 2})
	// The first one has the first port of those where drivers' REST servers are looked for.
	deaf := submit(t, c, lab.AppOptions{Name: "deaf", Cores: 2, Job: lab.Job{Maps: 12, Reduces: 3, KiBPerMap: 64, MsPerMap: 50}}, 2)
	other := submit(t, c, lab.AppOptions{Name: "other", Cores: 2, Job: lab.Job{Maps: 12, Reduces: 3, KiBPerMap: 64, MsPerMap: 50}}, 2)
	a, err := c.StartAgent(ctx, doomed, lab.AgentOptions{Binary: binary(t)})
	must(t, err)
	round(t, deaf)
	round(t, other)
	before := slices.DeleteFunc(doomed.Executors(), func(p lab.Process) bool { return p.App != other.ID })
	if len(before) == 0 || len(before) == len(doomed.Executors()) {
		t.Fatalf("both applications need executors on the node: %v", doomed.Executors())
	}
	freeze(t, deaf)
	inventory(t, a, doomed)

	a.Announce(12 * time.Second)
	noticed := time.Now()
	must(t, lab.Until(ctx, "the executors of the other application have ended", func(context.Context) (bool, error) {
		return !slices.ContainsFunc(before, func(p lab.Process) bool { return alive(p.PID) }), nil
	}))
	took := time.Since(noticed)
	if took > 8*time.Second {
		t.Errorf("the other application's executors left after %v: it was held up", took)
	}
	rep := rescued(t, a)
	must(t, doomed.Kill())
	if got := round(t, other); got.MapTasks != 0 || got.Counted != 0 {
		t.Errorf("%d map tasks of the other application ran again, want 0", got.MapTasks)
	}
	if part := application(t, rep, other.ID); part.Outcome != report.All {
		t.Errorf("the other application's outcome is %s: %+v", part.Outcome, part)
	}
	part := application(t, rep, deaf.ID)
	if part.Outcome != report.None || part.Error == "" || told(part) {
		t.Errorf("the stopped driver's outcome is %s, told %v, error %q; want none", part.Outcome, told(part), part.Error)
	}
	thaw(t, deaf)
	again := round(t, deaf)
	if again.MapTasks > 12 {
		t.Errorf("%d of 12 maps of the stopped application ran again", again.MapTasks)
	}
	t.Logf("the other application's %d executors left %v after the notice; %d maps of the stopped one ran again (%s)",
		len(before), took, again.MapTasks, part.Error)
}

// submit starts an application and waits until its executors are there and warm.
func submit(t *testing.T, c *lab.Cluster, o lab.AppOptions, executors int) *lab.App {
	t.Helper()
	ctx := deadline(t, 2*time.Minute)
	app, err := c.Submit(ctx, o)
	must(t, err)
	must(t, app.WaitExecutors(ctx, executors))
	must(t, app.Warm(ctx, executors))
	return app
}

// freeze stops a driver: it keeps its connections and answers nothing.
func freeze(t *testing.T, app *lab.App) { signalAll(t, app, syscall.SIGSTOP) }

func thaw(t *testing.T, app *lab.App) { signalAll(t, app, syscall.SIGCONT) }

func signalAll(t *testing.T, app *lab.App, sig syscall.Signal) {
	t.Helper()
	for _, pid := range app.Pids() {
		must(t, syscall.Kill(pid, sig))
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// application is one application's part of a report.
func application(t *testing.T, rep *report.Report, id string) report.Application {
	t.Helper()
	i := slices.IndexFunc(rep.Applications, func(a report.Application) bool { return a.ID == id })
	if i < 0 {
		t.Fatalf("%s is not in the report: %+v", id, rep)
	}
	return rep.Applications[i]
}

// executor is one executor's part of a report.
func executor(t *testing.T, a report.Application, id string) report.Executor {
	t.Helper()
	i := slices.IndexFunc(a.Executors, func(e report.Executor) bool { return e.ID == id })
	if i < 0 {
		t.Fatalf("executor %s is not in the report: %+v", id, a)
	}
	return a.Executors[i]
}

// told says that the driver heard of any executor's end.
func told(a report.Application) bool {
	return slices.ContainsFunc(a.Executors, func(e report.Executor) bool { return e.Told || e.Ended })
}

// inventory runs `lifeboat executors` and compares it with what lies in the node's folders. It needs no driver.
func inventory(t *testing.T, a *lab.Agent, n *lab.Node) []agent.ExecutorView {
	t.Helper()
	out, errs, exit := a.Command(deadline(t, time.Minute), "executors", "-o", "json")
	var list []agent.ExecutorView
	if err := json.Unmarshal([]byte(out), &list); err != nil || exit != 0 {
		t.Fatalf("lifeboat executors: exit code %d, %v: %s%s", exit, err, out, errs)
	}
	files := outputFiles(t, n)
	for _, p := range n.Executors() {
		i := slices.IndexFunc(list, func(v agent.ExecutorView) bool { return v.PID == p.PID && v.App == p.App && v.Executor == p.ID })
		if i < 0 {
			t.Errorf("executor %s of %s is not listed", p.ID, p.App)
			continue
		}
		v := list[i]
		var outputs int
		var bytes int64
		for _, folder := range v.Folders {
			outputs += files[folder].outputs
			bytes += files[folder].bytes
			delete(files, folder)
		}
		if v.Outputs != outputs || v.Bytes != bytes || len(v.Problems) > 0 {
			t.Errorf("executor %s of %s: %d outputs, %d bytes listed; %d, %d in its folders; problems %q",
				p.ID, p.App, v.Outputs, v.Bytes, outputs, bytes, v.Problems)
		}
	}
	if len(list) != len(n.Executors()) || len(files) > 0 {
		t.Errorf("%d executors are listed, %d run; folders of nobody: %v", len(list), len(n.Executors()), files)
	}
	return list
}
