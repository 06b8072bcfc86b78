//go:build integration

package cluster

import (
	"net/http"
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
		resp, err := n.HTTP().Get("http://127.0.0.1:9420/readyz")
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the agent of %s is not ready: %s", n.Name, resp.Status)
		}
	}
	must(t, shared.UninstallAgent(ctx))
}
