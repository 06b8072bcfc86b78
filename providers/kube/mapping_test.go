package kube

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

var (
	said = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	uid  = "5a1b9d6e-0f3c-4a6e-9a53-1c7d1f0a2b3c"
)

func anywhere(t *testing.T) *Cluster {
	t.Helper()
	return openFor(t, "https://127.0.0.1:1")
}

// newTestNode is a source that asks nobody: the tests show it objects.
func newTestNode(t *testing.T, o Options) *Node {
	t.Helper()
	o.Cluster, o.Node = anywhere(t), "node-1"
	n, err := NewNode(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// show puts an object in place as a list would.
func show[T object](t *testing.T, f *follower[T], doc string) {
	t.Helper()
	objects := make(map[string]T)
	if doc != "" {
		var o T
		if err := json.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		f.reduce(o)
		objects[o.meta().UID] = o
	}
	f.update(func() { f.objects, f.err = objects, nil })
}

// nodeDoc is a Node: unlike a real one, with only what the test is about.
func nodeDoc(spec, status string) string {
	return `{"metadata": {"name": "node-1", "uid": "` + uid + `", "managedFields": [
		{"manager": "kubelet", "subresource": "status", "time": "2026-03-04T09:00:00Z", "fieldsV1": {"f:spec": {"f:taints": {}}}},
		{"manager": "karpenter", "time": "2026-03-04T05:06:07Z", "fieldsV1": {"f:spec": {"f:taints": {}}}},
		{"manager": "kubectl", "time": "2026-03-04T05:06:08Z", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}},
		{"manager": "odd", "fieldsV1": {"f:spec": []}}]},
		"spec": {` + spec + `}, "status": {` + status + `}}`
}

func taintDoc(key, value, more string) string {
	return nodeDoc(`"taints": [{"key": "`+key+`", "value": "`+value+`", "effect": "NoSchedule"`+more+`}]`, "")
}

func TestWhatANodeSays(t *testing.T) {
	ready := func(status, message string) string {
		return nodeDoc("", `"conditions": [{"type": "DiskPressure", "status": "False", "message": "node is shutting down"},
			{"type": "Ready", "status": "`+status+`", "reason": "KubeletNotReady", "message": "`+message+`", "lastTransitionTime": "2026-03-04T05:06:07Z"}]`)
	}
	id := NodeName + "-" + uid + "-"
	for name, tt := range map[string]struct {
		doc      string
		kind     providers.Kind // "": nothing
		id       string
		deadline time.Time
	}{
		"nothing":            {doc: nodeDoc("", "")},
		"cordon":             {nodeDoc(`"unschedulable": true`, ""), providers.Cordon, "cordon-20260304T050608Z", said.Add(time.Second)},
		"cordon's own taint": {doc: taintDoc("node.kubernetes.io/unschedulable", "", "")},
		"autoscaler": {taintDoc("ToBeDeletedByClusterAutoscaler", "1772600767", ""), providers.Drain,
			"ToBeDeletedByClusterAutoscaler-1772600767", said.Add(10 * time.Minute)},
		"autoscaler, time unreadable": {taintDoc("ToBeDeletedByClusterAutoscaler", "soon", ""), providers.Drain,
			"ToBeDeletedByClusterAutoscaler-soon", said.Add(10 * time.Minute)},
		"candidate of the autoscaler": {taintDoc("DeletionCandidateOfClusterAutoscaler", "1772600767", ""), providers.Rebalance,
			"DeletionCandidateOfClusterAutoscaler-1772600767", said.Add(10 * time.Minute)},
		"Karpenter": {taintDoc("karpenter.sh/disrupted", "", ""), providers.Drain,
			"karpenter.sh.disrupted-20260304T050607Z", said.Add(2 * time.Minute)},
		"Karpenter's beta": {taintDoc("karpenter.sh/disruption", "disrupting", ""), providers.Drain,
			"karpenter.sh.disruption-disrupting", said.Add(2 * time.Minute)},
		"another value": {doc: taintDoc("karpenter.sh/disruption", "other", "")},
		"spot handler of AWS": {taintDoc("aws-node-termination-handler/spot-itn", "spot-itn-1f2e", ""), providers.Preemption,
			"aws-node-termination-handler.spot-itn-spot-itn-1f2e", said.Add(2 * time.Minute)},
		"rebalance": {taintDoc("aws-node-termination-handler/rebalance-recommendation", "r-1", ""), providers.Rebalance,
			"aws-node-termination-handler.rebalance-recommendation-r-1", said.Add(2 * time.Minute)},
		"time added": {taintDoc("cloud.google.com/impending-node-termination", "", `, "timeAdded": "2026-03-04T05:00:00Z"`), providers.Preemption,
			"cloud.google.com.impending-node-termination-20260304T050000Z", said.Add(-6*time.Minute - 7*time.Second + 30*time.Second)},
		"AKS": {taintDoc("remediator.kubernetes.azure.com/unschedulable", "", ""), providers.Drain,
			"remediator.kubernetes.azure.com.unschedulable-20260304T050607Z", said.Add(30 * time.Second)},
		"configured": {taintDoc("example.com/leaving", "", ""), providers.Maintenance,
			"example.com.leaving-20260304T050607Z", said.Add(time.Hour)},
		"configured otherwise":           {doc: taintDoc("aks-node-termination-handler/preempt", "", "")},
		"our own":                        {doc: taintDoc(OwnTaint, "", "")},
		"defect 5, out of service":       {doc: taintDoc("node.kubernetes.io/out-of-service", "nodeshutdown", "")},
		"shut down, as the cloud thinks": {doc: taintDoc("node.cloudprovider.kubernetes.io/shutdown", "", "")},
		"unknown":                        {doc: taintDoc("example.com/gpu", "yes", "")},
		"not ready":                      {doc: ready("False", "container runtime is down")},
		"silent kubelet":                 {doc: ready("Unknown", "Kubelet stopped posting node status.")},
		"ready":                          {doc: ready("True", "kubelet is posting ready status")},
		"shutting down":                  {ready("False", "node is shutting down"), providers.Drain, "shutdown-20260304T050607Z", said.Add(15 * time.Second)},
		"shutting down and more": {ready("False", "[container runtime is down, node is shutting down]"), providers.Drain,
			"shutdown-20260304T050607Z", said.Add(15 * time.Second)},
		"being deleted": {strings.Replace(nodeDoc("", ""), `"name"`, `"deletionTimestamp": "2026-03-04T05:06:07Z", "name"`, 1), providers.Drain,
			"deletion-20260304T050607Z", said.Add(2 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t, Options{Taints: []Taint{
				{Key: "example.com/leaving", Kind: providers.Maintenance, Lead: time.Hour},
				{Key: "aks-node-termination-handler/preempt"},
			}})
			for range 2 { // the second answer shows the same
				show(t, n.objects, tt.doc)
				got, err := n.poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if tt.kind == "" {
					if len(got) > 0 {
						t.Errorf("invented: %+v", got)
					}
					continue
				}
				if len(got) != 1 || got[0].Kind != tt.kind || got[0].ID != id+tt.id || !got[0].Deadline.Equal(tt.deadline) || got[0].Withdrawn {
					t.Errorf("got %+v\nwant %s %s %v", got, tt.kind, id+tt.id, tt.deadline)
				}
			}
		})
	}
}

func TestOurOwnHandIsNoNotice(t *testing.T) {
	n := newTestNode(t, Options{OwnTaint: "example.com/ours", OwnMark: "example.com/by-us"})
	doc := nodeDoc(`"unschedulable": true, "taints": [{"key": "example.com/ours", "effect": "NoSchedule"}]`, "")
	show(t, n.objects, strings.Replace(doc, `"name"`, `"annotations": {"example.com/by-us": "r1"}, "name"`, 1))
	if got, err := n.poll(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("%v %v", got, err)
	}
	show(t, n.objects, doc) // the mark is gone: now it is somebody else's
	if got, err := n.poll(t.Context()); err != nil || len(got) != 1 || got[0].Kind != providers.Cordon {
		t.Errorf("%v %v", got, err)
	}
}

func TestNoticesOfANodeEndWithWhatTheyRestOn(t *testing.T) {
	n := newTestNode(t, Options{})
	poll := func(doc string) []providers.Notice {
		t.Helper()
		show(t, n.objects, doc)
		got, err := n.poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	both := nodeDoc(`"unschedulable": true, "taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]`, "")
	first := poll(both)
	if len(first) != 2 {
		t.Fatalf("%+v", first)
	}
	// Somebody else writes taints: the event is the same, whatever the fields' history says now.
	again := poll(strings.ReplaceAll(both, "05:06:07", "06:00:00"))
	if len(again) != 2 || again[0].ID != first[0].ID || again[1].ID != first[1].ID || again[1].Withdrawn || !again[1].Deadline.Equal(first[1].Deadline) {
		t.Errorf("%+v\nafter\n%+v", again, first)
	}
	// Only the cordon is taken back.
	if got := poll(taintDoc("karpenter.sh/disrupted", "", "")); len(got) != 2 || !got[0].Withdrawn || got[0].Kind != providers.Cordon || got[1].Withdrawn {
		t.Errorf("%+v", got)
	}
	// No object is no answer, and withdraws nothing.
	show(t, n.objects, "")
	if got, err := n.poll(t.Context()); err == nil || len(got) > 0 || !strings.Contains(err.Error(), `no node "node-1"`) {
		t.Errorf("%+v %v", got, err)
	}
	if got := poll(nodeDoc("", "")); len(got) != 1 || !got[0].Withdrawn || got[0].ID != first[1].ID {
		t.Errorf("%+v", got)
	}
	if got := poll(nodeDoc("", "")); len(got) != 0 {
		t.Errorf("withdrawn twice: %+v", got)
	}
	// The same taint later is another event.
	if got := poll(strings.ReplaceAll(taintDoc("karpenter.sh/disrupted", "", ""), "05:06:07", "07:00:00")); len(got) != 1 || got[0].ID == first[1].ID {
		t.Errorf("%+v", got)
	}
}

func TestShutdownHoldsWhileTheKubeletIsSilent(t *testing.T) {
	n := newTestNode(t, Options{ShutdownLead: time.Minute})
	doc := func(status, message string) string {
		return nodeDoc("", `"conditions": [{"type": "Ready", "status": "`+status+`", "message": "`+message+`", "lastTransitionTime": "2026-03-04T05:06:07Z"}]`)
	}
	var id string
	for i, step := range []struct {
		status, message string
		notices         int
		withdrawn       bool
	}{
		{"False", "node is shutting down", 1, false},
		{"Unknown", "Kubelet stopped posting node status.", 1, false},
		{"False", "node is shutting down", 1, false},
		{"True", "kubelet is posting ready status", 1, true},
		{"Unknown", "Kubelet stopped posting node status.", 0, false},
	} {
		show(t, n.objects, doc(step.status, step.message))
		got, err := n.poll(t.Context())
		if err != nil || len(got) != step.notices {
			t.Fatalf("step %d: %+v %v", i, got, err)
		}
		if len(got) == 0 {
			continue
		}
		id = max(id, got[0].ID)
		if got[0].ID != id || got[0].Withdrawn != step.withdrawn || !got[0].Deadline.Equal(said.Add(time.Minute)) {
			t.Errorf("step %d: %+v", i, got)
		}
	}
}

func TestWhatPodsSay(t *testing.T) {
	pod := func(labels, meta, status string) string {
		return `{"metadata": {"uid": "` + uid + `", "labels": {` + labels + `}` + meta + `},
			"spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 40}, "status": {` + status + `}}`
	}
	const (
		exec    = `"spark-role": "executor", "spark-app-selector": "spark-1", "spark-exec-id": "7", "team": "x"`
		deleted = `, "deletionTimestamp": "2026-03-04T05:06:07Z", "deletionGracePeriodSeconds": 40`
		running = `"phase": "Running"`
	)
	target := func(status, reason string) string {
		return running + `, "conditions": [{"type": "Ready", "status": "True"},
			{"type": "DisruptionTarget", "status": "` + status + `", "reason": "` + reason + `", "lastTransitionTime": "2026-03-04T05:06:07Z"}]`
	}
	for name, tt := range map[string]struct {
		doc      string
		skew     time.Duration
		deadline time.Time // zero: nothing
	}{
		"running":              {pod(exec, "", running), 0, time.Time{}},
		"deleted":              {pod(exec, deleted, running), 0, said},
		"deleted, clock":       {pod(exec, deleted, running), -time.Minute, said.Add(-time.Minute)},
		"deleted and evicted":  {pod(exec, deleted, target("True", "EvictionByEvictionAPI")), 0, said},
		"evicted":              {pod(exec, "", target("True", "EvictionByEvictionAPI")), time.Minute, said.Add(100 * time.Second)},
		"ended by the kubelet": {pod(exec, "", target("True", "TerminationByKubelet")), time.Minute, said.Add(40 * time.Second)},
		"no longer evicted":    {pod(exec, "", target("False", "")), 0, time.Time{}},
		"has ended":            {pod(exec, deleted, `"phase": "Succeeded"`), 0, time.Time{}},
		"has failed":           {pod(exec, deleted, `"phase": "Failed"`), 0, time.Time{}},
		"driver":               {pod(`"spark-role": "driver", "spark-app-selector": "spark-1"`, deleted, running), 0, time.Time{}},
		"no id":                {pod(`"spark-role": "executor", "spark-app-selector": "spark-1"`, deleted, running), 0, time.Time{}},
		"no application":       {pod(`"spark-role": "executor", "spark-exec-id": "7"`, deleted, running), 0, time.Time{}},
		"on another node":      {strings.Replace(pod(exec, deleted, running), "node-1", "node-2", 1), 0, time.Time{}},
		"deleted by us":        {pod(exec, deleted+`, "annotations": {"`+OwnMark+`": "r1"}`, running), 0, time.Time{}},
		"deleted by force":     {pod(exec, strings.Replace(deleted, "40", "0", 1), running), 0, said},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := NewPods(Options{Cluster: anywhere(t), Node: "node-1"})
			if err != nil {
				t.Fatal(err)
			}
			p.objects.skew = tt.skew
			show(t, p.objects, tt.doc)
			got, err := p.poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if tt.deadline.IsZero() {
				if len(got) > 0 {
					t.Errorf("invented: %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Kind != providers.Drain || got[0].ID != PodsName+"-"+uid || got[0].App != "spark-1" ||
				!slices.Equal(got[0].Executors, []string{"7"}) || !got[0].Deadline.Equal(tt.deadline) {
				t.Errorf("got %+v, want %v", got, tt.deadline)
			}
			show(t, p.objects, "") // it has gone
			if got, err := p.poll(t.Context()); err != nil || len(got) > 0 {
				t.Errorf("after its end: %+v %v", got, err)
			}
		})
	}
}

func TestPodIsDeletedFasterThanItWasSaid(t *testing.T) {
	p, err := NewPods(Options{Cluster: anywhere(t), Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, step := range []struct {
		at, grace string
		deadline  time.Time
	}{
		{"05:07:00", "60", said.Add(53 * time.Second)},
		{"05:06:10", "10", said.Add(3 * time.Second)},
		{"05:06:09", "0", said.Add(3 * time.Second)}, // the kubelet confirms
	} {
		show(t, p.objects, `{"metadata": {"uid": "u", "deletionTimestamp": "2026-03-04T`+step.at+`Z", "deletionGracePeriodSeconds": `+step.grace+`,
			"labels": {"spark-role": "executor", "spark-app-selector": "a", "spark-exec-id": "1"}}, "spec": {"nodeName": "node-1"}}`)
		got, err := p.poll(t.Context())
		if err != nil || len(got) != 1 || !got[0].Deadline.Equal(step.deadline) {
			t.Fatalf("%+v %v, want %v", got, err, step.deadline)
		}
		ids = append(ids, got[0].ID)
	}
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("one deletion has the ids %v", ids)
	}
}

func TestOptions(t *testing.T) {
	c := anywhere(t)
	t.Setenv(envNode, "")
	for name, tt := range map[string]struct {
		o    Options
		says string // "": accepted
	}{
		"right":         {Options{Cluster: c, Node: "n"}, ""},
		"no cluster":    {Options{Node: "n"}, "no cluster"},
		"no node":       {Options{Cluster: c}, "NODE_NAME"},
		"negative":      {Options{Cluster: c, Node: "n", Retry: -1}, "negative"},
		"no key":        {Options{Cluster: c, Node: "n", Taints: []Taint{{Kind: providers.Drain}}}, "taint key"},
		"key and value": {Options{Cluster: c, Node: "n", Taints: []Taint{{Key: "a=b"}}}, "taint key"},
		"cordon":        {Options{Cluster: c, Node: "n", Taints: []Taint{{Key: "node.kubernetes.io/unschedulable"}}}, "cordon"},
		"kind":          {Options{Cluster: c, Node: "n", Taints: []Taint{{Key: "a", Kind: "death"}}}, "no kind"},
		"lead":          {Options{Cluster: c, Node: "n", Taints: []Taint{{Key: "a", Kind: providers.Drain, Lead: -1}}}, "negative"},
	} {
		_, nodeErr := NewNode(tt.o)
		_, podsErr := NewPods(tt.o)
		for _, err := range []error{nodeErr, podsErr} {
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %q", name, err, tt.says)
			}
		}
	}
	t.Setenv(envNode, "from-the-environment")
	if n, err := NewNode(Options{Cluster: c}); err != nil || n.o.Node != "from-the-environment" {
		t.Errorf("node from the environment: %v", err)
	}
	for _, taint := range DisruptionTaints() {
		if err := taint.check(); err != nil {
			t.Error(err)
		}
	}
}

func TestEventsThatCannotBeToldApartAreCounted(t *testing.T) {
	n := newTestNode(t, Options{})
	var ids []string
	for _, taint := range []string{"karpenter.sh/disrupted", "example.com/none", "karpenter.sh/disrupted", "example.com/none", "karpenter.sh/disrupted"} {
		show(t, n.objects, `{"metadata": {"uid": "u"}, "spec": {"taints": [{"key": "`+taint+`"}]}}`)
		got, err := n.poll(t.Context())
		if err != nil || len(got) != 1 || got[0].Withdrawn != (taint == "example.com/none") {
			t.Fatalf("%+v %v", got, err)
		}
		ids = append(ids, got[0].ID)
	}
	const id = NodeName + "-u-karpenter.sh.disrupted"
	if want := []string{id, id, id + "-2", id + "-2", id + "-3"}; !slices.Equal(ids, want) {
		t.Errorf("ids %v, want %v", ids, want)
	}
}

func TestParseTaint(t *testing.T) {
	for text, want := range map[string]Taint{
		"example.com/leaving:drain:5m":          {Key: "example.com/leaving", Kind: providers.Drain, Lead: 5 * time.Minute},
		"example.com/state=going:preemption:0s": {Key: "example.com/state", Value: "going", Kind: providers.Preemption},
		"karpenter.sh/disrupted:none":           {Key: "karpenter.sh/disrupted"},
	} {
		if got, err := ParseTaint(text); err != nil || got != want {
			t.Errorf("%q: %+v %v, want %+v", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"":            "KEY:KIND:LEAD",
		"a":           "KEY:KIND:LEAD",
		"a:":          "KEY:KIND:LEAD",
		"a:drain":     "KEY:KIND:LEAD",
		"a:none:5m":   "KEY:KIND:LEAD",
		"a:drain:":    "lead time",
		"a:drain:5":   "lead time",
		"a:drain:-5m": "negative",
		"a:drain:1m:": "lead time",
		"a:death:5m":  "no kind",
		":drain:5m":   "taint key",
		"a b:none":    "taint key",
		"node.kubernetes.io/unschedulable:drain:5m": "cordon",
	} {
		if got, err := ParseTaint(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %+v %v, want %q", text, got, err, says)
		}
	}
}
