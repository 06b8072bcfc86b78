//go:build integration

package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestShuffleService has the external shuffle service serve the outputs of executors that dynamic allocation has
// removed. The agent has seen the application before, and rescues its files from a node without any executor.
func TestShuffleService(t *testing.T) {
	const maps = 8
	ctx := deadline(t, 4*time.Minute)
	c := cluster(t, sparkVersion())
	doomed := node(t, c, lab.NodeOptions{Address: "127.0.0.2", Cores: 2, Conf: decommission, ShufflePort: 7402})
	app, err := c.Submit(ctx, lab.AppOptions{
		Job: lab.Job{Maps: maps, KiBPerMap: 64, MsPerMap: 50},
		Conf: map[string]string{
			"spark.shuffle.service.enabled": "true", "spark.dynamicAllocation.enabled": "true",
			"spark.dynamicAllocation.initialExecutors": "2", "spark.dynamicAllocation.maxExecutors": "2",
			"spark.dynamicAllocation.executorIdleTimeout": "2s",
		},
	})
	must(t, err)
	a, err := c.StartAgent(ctx, doomed, lab.AgentOptions{Binary: binary(t), Config: "scan: 1s\n"})
	must(t, err)
	if first := round(t, app); first.MapTasks != maps {
		t.Errorf("the first round ran %d maps, want %d", first.MapTasks, maps)
	}
	must(t, lab.Until(ctx, "the executors are removed and the agent remembers them", func(context.Context) (bool, error) {
		known, _ := os.ReadFile(filepath.Join(a.State, "applications.json"))
		return len(doomed.Executors()) == 0 && strings.Contains(string(known), app.ID), nil
	}))
	if left := outputs(t, doomed); left != maps {
		t.Fatalf("%d outputs lie on the node, want %d", left, maps)
	}

	// These have more free cores, so the next executors start there. Those with cached blocks stay.
	node(t, c, lab.NodeOptions{Address: "127.0.0.3", Cores: 4, ShufflePort: 7403})
	node(t, c, lab.NodeOptions{Address: "127.0.0.4", Cores: 4, ShufflePort: 7404})
	cached(t, app)
	a.Announce(time.Minute)
	rep := rescued(t, a)
	allSaved(t, rep)
	if part := application(t, rep, app.ID); part.Saved.Outputs != maps || len(part.Executors) != 0 {
		t.Errorf("%d outputs saved, %d executors left; want %d and none", part.Saved.Outputs, len(part.Executors), maps)
	}
	must(t, doomed.Kill())
	if got := round(t, app); got.MapTasks != 0 || got.Counted != 0 {
		t.Errorf("%d map tasks ran again, want 0", got.MapTasks)
	}
}
