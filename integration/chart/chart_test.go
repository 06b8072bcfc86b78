//go:build integration

package chart

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/lifeboat/lifeboat/agent/config"
)

// everything switches on all that the chart can make.
var everything = node{
	"image":            node{"repository": "registry.example.com/lifeboat", "digest": "sha256:" + strings.Repeat("0a", 32)},
	"imagePullSecrets": []any{node{"name": "registry"}},
	"nodes":            node{"tolerateAll": false, "tolerations": []any{node{"key": "spark", "operator": "Exists"}}, "selector": node{"pool": "spark"}},
	"metrics": node{
		"enabled": true, "service": node{"annotations": node{"a/b": "c"}},
		"podMonitor":     node{"enabled": true, "labels": node{"release": "prometheus"}},
		"prometheusRule": node{"enabled": true},
	},
	"serviceAccount":    node{"annotations": node{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/lifeboat"}},
	"securityContext":   node{"seccompProfile": node{"type": "Localhost", "localhostProfile": "lifeboat.json"}, "seLinuxOptions": node{"type": "super_t"}, "appArmorProfile": node{"type": "Unconfined"}},
	"podAnnotations":    node{"a/b": "c"},
	"podLabels":         node{"azure.workload.identity/use": "true"},
	"extraEnv":          []any{node{"name": "AWS_REGION", "value": "eu-central-1"}},
	"extraVolumes":      []any{node{"name": "keys", "secret": node{"secretName": "keys"}}},
	"extraVolumeMounts": []any{node{"name": "keys", "mountPath": "/keys", "readOnly": true}},
	"config": node{
		"providers": node{"file": node{"enabled": true, "path": "/run/spot/notice", "folder": "/run/spot/events"}},
		"objects":   node{"path": "s3a://b/p", "pathStyle": true},
		"migrate":   node{"maxPinned": 2000000},
		"shutdown":  node{"grace": "4m10.5s"},
		"survivor":  node{"nodes": "pool=spark"},
	},
	"survivor": node{"enabled": true},
}

// valueSets are the ways in which the chart is installed.
func valueSets() map[string]node {
	preset := func(names ...any) node { return node{"nodes": node{"presets": names}} }
	return map[string]node{
		"defaults":      {},
		"eks":           preset("eks"),
		"gke":           preset("gke"),
		"aks":           preset("aks"),
		"karpenter":     preset("karpenter"),
		"eks+karpenter": preset("eks", "karpenter"),
		"on premises":   {"nodes": node{"presets": []any{"any"}, "selector": node{"pool": "spark"}}, "config": node{"providers": "none"}},
		"own affinity": {"nodes": node{"affinity": node{"nodeAffinity": node{"requiredDuringSchedulingIgnoredDuringExecution": node{
			"nodeSelectorTerms": []any{node{"matchExpressions": []any{node{"key": "spot", "operator": "Exists"}}}},
		}}}}},
		"everything": everything,
		"minimal": {
			"serviceAccount": node{"create": false, "name": "mine"}, "rbac": node{"create": false, "ownNodeOnly": false}, "resourceQuota": node{"create": false},
			"priorityClassName": "", "resources": nil, "config": node{"kubernetes": node{"volumes": node{"adopt": "off"}}},
		},
		"user of Spark":         {"securityContext": node{"runAsUser": 185}},
		"user of Spark on host": {"securityContext": node{"runAsUser": 185}, "state": node{"volume": "hostPath"}},
		"survivors":             survivors(),
		"survivors on premises": {
			"survivor": node{"enabled": true}, "config": node{"survivor": node{"nodes": "pool=spark"}},
			"nodes": node{"presets": []any{"any"}, "selector": node{"pool": "spark", "disk": "fast"}},
		},
		"on delete": {"updateStrategy": node{"type": "OnDelete", "rollingUpdate": nil}},
	}
}

func TestManifestsConform(t *testing.T) {
	for name, values := range valueSets() {
		t.Run(name, func(t *testing.T) {
			manifest := render(t, values)
			if err := check(t, manifest); err != nil {
				t.Errorf("%v\n%s", err, manifest)
			}
			if n := len(objects(t, manifest)["DaemonSet"]); n != 1 {
				t.Errorf("%d DaemonSets", n)
			}
		})
	}
}

// TestConformCanFail: a wrong key anywhere in the pod is seen, so that the test above says something.
func TestConformCanFail(t *testing.T) {
	manifest := render(t, nil)
	for _, wrong := range [][2]string{{"hostPID:", "hostPid:"}, {"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: maybe"}, {"verbs:", "verb:"}} {
		bad := bytes.Replace(manifest, []byte(wrong[0]), []byte(wrong[1]), 1)
		if err := check(t, bad); err == nil {
			t.Errorf("%s goes through", wrong[1])
		}
	}
	monitor := render(t, everything)
	if err := check(t, bytes.Replace(monitor, []byte("scrapeTimeout:"), []byte("scrapeTime:"), 1)); err == nil {
		t.Error("a wrong key of a PodMonitor goes through")
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		values node
		says   string
	}{
		"unknown key":                {node{"hostPid": true}, "hostPid"},
		"unknown key below":          {node{"listen": node{"host": "::"}}, "host"},
		"no port":                    {node{"listen": node{"port": 0}}, "/listen/port"},
		"address with port":          {node{"listen": node{"address": "[::]"}}, "/listen/address"},
		"unknown cloud":              {node{"nodes": node{"presets": []any{"ek"}}}, "/nodes/presets/0"},
		"no cloud":                   {node{"nodes": node{"presets": []any{}}}, "/nodes/presets"},
		"unknown key of the agent":   {node{"config": node{"shutdwn": node{}}}, "shutdwn"},
		"number of the agent":        {node{"config": node{"migrate": node{"connections": 99}}}, "/config/migrate/connections"},
		"duration of the agent":      {node{"config": node{"scan": "10"}}, "/config/scan"},
		"word of the agent":          {node{"config": node{"notices": node{"cordon": "drain"}}}, "/config/notices/cordon"},
		"listen of the agent":        {node{"config": node{"listen": "127.0.0.1:1"}}, "listen.address and listen.port"},
		"grace too short":            {node{"terminationGracePeriodSeconds": 124}, "at least 125"},
		"grace too short for config": {node{"terminationGracePeriodSeconds": 125, "config": node{"shutdown": node{"grace": "2m"}}}, "at least 135"},
		"monitor of loopback":        {node{"metrics": node{"podMonitor": node{"enabled": true}}}, "metrics.enabled"},
		"alerts of loopback":         {node{"metrics": node{"prometheusRule": node{"enabled": true}}}, "metrics.enabled"},
		"monitor of own loopback":    {node{"listen": node{"address": "127.0.0.1"}, "metrics": node{"enabled": true, "podMonitor": node{"enabled": true}}}, "metrics.podMonitor.enabled: nothing outside the node can read /metrics at 127.0.0.1"},
		"alerts of own loopback":     {node{"listen": node{"address": "::1"}, "metrics": node{"enabled": true, "prometheusRule": node{"enabled": true}}}, "metrics.prometheusRule.enabled: nothing outside the node can read /metrics at ::1"},
		"account without a name":     {node{"serviceAccount": node{"create": false}}, "serviceAccount.name"},
		"all of the node":            {node{"config": node{"state": "/"}}, "config.state"},
		"all of the pod":             {node{"config": node{"state": "/state"}, "securityContext": node{"runAsUser": 185}}, "config.state: \"/state\" would put a volume over"},
		"the node's root by detour":  {node{"config": node{"state": "/var/../"}}, "config.state"},
		"notices in the node's root": {node{"config": node{"providers": node{"file": node{"enabled": true, "path": "/notice"}}}}, "providers.file.path"},
		"fail without deleting":      {steps(node{"deletePods": false, "forceDelete": false}), "config.survivor.failPods"},
		"force without deleting":     {steps(node{"deletePods": false, "failPods": false}), "config.survivor.forceDelete"},
		"digest":                     {node{"image": node{"digest": "latest"}}, "/image/digest"},
		"no agents during an update": {node{"updateStrategy": node{"rollingUpdate": node{"maxUnavailable": 0}}}, "/updateStrategy"},
		"user below root":            {node{"securityContext": node{"runAsUser": -1}}, "/securityContext/runAsUser"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := renderer.Manifests(t.Context(), Release{Values: tt.values})
			if err == nil {
				t.Fatalf("rendered:\n%s", out)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q is not in %v", tt.says, err)
			}
		})
	}
}

// TestAgentReadsTheConfiguration: what the chart hands over is what the agent understands by the values.
func TestAgentReadsTheConfiguration(t *testing.T) {
	for name, values := range valueSets() {
		t.Run(name, func(t *testing.T) {
			text := at(t, objects(t, render(t, values))["ConfigMap"][0], "data", "lifeboat.yaml").(string)
			got, err := config.Parse("lifeboat.yaml", []byte(text))
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			given, err := yaml.Marshal(values["config"])
			if err != nil {
				t.Fatal(err)
			}
			want, err := config.Parse("values", given)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v: got %+v\nwant %+v", err, got, want)
			}
		})
	}
}

// TestEveryDefaultCanBeGiven: the schema takes the agent's whole configuration, each key with its default.
func TestEveryDefaultCanBeGiven(t *testing.T) {
	data, err := json.Marshal(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	var all node
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "listen")
	render(t, node{"config": all})
}

// TestStateOutlivesThePod: on the host for root, at the place where the agent looks; as another user in the pod.
func TestStateOutlivesThePod(t *testing.T) {
	mount := func(values node) (path, volume any) {
		p := pod(t, values)
		for _, m := range at(t, p, "containers", 0, "volumeMounts").([]any) {
			if m.(node)["name"] == "state" {
				path = m.(node)["mountPath"]
			}
		}
		for _, v := range at(t, p, "volumes").([]any) {
			if v.(node)["name"] == "state" {
				delete(v.(node), "name")
				volume = v
			}
		}
		return path, volume
	}
	for name, tt := range map[string]struct {
		values node
		path   string
		volume node
	}{
		"root":      {nil, "/var/lib/lifeboat", node{"hostPath": node{"path": "/var/lib/lifeboat", "type": "DirectoryOrCreate"}}},
		"top":       {node{"config": node{"state": "/state"}}, "/state", node{"hostPath": node{"path": "/state", "type": "DirectoryOrCreate"}}},
		"elsewhere": {node{"config": node{"state": "/data/lb"}}, "/data/lb", node{"hostPath": node{"path": "/data/lb", "type": "DirectoryOrCreate"}}},
		"no root":   {node{"securityContext": node{"runAsUser": 185}}, "/var/lib", node{"emptyDir": node{}}},
	} {
		if path, volume := mount(tt.values); path != tt.path || !reflect.DeepEqual(volume, tt.volume) {
			t.Errorf("%s: %v at %v", name, volume, path)
		}
	}
}

// TestUserAndGroup: the kernel lets the agent through to executors only when both are theirs.
func TestUserAndGroup(t *testing.T) {
	for name, tt := range map[string]struct {
		values      node
		user, group int
		root        bool
	}{
		"root":       {nil, 0, 0, true},
		"user":       {node{"securityContext": node{"runAsUser": 185}}, 185, 185, false},
		"with group": {node{"securityContext": node{"runAsUser": 185, "runAsGroup": 0}}, 185, 0, false},
	} {
		got := at(t, pod(t, tt.values), "securityContext").(node)
		if got["runAsUser"] != tt.user || got["runAsGroup"] != tt.group || got["runAsNonRoot"] == tt.root {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestNewConfigurationMakesNewPods: the agent reads its file once.
func TestNewConfigurationMakesNewPods(t *testing.T) {
	mark := func(values node) any {
		return at(t, objects(t, render(t, values))["DaemonSet"][0], "spec", "template", "metadata", "annotations", "lifeboat.dev/config")
	}
	if one, two := mark(nil), mark(node{"config": node{"scan": "5s"}}); one == nil || one == two {
		t.Errorf("%v and %v", one, two)
	}
}

func TestNotes(t *testing.T) {
	for name, tt := range map[string]struct {
		values node
		says   []string
	}{
		"defaults": {nil, []string{"rollout status daemonset/lifeboat", "pod-security.kubernetes.io/enforce=privileged", "drill --dry-run", "set metrics.enabled"}},
		"no root":  {node{"securityContext": node{"runAsUser": 185}}, []string{"only executors of the same user", "goes with its pod"}},
	} {
		notes, err := renderer.Notes(t.Context(), Release{Values: tt.values})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tt.says {
			if !strings.Contains(notes, s) {
				t.Errorf("%s: %q is not in\n%s", name, s, notes)
			}
		}
	}
}
