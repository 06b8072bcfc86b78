//go:build integration

package cluster

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPower takes a node's power and gives it back: the cluster notices, and the node comes back with another boot id.
func TestPower(t *testing.T) {
	ctx := t.Context()
	n := shared.Node("node-a")
	before, err := n.BootID()
	must(t, err)
	begin := time.Now()
	must(t, n.PowerOff())
	t.Logf("off after %v", time.Since(begin))
	must(t, shared.WaitCondition(ctx, "node-a", "Ready", "Unknown"))
	t.Logf("noticed after %v", time.Since(begin))
	begin = time.Now()
	must(t, n.PowerOn(ctx))
	t.Logf("on again after %v", time.Since(begin))
	if after, err := n.BootID(); err != nil || after == before {
		t.Errorf("boot id %s, as before (%v)", after, err)
	}
}

// TestJob runs the job in cluster mode, which needs names: nothing is computed twice while all executors live.
func TestJob(t *testing.T) {
	for _, o := range []JobOptions{
		{Name: "cluster-3", Spark: "3.5.9", Cluster: true},
		{Name: "cluster-4", Spark: "4.3.0", Cluster: true, Node: "node-b"},
	} {
		t.Run(o.Name, func(t *testing.T) {
			ctx := t.Context()
			begin := time.Now()
			job, err := shared.Job(ctx, o)
			if job != nil {
				defer job.Stop(ctx)
			}
			must(t, err)
			t.Logf("the job is there after %v", time.Since(begin).Round(time.Millisecond))
			first, err := job.Round(ctx)
			must(t, err)
			second, err := job.Round(ctx)
			must(t, err)
			t.Logf("first: %v; second: %v", first, second)
			if first.MapTasks != 12 || second.MapTasks != 0 {
				t.Errorf("%d and %d map tasks ran, not 12 and none", first.MapTasks, second.MapTasks)
			}
			on := map[string]int{}
			pods, err := job.Executors(ctx)
			must(t, err)
			for _, p := range pods {
				on[p.Node]++
			}
			if len(pods) != 3 || len(on) != 2 {
				t.Errorf("executors on nodes: %v", on)
			}
		})
	}
}

// TestAbandonedCluster starts a second cluster beside this one in a program that is killed: the next start leaves nothing of it.
func TestAbandonedCluster(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), abandoned+"=1", Variable+"=")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	folder, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	folder = strings.TrimSpace(folder)
	if left, err := removable(); err != nil || slices.Contains(left, folder) {
		t.Errorf("a cluster whose program lives counts as left behind: %v, %v", left, err)
	}
	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Error("the program ended by itself")
	}
	must(t, removeLeftovers(os.Stderr))
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", folder, err)
	}
	for _, h := range hierarchies() {
		if left, _ := filepath.Glob(filepath.Join(h, filepath.Base(folder)+"*")); len(left) != 0 {
			t.Errorf("control groups are still there: %v", left)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), folder) {
		t.Error("something is still mounted in " + folder)
	}
	if _, err := shared.Kubectl(t.Context(), "get", "nodes"); err != nil {
		t.Errorf("the other cluster: %v", err)
	}
}
