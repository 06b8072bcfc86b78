//go:build integration

package chart

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/kube"
	notices "github.com/lifeboat/lifeboat/providers/kube"
)

// pod is the agent's pod.
func pod(t *testing.T, values node) node {
	t.Helper()
	sets := objects(t, render(t, values))["DaemonSet"]
	if len(sets) != 1 {
		t.Fatalf("%d DaemonSets", len(sets))
	}
	return at(t, sets[0], "spec", "template", "spec").(node)
}

func capabilities(t *testing.T, values node) []any {
	t.Helper()
	list, _ := at(t, pod(t, values), "containers", 0, "securityContext", "capabilities", "add").([]any)
	return list
}

func TestCapabilities(t *testing.T) {
	base := []any{"SYS_PTRACE", "DAC_READ_SEARCH", "KILL"}
	adopt := func(how string) node { return node{"config": node{"kubernetes": node{"volumes": node{"adopt": how}}}} }
	for name, tt := range map[string]struct {
		values node
		want   []any
	}{
		"defaults": {nil, append(slices.Clone(base), "SETUID", "SETGID")},
		"link":     {adopt(config.AdoptLink), append(slices.Clone(base), "SETUID", "SETGID")},
		"upload":   {adopt(config.AdoptUpload), base},
		"off":      {adopt(config.AdoptOff), base},
		"no root":  {node{"securityContext": node{"runAsUser": 185}}, nil},
	} {
		if got := capabilities(t, tt.values); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, not %v", name, got, tt.want)
		}
	}
	if config.Default().Kubernetes.Volumes.Adopt != config.AdoptLink {
		t.Error("the chart takes link for the agent's default of kubernetes.volumes.adopt")
	}
	for name, values := range valueSets() {
		context := at(t, pod(t, values), "containers", 0, "securityContext").(node)
		if !reflect.DeepEqual(at(t, context, "capabilities", "drop"), []any{"ALL"}) || context["privileged"] != false ||
			context["allowPrivilegeEscalation"] != false || context["readOnlyRootFilesystem"] != true {
			t.Errorf("%s: %v", name, context)
		}
	}
}

// TestRoleIsWhatTheAgentNeeds: the rules are those that the agent's own package names, in any order.
func TestRoleIsWhatTheAgentNeeds(t *testing.T) {
	var want []string
	for _, p := range kube.Permissions() {
		for _, verb := range p.Verbs {
			want = append(want, p.Group+"/"+p.Resource+" "+verb)
		}
	}
	var got []string
	for _, rule := range at(t, objects(t, render(t, nil))["ClusterRole"][0], "rules").([]any) {
		for _, group := range at(t, rule, "apiGroups").([]any) {
			for _, resource := range at(t, rule, "resources").([]any) {
				for _, verb := range at(t, rule, "verbs").([]any) {
					got = append(got, fmt.Sprintf("%v/%v %v", group, resource, verb))
				}
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the role allows %v\nthe agent needs %v", got, want)
	}
}

// TestHeldToTheirNodes: by a policy where the API server knows the node that a token was made for, unless it is said otherwise.
func TestHeldToTheirNodes(t *testing.T) {
	for _, tt := range []struct {
		kube     string
		only     any
		policies int
	}{{"1.35.4", nil, 1}, {"1.32.0", "auto", 1}, {"1.31.9", nil, 0}, {"1.31.9", true, 1}, {"1.35.4", false, 0}} {
		values := node{}
		if tt.only != nil {
			values["rbac"] = node{"ownNodeOnly": tt.only}
		}
		manifest, err := renderer.Manifests(t.Context(), Release{Kube: tt.kube, Values: values})
		if err != nil {
			t.Fatal(err)
		}
		all := objects(t, manifest)
		if n, m := len(all["ValidatingAdmissionPolicy"]), len(all["ValidatingAdmissionPolicyBinding"]); n != tt.policies || m != n {
			t.Errorf("Kubernetes %s, ownNodeOnly %v: %d policies, %d bindings", tt.kube, tt.only, n, m)
		}
	}
}

// TestListens: on loopback unless somebody is to read metrics; the kubelet's probes go where the agent listens.
func TestListens(t *testing.T) {
	for name, tt := range map[string]struct {
		values node
		listen string
		host   any
	}{
		"defaults":  {nil, "[127.0.0.1]:9420", "127.0.0.1"},
		"metrics":   {node{"metrics": node{"enabled": true}}, "[$(HOST_IP)]:9420", nil},
		"own":       {node{"metrics": node{"enabled": true}, "listen": node{"address": "127.0.0.1", "port": 8000}}, "[127.0.0.1]:8000", "127.0.0.1"},
		"all":       {node{"listen": node{"address": "0.0.0.0"}}, "[0.0.0.0]:9420", nil},
		"IPv6 only": {node{"listen": node{"address": "::1"}}, "[::1]:9420", "::1"},
	} {
		t.Run(name, func(t *testing.T) {
			container := at(t, pod(t, tt.values), "containers", 0)
			var listen any
			seen := map[string]int{}
			for i, v := range at(t, container, "env").([]any) {
				seen[v.(node)["name"].(string)] = i
				if v.(node)["name"] == "LIFEBOAT_LISTEN" {
					listen = v.(node)["value"]
				}
			}
			if listen != tt.listen || seen["HOST_IP"] > seen["LIFEBOAT_LISTEN"] {
				t.Errorf("listens on %v (variables %v)", listen, seen)
			}
			for _, probe := range []string{"livenessProbe", "readinessProbe"} {
				get := at(t, container, probe, "httpGet").(node)
				if get["host"] != tt.host || fmt.Sprint(get["port"]) != tt.listen[strings.LastIndex(tt.listen, ":")+1:] {
					t.Errorf("%s: %v", probe, get)
				}
			}
		})
	}
}

// TestEachCloudsSpotNodes: the labels and taints of the clouds' documentation, one alternative each.
func TestEachCloudsSpotNodes(t *testing.T) {
	want := map[string][]string{
		"eks":       {"eks.amazonaws.com/capacityType=SPOT"},
		"gke":       {"cloud.google.com/gke-spot=true", "cloud.google.com/gke-provisioning=spot", "cloud.google.com/gke-provisioning=preemptible", "cloud.google.com/gke-preemptible=true"},
		"aks":       {"kubernetes.azure.com/scalesetpriority=spot"},
		"karpenter": {"karpenter.sh/capacity-type=spot"},
		"any":       nil,
	}
	var all []string
	for _, preset := range []string{"eks", "gke", "aks", "karpenter"} {
		all = append(all, want[preset]...)
	}
	for preset, labels := range want {
		if got := selected(t, node{"nodes": node{"presets": []any{preset}}}); !slices.Equal(got, labels) {
			t.Errorf("%s: %v", preset, got)
		}
	}
	if got := selected(t, nil); !slices.Equal(got, all) {
		t.Errorf("defaults: %v", got)
	}
	if got := selected(t, node{"nodes": node{"presets": []any{"eks", "any"}}}); got != nil {
		t.Errorf("any and one more: %v", got)
	}
}

// selected are the labels of which a node must have one.
func selected(t *testing.T, values node) []string {
	t.Helper()
	var labels []string
	terms, _ := at(t, pod(t, values), "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").([]any)
	for _, term := range terms {
		expressions := at(t, term, "matchExpressions").([]any)
		if len(expressions) != 1 {
			t.Errorf("not one label: %v", term)
		}
		for _, v := range at(t, expressions[0], "values").([]any) {
			labels = append(labels, fmt.Sprintf("%v=%v", at(t, expressions[0], "key"), v))
		}
	}
	return labels
}

// TestStays: no taint of a drain, of a dead node or of a spot pool keeps the agent from a node.
func TestStays(t *testing.T) {
	if got := at(t, pod(t, nil), "tolerations"); !reflect.DeepEqual(got, []any{node{"operator": "Exists"}}) {
		t.Errorf("defaults: %v", got)
	}
	list := at(t, pod(t, node{"nodes": node{"tolerateAll": false}}), "tolerations").([]any)
	keys := []string{
		notices.OwnTaint, "node.kubernetes.io/unschedulable", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable",
		"node.kubernetes.io/out-of-service", "kubernetes.azure.com/scalesetpriority", "cloud.google.com/gke-spot",
	}
	for _, taint := range notices.DisruptionTaints() {
		keys = append(keys, taint.Key)
	}
	for _, key := range keys {
		if !slices.ContainsFunc(list, func(v any) bool { return reflect.DeepEqual(v, node{"key": key, "operator": "Exists"}) }) {
			t.Errorf("%s is not tolerated: %v", key, list)
		}
	}
}

// TestQuotas: one for each class of the system's, where GKE may be.
func TestQuotas(t *testing.T) {
	agents, both := []string{"system-node-critical"}, []string{"system-cluster-critical", "system-node-critical"}
	with := func(key string, value any) node {
		values := survivors()
		values[key] = value
		return values
	}
	for name, tt := range map[string]struct {
		values node
		want   []string
	}{
		"defaults":        {nil, agents},
		"survivors":       {survivors(), both},
		"no class":        {with("priorityClassName", ""), both[:1]},
		"a class of ours": {with("priorityClassName", "spark"), both[:1]},
		"not GKE":         {with("nodes", node{"presets": []any{"eks"}}), nil},
		"not wanted":      {with("resourceQuota", node{"create": false}), nil},
	} {
		var got []string
		for _, o := range objects(t, render(t, tt.values))["ResourceQuota"] {
			got = append(got, at(t, o, "spec", "scopeSelector", "matchExpressions", 0, "values", 0).(string))
		}
		if slices.Sort(got); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
