package kube

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// executorDoc is a pod as Spark 3.5 makes it, with a sidecar and claims, shortened to what is looked at.
const executorDoc = `{"metadata": {"namespace": "jobs", "name": "j-exec-3", "uid": "u", "resourceVersion": "5",
  "labels": {"spark-role": "executor", "spark-app-selector": "spark-1", "spark-exec-id": "3", "team": "x"},
  "annotations": {"lifeboat.dev/rescue": "r1", "example.com/other": "y"},
  "deletionTimestamp": "2026-03-04T05:06:07Z", "deletionGracePeriodSeconds": 30,
  "ownerReferences": [{"kind": "Other", "name": "o", "uid": "ou"}, {"kind": "Pod", "name": "j-driver", "uid": "du", "controller": true}]},
 "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 45, "volumes": [
   {"name": "spark-local-dir-1", "persistentVolumeClaim": {"claimName": "j-exec-3-pvc-0"}},
   {"name": "deps", "persistentVolumeClaim": {"claimName": "deps", "readOnly": true}},
   {"name": "spark-local-dir-2", "emptyDir": {}}],
  "containers": [
   {"name": "sidecar", "env": [{"name": "SPARK_LOCAL_DIRS", "value": "/no"}], "volumeMounts": [{"name": "deps", "mountPath": "/no"}]},
   {"name": "spark", "env": [{"name": "SPARK_EXECUTOR_ID", "value": "3"}, {"name": "_SPARK_AUTH_SECRET", "value": "s3cret"},
     {"name": "SPARK_LOCAL_DIRS", "value": "/data/a,/data/b"}],
    "lifecycle": {"preStop": {"exec": {"command": ["/opt/decom.sh"]}}},
    "volumeMounts": [{"name": "spark-local-dir-1", "mountPath": "/data/a"}, {"name": "deps", "mountPath": "/deps", "subPath": "s"},
     {"name": "spark-local-dir-2", "mountPath": "/data/b"}]}]},
 "status": {"phase": "Running", "podIP": "10.1.2.3"}}`

func TestViewOfAPod(t *testing.T) {
	p, err := NewPods(Options{Cluster: anywhere(t), Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	changed := p.Changed()
	if len(p.Executors()) > 0 {
		t.Error("known before the first answer")
	}
	show(t, p.objects, executorDoc)
	<-changed
	want := Pod{
		Namespace: "jobs", Name: "j-exec-3", UID: "u", IP: "10.1.2.3", Node: "node-1", App: "spark-1", Executor: "3", Phase: corev1.PodRunning,
		Deleting: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Grace: 45 * time.Second, Hook: []string{"/opt/decom.sh"},
		Driver: OwnerRef{Kind: "Pod", Name: "j-driver", UID: "du"}, LocalDirs: []string{"/data/a", "/data/b"}, Mounts: []string{"/data/a", "/deps", "/data/b"},
		Claims: []ClaimMount{
			{Claim: "j-exec-3-pvc-0", Path: "/data/a"},
			{Claim: "deps", Path: "/deps", SubPath: "s", ReadOnly: true},
		},
		Annotations: map[string]string{OwnMark: "r1"},
	}
	got := p.Executors()
	if len(got) != 1 || !got[0].Deleting.Equal(want.Deleting) {
		t.Fatalf("%+v", got)
	}
	got[0].Deleting = want.Deleting
	if !p.Has("10.1.2.3") || p.Has("10.1.2.4") || p.Has("") {
		t.Error("its address is not known, or another one is")
	}
	if !reflect.DeepEqual(got[0], want) || got[0].Marked() != "r1" || got[0].Over() {
		t.Errorf("got %+v\nwant %+v", got[0], want)
	}
}

// TestAddressesOfTheDead: what has ended keeps an address that somebody else may have by now, on another node too.
func TestAddressesOfTheDead(t *testing.T) {
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		p, err := NewPods(Options{Cluster: anywhere(t), Node: "node-1"})
		if err != nil {
			t.Fatal(err)
		}
		show(t, p.objects, strings.Replace(executorDoc, "Running", string(phase), 1))
		if len(p.Executors()) != 1 || p.Has("10.1.2.3") {
			t.Errorf("%s: the address counts", phase)
		}
	}
}

func TestOfAPodOnlyThatIsKept(t *testing.T) {
	p, err := NewPods(Options{Cluster: anywhere(t), Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	var o podObject
	if err := json.Unmarshal([]byte(executorDoc), &o); err != nil {
		t.Fatal(err)
	}
	p.reduce(&o)
	if o.Spec.Containers != nil || o.Spec.Volumes != nil || o.Metadata.OwnerReferences != nil {
		t.Errorf("%+v", o)
	}
}

func TestViewOfTheNode(t *testing.T) {
	n := newTestNode(t, Options{})
	if _, known := n.State(); known {
		t.Error("known before the first answer")
	}
	show(t, n.objects, `{"metadata": {"name": "node-1", "uid": "u", "resourceVersion": "9", "annotations": {"lifeboat.dev/rescue": "{}", "a": "b"}},
		"spec": {"unschedulable": true, "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
		"status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "nodeInfo": {"bootID": "b1"}}}`)
	want := NodeState{
		Name: "node-1", UID: "u", ResourceVersion: "9", BootID: "b1", Unschedulable: true, Ready: corev1.ConditionUnknown,
		Taints: []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}, Annotations: map[string]string{OwnMark: "{}"},
	}
	if got, known := n.State(); !known || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %+v", known, got)
	}
}
