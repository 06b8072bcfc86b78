//go:build integration

package cluster

import (
	"testing"
	"time"
)

// TestAgent installs the chart: an agent is ready on each node, and sees the node's metadata.
func TestAgent(t *testing.T) {
	ctx := t.Context()
	begin := time.Now()
	must(t, shared.InstallAgent(ctx, AgentOptions{}))
	t.Logf("installed after %v", time.Since(begin).Round(time.Millisecond))
	for _, n := range shared.Nodes() {
		must(t, shared.WaitAgent(ctx, n.Name))
	}
	must(t, shared.UninstallAgent(ctx))
}
