//go:build integration

package integration

import (
	"maps"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestCachedBlocks has three applications with cached blocks of one replica on the node. Where Spark's block
// migration is on, the blocks move; where it is off, the report says that they are lost. Shuffle data is saved in all.
func TestCachedBlocks(t *testing.T) {
	const parts = 8
	ctx := deadline(t, 5*time.Minute)
	c := cluster(t, sparkVersion())
	doomed := node(t, c, lab.NodeOptions{Address: "127.0.0.2", Cores: 3, Conf: decommission})
	node(t, c, lab.NodeOptions{Address: "127.0.0.3", Cores: 3})
	blocks := map[string]string{
		"spark.decommission.enabled": "true", "spark.storage.decommission.enabled": "true",
		"spark.storage.decommission.rddBlocks.enabled": "true", "spark.storage.decommission.shuffleBlocks.enabled": "false",
	}
	all := maps.Clone(blocks)
	all["spark.storage.decommission.shuffleBlocks.enabled"] = "true"
	cases := []struct {
		name  string
		conf  map[string]string
		moves bool
	}{{"rdd-blocks", blocks, true}, {"rdd-and-shuffle-blocks", all, true}, {"off", decommission, false}}
	apps, here := make([]*lab.App, len(cases)), make([]string, len(cases))
	for i, tc := range cases {
		apps[i] = submit(t, c, lab.AppOptions{
			Name: tc.name, Cores: 2, Conf: tc.conf, Job: lab.Job{Maps: parts, KiBPerMap: 128, MsPerMap: 50, Seed: i},
		}, 2)
		round(t, apps[i])
		if got := cached(t, apps[i]); got != parts {
			t.Errorf("%s: filling the cache computed %d partitions, want %d", tc.name, got, parts)
		}
		on, err := apps[i].ExecutorsOn(ctx, doomed.Address)
		must(t, err)
		here[i] = on[0].ID
	}
	a, err := c.StartAgent(ctx, doomed, lab.AgentOptions{Binary: binary(t)})
	must(t, err)
	a.Announce(time.Minute)
	rep := rescued(t, a)
	must(t, doomed.Kill())
	allSaved(t, rep)
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			e := executor(t, application(t, rep, apps[i].ID), here[i])
			computed := cached(t, apps[i])
			again := round(t, apps[i])
			if again.MapTasks != 0 || again.Counted != 0 {
				t.Errorf("%d map tasks ran again, want 0", again.MapTasks)
			}
			switch {
			case tc.moves && (e.Trigger != "sigpwr" || computed != 0 || e.RDDBlocksLost > 0):
				t.Errorf("told by %s; %d blocks reported lost, %d computed again; want sigpwr and none", e.Trigger, e.RDDBlocksLost, computed)
			case !tc.moves && (e.Trigger != "rpc" || computed == 0 || e.RDDBlocksLost != computed):
				t.Errorf("told by %s; %d blocks reported lost, %d computed again; want rpc and all that were here", e.Trigger, e.RDDBlocksLost, computed)
			}
			t.Logf("executor %s ended %s after %.1f s; %d partitions computed again", e.ID, e.EndedBy, e.EndedAfterSeconds, computed)
		})
	}
}

// cached reads the application's cached RDD and says how many partitions were computed for that.
func cached(t *testing.T, app *lab.App) int {
	t.Helper()
	got, err := app.Cached(deadline(t, time.Minute))
	must(t, err)
	if !got.Exact {
		t.Errorf("the cached data is wrong: %v", got.Result)
	}
	return got.Counted
}
