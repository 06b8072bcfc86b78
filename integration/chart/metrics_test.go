//go:build integration

package chart

import (
	"strings"
	"testing"
)

// TestMetricsOfBothAreFound: a Service and a PodMonitor each for the agents and for the survivors lead to their pods, and to no others.
func TestMetricsOfBothAreFound(t *testing.T) {
	all := objects(t, render(t, everything))
	pods := map[string]node{
		"agent":    at(t, all["DaemonSet"][0], "spec", "template").(node),
		"survivor": at(t, all["Deployment"][0], "spec", "template").(node),
	}
	for kind, path := range map[string][]any{"Service": {"spec", "selector"}, "PodMonitor": {"spec", "selector", "matchLabels"}} {
		found := map[string]int{}
		for _, o := range all[kind] {
			for name, pod := range pods {
				if fits(at(t, o, path...).(node), at(t, pod, "metadata", "labels").(node)) {
					found[name]++
				}
			}
		}
		if len(all[kind]) != 2 || found["agent"] != 1 || found["survivor"] != 1 {
			t.Errorf("%d of kind %s, which find %v", len(all[kind]), kind, found)
		}
	}
	for name, pod := range pods {
		if port := at(t, pod, "spec", "containers", 0, "ports", 0, "name"); port != "http" {
			t.Errorf("%s: port %v", name, port)
		}
	}
	without := objects(t, render(t, survivors()))
	if n := len(without["Service"]) + len(without["PodMonitor"]); n != 0 {
		t.Errorf("%d objects for metrics that nobody wants", n)
	}
}

func fits(selector, labels node) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// TestLongNamesStayApart: Kubernetes takes names of Services of up to 63 letters.
func TestLongNamesStayApart(t *testing.T) {
	for _, length := range []int{46, 53, 54, 55, 63} {
		values := node{"fullnameOverride": strings.Repeat("n", length), "survivor": survivors()["survivor"], "config": survivors()["config"], "metrics": node{"enabled": true}}
		names := map[string]bool{}
		for _, o := range objects(t, render(t, values))["Service"] {
			name := at(t, o, "metadata", "name").(string)
			if len(name) > 63 || names[name] {
				t.Errorf("%d letters: %s", length, name)
			}
			names[name] = true
		}
		if len(names) != 2 {
			t.Errorf("%d letters: %v", length, names)
		}
	}
}
