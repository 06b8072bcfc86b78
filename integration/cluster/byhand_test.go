//go:build integration

package cluster

import (
	"context"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestRescueByHand empties a node by the command, inside the agent's pod: executors end with their pods, and nothing new is placed on
// the node until somebody gives it back.
func TestRescueByHand(t *testing.T) {
	ctx := t.Context()
	must(t, shared.InstallAgent(ctx, AgentOptions{}))
	job := startJob(t, JobOptions{Name: "by-hand", Spark: "4.3.0", Node: "node-b"})
	_, err := job.Round(ctx)
	must(t, err)
	onBoth(t, job)
	known, err := shared.Reports("node-a")
	must(t, err)
	pod, err := shared.Kubectl(ctx, "-n", AgentNamespace, "get", "pods", "--field-selector=spec.nodeName=node-a", "-l=app.kubernetes.io/component=agent", "-o=name")
	must(t, err)

	restore(t, "node-a")
	said, err := shared.Kubectl(ctx, "-n", AgentNamespace, "exec", strings.TrimSpace(pod), "--", "/usr/bin/lifeboat", "rescue", "--deadline=60s")
	must(t, err)
	t.Log(said)
	for _, e := range job.In(rescued(t, "node-a", []*Job{job}, known...)).Executors {
		if e.EndedBy != "pod deleted" {
			t.Errorf("executor %s ended by %q", e.ID, e.EndedBy)
		}
	}
	if given(t, "{.spec.unschedulable}") != "true" {
		t.Error("the node is not cordoned")
	}
	unharmed(t, job)

	_, err = shared.Kubectl(ctx, "uncordon", "node-a")
	must(t, err)
	must(t, lab.Until(ctx, "the taint goes with the cordon", func(context.Context) (bool, error) {
		return !strings.Contains(given(t, "{.spec.taints}"), "lifeboat"), nil
	}))
}

// given is a part of node-a's object.
func given(t *testing.T, path string) string {
	t.Helper()
	out, err := shared.Kubectl(t.Context(), "get", "node", "node-a", "-o=jsonpath="+path)
	must(t, err)
	return out
}
