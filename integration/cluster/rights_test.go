//go:build integration

package cluster

import (
	"strconv"
	"strings"
	"testing"
)

// Bits of capabilities (linux/capability.h).
const (
	capReadSearch = 1 << 2
	capKill       = 1 << 5
	capSetgid     = 1 << 6
	capSetuid     = 1 << 7
	capPtrace     = 1 << 19
)

// TestAgentIsConfined: the kernel's own word on what the chart says of capabilities, privileges and seccomp.
func TestAgentIsConfined(t *testing.T) {
	must(t, shared.InstallAgent(t.Context(), AgentOptions{}))
	for _, n := range shared.Nodes() {
		confined(t, n, 0, capReadSearch|capKill|capSetgid|capSetuid|capPtrace)
	}
	must(t, shared.InstallAgent(t.Context(), AgentOptions{Config: "kubernetes: {volumes: {adopt: upload}}\n"}))
	confined(t, shared.Node("node-a"), 0, capReadSearch|capKill|capPtrace)
	must(t, shared.UninstallAgent(t.Context()))
}

// confined holds a node's agent against a user and its capabilities.
func confined(t *testing.T, n *Node, user int, capabilities uint64) {
	t.Helper()
	text, err := n.Run(t.Context(), "sh", "-c", `for p in /proc/[0-9]*; do [ "$(readlink $p/exe)" != /usr/bin/lifeboat ] || cat $p/status; done`)
	must(t, err)
	status := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.Join(strings.Fields(value), " ")
	}
	if want := strings.TrimSpace(strings.Repeat(strconv.Itoa(user)+" ", 4)); status["Uid"] != want {
		t.Errorf("%s: users %q, not %q", n.Name, status["Uid"], want)
	}
	if effective, err := strconv.ParseUint(status["CapEff"], 16, 64); err != nil || effective != capabilities {
		t.Errorf("%s: capabilities %s, not %x", n.Name, status["CapEff"], capabilities)
	}
	if bound, err := strconv.ParseUint(status["CapBnd"], 16, 64); err != nil || bound&^capabilities != 0 {
		t.Errorf("%s: more capabilities within reach: %s", n.Name, status["CapBnd"])
	}
	if status["NoNewPrivs"] != "1" || status["Seccomp"] != "2" { // 2 is a filter
		t.Errorf("%s: no_new_privs %q, seccomp %q", n.Name, status["NoNewPrivs"], status["Seccomp"])
	}
}
