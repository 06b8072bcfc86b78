//go:build integration

package kubernetes

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/kubelab"
)

// machine is a Node object with the executors on it.
type machine struct {
	t    *testing.T
	c    *kubelab.Cluster
	name string
	pods []string // names of executors' pods that are there
}

var count atomic.Int64

// newMachine makes a Node object with a name of its own.
func newMachine(t *testing.T, c *kubelab.Cluster) *machine {
	t.Helper()
	m := &machine{t: t, c: c, name: fmt.Sprintf("node-%d", count.Add(1))}
	m.register()
	return m
}

// register makes the object as a kubelet does: with a label. An object that has nothing gets no history of its fields.
func (m *machine) register() {
	m.t.Helper()
	m.do(http.MethodPost, "/api/v1/nodes", object{"metadata": object{"name": m.name, "labels": object{"kubernetes.io/hostname": m.name}}}, nil)
}

func (m *machine) do(method, path string, in, out any) {
	m.t.Helper()
	must(m.t, m.c.Do(m.t.Context(), method, path, in, out))
}

func (m *machine) path() string { return "/api/v1/nodes/" + m.name }

type taint struct {
	key, value string
	added      time.Time
}

// taint replaces the taints.
func (m *machine) taint(taints ...taint) {
	m.t.Helper()
	list := []object{}
	for _, t := range taints {
		o := object{"key": t.key, "value": t.value, "effect": "NoSchedule"}
		if !t.added.IsZero() {
			o["timeAdded"] = t.added.UTC().Format(time.RFC3339)
		}
		list = append(list, o)
	}
	m.do(http.MethodPatch, m.path(), object{"spec": object{"taints": list}}, nil)
}

func (m *machine) cordon(on bool) {
	m.t.Helper()
	m.do(http.MethodPatch, m.path(), object{"spec": object{"unschedulable": on}}, nil)
}

func (m *machine) annotate(key string, value any) {
	m.t.Helper()
	m.do(http.MethodPatch, m.path(), object{"metadata": object{"annotations": object{key: value}}}, nil)
}

// ready sets the condition Ready as a kubelet, or the control plane, does.
func (m *machine) ready(status, reason, message string, at time.Time) {
	m.t.Helper()
	m.do(http.MethodPatch, m.path()+"/status", object{"status": object{"conditions": []object{
		{"type": "MemoryPressure", "status": "False"},
		{"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": at.UTC().Format(time.RFC3339)},
	}}}, nil)
}

const app = "spark-0a1b2c"

// executor makes the pod of an executor on this machine, as Spark does.
func (m *machine) executor(id int, role string) (pod string) {
	m.t.Helper()
	pod = fmt.Sprintf("exec-%d", count.Add(1))
	m.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", object{
		"metadata": object{"name": pod, "labels": object{"spark-role": role, "spark-app-selector": app, "spark-exec-id": strconv.Itoa(id)}},
		"spec": object{
			"nodeName": m.name, "terminationGracePeriodSeconds": grace / time.Second, "restartPolicy": "Never",
			"containers": []object{{"name": "executor", "image": "spark"}},
		},
	}, nil)
	m.pods = append(m.pods, pod)
	return pod
}

const grace = 30 * time.Second

func podPath(pod string) string { return "/api/v1/namespaces/" + namespace + "/pods/" + pod }

// disrupt sets the condition DisruptionTarget.
func (m *machine) disrupt(pod, status, reason string, at time.Time) {
	m.t.Helper()
	m.do(http.MethodPatch, podPath(pod)+"/status", object{"status": object{"phase": "Running", "conditions": []object{
		{"type": "DisruptionTarget", "status": status, "reason": reason, "lastTransitionTime": at.UTC().Format(time.RFC3339)},
	}}}, nil)
}

// remove deletes a pod with a grace period, and returns when it has to be gone by the API server's clock.
func (m *machine) remove(pod string, grace time.Duration) time.Time {
	m.t.Helper()
	var o struct {
		Metadata struct {
			DeletionTimestamp time.Time `json:"deletionTimestamp"`
		} `json:"metadata"`
	}
	m.do(http.MethodDelete, fmt.Sprintf("%s?gracePeriodSeconds=%d", podPath(pod), grace/time.Second), nil, &o)
	return o.Metadata.DeletionTimestamp
}

// gone ends all pods at once, as when the kubelet has confirmed.
func (m *machine) gone() {
	m.t.Helper()
	for _, pod := range m.pods {
		m.remove(pod, 0)
	}
	m.pods = nil
}

const (
	rbac         = "/apis/rbac.authorization.k8s.io/v1/"
	clusterRoles = rbac + "clusterroles"
)

// role has the machine's name, and these verbs on nodes and pods.
func (m *machine) role(verbs ...string) object {
	return object{"metadata": object{"name": m.name}, "rules": []object{{"apiGroups": []string{""}, "resources": []string{"nodes", "pods"}, "verbs": verbs}}}
}

// grant gives somebody the role.
func (m *machine) grant(subject object, verbs ...string) {
	m.t.Helper()
	m.do(http.MethodPost, clusterRoles, m.role(verbs...), nil)
	m.do(http.MethodPost, rbac+"clusterrolebindings", object{
		"metadata": object{"name": m.name},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": m.name},
		"subjects": []object{subject},
	}, nil)
}
