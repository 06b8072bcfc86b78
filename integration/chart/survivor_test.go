//go:build integration

package chart

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/agent/survivor"
)

// survivors are the values that the chart needs to run them.
func survivors() node {
	return node{"survivor": node{"enabled": true}, "config": node{"survivor": node{"nodes": "karpenter.sh/capacity-type=spot"}}}
}

// steps are the values of survivors that do what is said here.
func steps(do node) node {
	values := survivors()
	maps.Copy(values["config"].(node)["survivor"].(node), do)
	return values
}

func TestRolesAreWhatSurvivorsNeed(t *testing.T) {
	var want, got []string
	for _, r := range survivor.Permissions("lifeboat") {
		for _, verb := range r.Verbs {
			want = append(want, fmt.Sprintf("%s: %s/%s %s %s", r.Namespace, r.Group, r.Resource, r.Name, verb))
		}
	}
	all := objects(t, render(t, survivors()))
	for _, role := range append(all["Role"], all["ClusterRole"]...) {
		if at(t, role, "metadata", "labels", "app.kubernetes.io/component") != "survivor" {
			continue
		}
		namespace, _ := at(t, role, "metadata", "namespace").(string)
		for _, rule := range at(t, role, "rules").([]any) {
			name, _ := at(t, rule, "resourceNames", 0).(string)
			for _, verb := range at(t, rule, "verbs").([]any) {
				got = append(got, fmt.Sprintf("%s: %v/%v %s %v", namespace, at(t, rule, "apiGroups", 0), at(t, rule, "resources", 0), name, verb))
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the roles allow %q\nsurvivors need %q", got, want)
	}
}

// TestSurvivorsStandApart: two of them, never both evicted at once, with no right on their own node.
func TestSurvivorsStandApart(t *testing.T) {
	all := objects(t, render(t, survivors()))
	spec := at(t, all["Deployment"][0], "spec")
	pod := at(t, spec, "template", "spec")
	if n := at(t, spec, "replicas"); fmt.Sprint(n) != "2" {
		t.Errorf("replicas: %v", n)
	}
	if at(t, pod, "affinity", "podAntiAffinity") == nil || len(all["PodDisruptionBudget"]) != 1 {
		t.Error("replicas can be on one node, or be evicted at once")
	}
	if at(t, pod, "hostPID") != nil || at(t, pod, "hostNetwork") != nil || at(t, pod, "securityContext", "runAsNonRoot") != true {
		t.Errorf("more rights than it needs: %v", pod)
	}
	if _, err := renderer.Manifests(t.Context(), Release{Values: node{"survivor": node{"enabled": true}}}); err == nil || !strings.Contains(err.Error(), "config.survivor.nodes") {
		t.Errorf("without a selector: %v", err)
	}
}

// TestSurvivorsKeepOff the nodes that they look after: all spot nodes of the clouds, and those that the agents are sent to by labels.
func TestSurvivorsKeepOff(t *testing.T) {
	pool := node{"presets": []any{"any"}, "selector": node{"pool": "spark"}}
	two := node{"presets": []any{"any"}, "selector": node{"pool": "spark", "disk": "fast"}}
	cloud := node{"selector": node{"pool": "spark"}}
	for name, tt := range map[string]struct {
		nodes, labels node
		off           bool
	}{
		"no labels":                 {nil, node{}, false},
		"EKS":                       {nil, node{"eks.amazonaws.com/capacityType": "SPOT"}, true},
		"EKS, on demand":            {nil, node{"eks.amazonaws.com/capacityType": "ON_DEMAND"}, false},
		"GKE":                       {nil, node{"cloud.google.com/gke-spot": "true"}, true},
		"GKE, provisioning":         {nil, node{"cloud.google.com/gke-provisioning": "preemptible"}, true},
		"AKS":                       {nil, node{"kubernetes.azure.com/scalesetpriority": "spot"}, true},
		"Karpenter":                 {nil, node{"karpenter.sh/capacity-type": "spot"}, true},
		"any":                       {pool, node{"pool": "spark"}, true},
		"any, another pool":         {pool, node{"pool": "web"}, false},
		"any, no pool":              {pool, node{}, false},
		"any, a cloud's":            {pool, node{"pool": "web", "karpenter.sh/capacity-type": "spot"}, true},
		"two labels":                {two, node{"pool": "spark", "disk": "fast"}, true},
		"one of two labels":         {two, node{"pool": "spark", "disk": "slow"}, false},
		"the other one":             {two, node{"disk": "fast"}, false},
		"one of two, a cloud's":     {two, node{"disk": "fast", "karpenter.sh/capacity-type": "spot"}, true},
		"a pool of cloud and other": {cloud, node{"pool": "spark"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			values := survivors()
			if tt.nodes != nil {
				values["nodes"] = tt.nodes
			}
			pod := at(t, objects(t, render(t, values))["Deployment"][0], "spec", "template", "spec")
			if off := !admits(t, pod, tt.labels); off != tt.off {
				t.Errorf("off: %v", off)
			}
		})
	}
}

// admits says whether the pod's node affinity lets it onto a node: all expressions of one of the terms must fit.
func admits(t *testing.T, pod any, labels node) bool {
	t.Helper()
	terms, _ := at(t, pod, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").([]any)
	return slices.ContainsFunc(terms, func(term any) bool {
		expressions, _ := at(t, term, "matchExpressions").([]any)
		return !slices.ContainsFunc(expressions, func(e any) bool {
			if at(t, e, "operator") != "NotIn" {
				t.Errorf("%v lets spot nodes in", e)
			}
			values, _ := at(t, e, "values").([]any)
			label, there := labels[at(t, e, "key").(string)]
			return there && slices.Contains(values, label)
		})
	})
}

// TestStepsCanBeSwitchedOff: each that stands for itself alone, and all of them.
func TestStepsCanBeSwitchedOff(t *testing.T) {
	for _, off := range []node{
		{"failPods": false}, {"forceDelete": false}, {"outOfService": false},
		{"deletePods": false, "failPods": false, "forceDelete": false, "outOfService": false},
	} {
		if n := len(objects(t, render(t, steps(off)))["Deployment"]); n != 1 {
			t.Errorf("%v: %d Deployments", off, n)
		}
	}
}
