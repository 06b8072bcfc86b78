//go:build integration

package integration

import (
	"cmp"
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// sparkVersion is for scenarios that one version of Spark is enough for; LIFEBOAT_SPARK names another.
func sparkVersion() string { return cmp.Or(os.Getenv("LIFEBOAT_SPARK"), "4.3.0") }

// deadline is the test's context, bounded.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// cluster starts a cluster that ends with the test; the files of a failed test are kept.
func cluster(t *testing.T, version string) *lab.Cluster {
	t.Helper()
	return clusterWith(t, lab.Options{Spark: version})
}

// clusterWith is cluster with more options.
func clusterWith(t *testing.T, o lab.Options) *lab.Cluster {
	t.Helper()
	o.Log = t.Output()
	c, err := lab.Start(deadline(t, 10*time.Minute), o)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("LIFEBOAT_KEEP") != "" {
			c.KeepFiles()
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func node(t *testing.T, c *lab.Cluster, o lab.NodeOptions) *lab.Node {
	t.Helper()
	n, err := c.AddNode(deadline(t, time.Minute), o)
	must(t, err)
	return n
}

// round runs one round and fails the test when its result is wrong.
func round(t *testing.T, app *lab.App) lab.Round {
	t.Helper()
	r, err := app.Round(deadline(t, 3*time.Minute))
	must(t, err)
	if !r.Exact {
		t.Errorf("the job's result is wrong: %v", r.Result)
	}
	return r
}

// tasksOf are the map tasks of an application that ended well on some executors.
func tasksOf(t *testing.T, app *lab.App, executors []lab.Process) []lab.Task {
	t.Helper()
	tasks, err := app.MapTasks(deadline(t, time.Minute))
	must(t, err)
	return slices.DeleteFunc(tasks, func(task lab.Task) bool {
		return !slices.ContainsFunc(executors, func(e lab.Process) bool { return e.App == app.ID && e.ID == task.Executor })
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
