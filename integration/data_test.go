//go:build integration

package integration

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/integration/lab"
)

const (
	mib = 1 << 20
	// maxAgentMemory is what the agent may ever have in memory, whatever it moves.
	maxAgentMemory = 64 * mib
)

// TestKindsOfData rescues, at once, what two applications left on a node: one joins and aggregates DataFrames, with
// encrypted shuffle files compressed by zstd and many empty partitions; the other wrote, with lz4, a data file of more
// than 1 GiB, and maps without any data.
func TestKindsOfData(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	c := cluster(t, sparkVersion())
	nodes := together(t, c, lab.NodeOptions{Address: "127.0.0.2", Cores: 4, Conf: decommission},
		lab.NodeOptions{Address: "127.0.0.3"}, lab.NodeOptions{Address: "127.0.0.4"})
	doomed := nodes[0]
	// Its four executors are spread over all nodes; what is left is two places on the doomed one, for the other application.
	sql := submit(t, c, lab.AppOptions{
		Name: "sql", Cores: 4, Job: lab.Job{Kind: lab.SQL, Maps: 8, Reduces: 32, KiBPerMap: 2048, MsPerMap: 500},
		Conf: map[string]string{"spark.io.encryption.enabled": "true", "spark.io.compression.codec": "zstd"},
	}, 4)
	big := submit(t, c, lab.AppOptions{
		Name: "big", Job: lab.Job{Maps: 12, Reduces: 4, KiBPerMap: 256, EmptyEvery: 4, BigMiB: 1040},
	}, 2)
	agent, err := c.StartAgent(ctx, doomed, lab.AgentOptions{Binary: binary(t)})
	must(t, err)
	rounds(t, sql, big)
	leaving := doomed.Executors()
	node(t, c, lab.NodeOptions{Address: "127.0.0.5", Cores: 2})
	must(t, big.WaitExecutors(ctx, 4))
	if n := largestData(t, doomed); n <= 1<<30 {
		t.Errorf("the largest data file on the node has %d bytes, want more than 1 GiB", n)
	}

	agent.Announce(2 * time.Minute)
	rep := rescued(t, agent)
	used, err := lab.UsageOf(agent.PID())
	must(t, err)
	must(t, doomed.Kill())
	for i, again := range rounds(t, sql, big) {
		if again.MapTasks != 0 {
			t.Errorf("%d map tasks of application %d ran again, want 0", again.MapTasks, i)
		}
	}
	allSaved(t, rep)
	for _, app := range []*lab.App{sql, big} {
		part, here := application(t, rep, app.ID), len(tasksOf(t, app, leaving))
		if here < 2 || part.Found.Outputs != here {
			t.Errorf("%s: the node ran %d maps, %d were found; want some, and all", app.ID, here, part.Found.Outputs)
		}
	}
	if used.PeakRSS > maxAgentMemory {
		t.Errorf("the agent had %d MiB in memory, want %d at most", used.PeakRSS/mib, maxAgentMemory/mib)
	}
	_, saved, _ := rep.Total()
	t.Logf("%d outputs, %d MiB, moved within %v of the notice; the agent had %.1f MiB in memory at most", saved.Outputs,
		saved.Bytes/mib, rep.Ended.Sub(rep.Notice.Seen), float64(used.PeakRSS)/mib)
}

// together starts nodes at once.
func together(t *testing.T, c *lab.Cluster, options ...lab.NodeOptions) []*lab.Node {
	t.Helper()
	ctx := deadline(t, time.Minute)
	nodes := make([]*lab.Node, len(options))
	var starts errgroup.Group
	for i, o := range options {
		starts.Go(func() (err error) {
			nodes[i], err = c.AddNode(ctx, o)
			return err
		})
	}
	must(t, starts.Wait())
	return nodes
}

// rounds runs a round of each application, all at once.
func rounds(t *testing.T, apps ...*lab.App) []lab.Round {
	t.Helper()
	ctx := deadline(t, 3*time.Minute)
	var running []*lab.Running
	for _, app := range apps {
		r, err := app.StartRound(ctx)
		must(t, err)
		running = append(running, r)
	}
	var got []lab.Round
	for i, r := range running {
		one, err := r.Wait(ctx)
		must(t, err)
		if !one.Exact {
			t.Errorf("the result of application %d is wrong", i)
		}
		got = append(got, one)
	}
	return got
}

// largestData is the size of the largest data file of a shuffle on a node.
func largestData(t *testing.T, n *lab.Node) int64 {
	t.Helper()
	var largest int64
	for _, dir := range n.LocalDirs() {
		must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasPrefix(entry.Name(), "shuffle_") || !strings.HasSuffix(path, ".data") {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				largest = max(largest, info.Size())
			}
			return err
		}))
	}
	return largest
}
