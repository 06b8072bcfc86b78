//go:build integration

package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	hand "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/integration/chart"
	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// collections are where objects of the chart are made, below a namespace or not.
var collections = map[string]string{
	"ServiceAccount":                   "/api/v1/namespaces/lifeboat/serviceaccounts",
	"ConfigMap":                        "/api/v1/namespaces/lifeboat/configmaps",
	"Service":                          "/api/v1/namespaces/lifeboat/services",
	"ResourceQuota":                    "/api/v1/namespaces/lifeboat/resourcequotas",
	"DaemonSet":                        "/apis/apps/v1/namespaces/lifeboat/daemonsets",
	"Deployment":                       "/apis/apps/v1/namespaces/lifeboat/deployments",
	"PodDisruptionBudget":              "/apis/policy/v1/namespaces/lifeboat/poddisruptionbudgets",
	"Role":                             rbac + "namespaces/lifeboat/roles",
	"RoleBinding":                      rbac + "namespaces/lifeboat/rolebindings",
	"ClusterRole":                      clusterRoles,
	"ClusterRoleBinding":               rbac + "clusterrolebindings",
	"ValidatingAdmissionPolicy":        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}

var once sync.Once // the chart is installed for all tests of this file

// installed waits until the chart's objects are there and the policy is in force. The API server refuses what it does not know.
func installed(t *testing.T) {
	t.Helper()
	once.Do(func() { install(t, shared, map[string]any{"metrics": map[string]any{"enabled": true}}) })
	own, other := newMachine(t, shared), newMachine(t, shared)
	agent := agentOn(t, own)
	until(t, "the policy is in force", func() bool { return errors.Is(agent.Do(t.Context(), mark(other.path())), kube.ErrForbidden) })
	must(t, agent.Do(t.Context(), mark(own.path())))
}

func install(t *testing.T, c *kubelab.Cluster, values map[string]any) {
	t.Helper()
	helm, err := chart.New(t.Context(), os.Stderr)
	must(t, err)
	manifest, err := helm.Manifests(t.Context(), chart.Release{Values: values})
	must(t, err)
	list, err := chart.Objects(manifest)
	must(t, err)
	must(t, c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": "lifeboat"}}, nil))
	for _, o := range list {
		path, ok := collections[o["kind"].(string)]
		if !ok {
			t.Fatalf("where is a %s made?", o["kind"])
		}
		if in, ok := o["metadata"].(map[string]any)["namespace"].(string); ok {
			path = strings.Replace(path, "/namespaces/lifeboat/", "/namespaces/"+in+"/", 1)
		}
		must(t, c.Do(t.Context(), http.MethodPost, path+"?fieldValidation=Strict", o, nil))
	}
}

// agentOn is what the agent's pod on a machine may do at the API server.
func agentOn(t *testing.T, m *machine) *kube.Cluster {
	t.Helper()
	cluster, err := kube.Open(kube.Access{Kubeconfig: agentAccount(t, m.c, m.name)})
	must(t, err)
	t.Cleanup(cluster.Close)
	return cluster
}

// agentUser is who the agents are that the chart installs.
const agentUser = "system:serviceaccount:lifeboat:lifeboat"

// agentAccount is a kubeconfig for the agent's pod on a node, with the token that the kubelet gives such a pod.
func agentAccount(t *testing.T, c *kubelab.Cluster, node string) (kubeconfig string) {
	t.Helper()
	var pod struct {
		Metadata struct{ UID string }
	}
	name := fmt.Sprintf("agent-%s-%d", node, count.Add(1))
	must(t, c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/lifeboat/pods", object{"metadata": object{"name": name}, "spec": object{
		"nodeName": node, "serviceAccountName": "lifeboat", "containers": []object{{"name": "agent", "image": "lifeboat"}},
	}}, &pod))
	var answer struct {
		Status struct{ Token string }
	}
	must(t, c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/lifeboat/serviceaccounts/lifeboat/token", object{"spec": object{
		"boundObjectRef": object{"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod.Metadata.UID},
	}}, &answer))
	dir := t.TempDir()
	token, kubeconfig := filepath.Join(dir, "token"), filepath.Join(dir, "kubeconfig")
	must(t, os.WriteFile(token, []byte(answer.Status.Token), 0o600))
	must(t, c.Kubeconfig(kubeconfig, c.URL, kubelab.User{TokenFile: token}))
	return kubeconfig
}

// TestAgentWorksWithinItsRights: with the chart's role and policy an agent does all that a rescue does at the API server.
func TestAgentWorksWithinItsRights(t *testing.T) {
	installed(t)
	own, other := newMachine(t, shared), newMachine(t, shared)
	app := "spark-rights-" + own.name
	driver, uid := other.sparkPod(object{"spark-role": "driver"}, nil, "10.9.5.1")
	own.sparkPod(executorLabels(app), object{"apiVersion": "v1", "kind": "Pod", "name": driver, "uid": uid, "controller": true}, "10.9.5.2")
	claim := own.boundClaim(app)
	h := newHandOf(t, kube.Options{Cluster: agentOn(t, own), Node: own.name, Retry: 100 * time.Millisecond}, nil)
	h.until("the pod is known", func() bool { return len(h.Executors()) == 1 })
	pod := h.Executors()[0]

	h.Begin(soon)
	must(t, h.AwaitMark(t.Context()))
	about := []hand.Object{hand.PodObject(pod), hand.DriverObject(pod), h.NodeObject()}
	h.Tell("r1", hand.Began, "it begins", about...)
	h.NoteRescue("r1", about[1:]...)
	must(t, h.MarkClaim(own.mark(claim, app, kube.OwnerRef{Kind: "Pod", Name: driver, UID: uid}))(t.Context()))
	must(t, h.EndPod(t.Context(), pod, "r1"))
	must(t, h.FailPod(t.Context(), pod, "r1"))
	must(t, h.DropPod(t.Context(), pod))
	h.Ended(soon)
	must(t, h.AwaitMark(t.Context()))
	h.until("all is said", func() bool { waiting, _ := h.Unsaid("r1"); return len(waiting) == 0 })
	if _, failed := h.Unsaid("r1"); len(failed) > 0 {
		t.Errorf("refused: %q", failed)
	}
	h.Withdrawn(soon.Report)
	must(t, h.AwaitMark(t.Context()))
	h.until("the claim is shown again", func() bool { return own.claim(claim).Metadata.Labels[kube.LabelApp] == app })
	if n := own.read(); n.Spec.Unschedulable || n.Metadata.Annotations[kube.LastRescue] != "r1" {
		t.Errorf("the node: %+v", n)
	}
}

// deed is something that an agent tries.
type deed struct {
	what    string
	request kube.Request
	allowed bool
}

func mark(path string) kube.Request {
	return kube.Request{Method: http.MethodPatch, Path: path, Patch: kube.MergePatch, In: object{"metadata": object{"annotations": object{"lifeboat.dev/rescue": "r"}}}}
}

// TestChartHoldsAgentsToTheirNodes: with the chart's role and policy, on a real API server.
func TestChartHoldsAgentsToTheirNodes(t *testing.T) {
	installed(t)
	own, other := newMachine(t, shared), newMachine(t, shared)
	agent := agentOn(t, own)
	const claims = "/api/v1/namespaces/" + namespace + "/persistentvolumeclaims"
	own.do(http.MethodPost, claims, object{"metadata": object{"name": "disk"}, "spec": object{
		"accessModes": []string{"ReadWriteOnce"}, "resources": object{"requests": object{"storage": "1Gi"}},
	}}, nil)
	bystander := own.executor(1, "driver")
	own.do(http.MethodPatch, podPath(bystander), object{"metadata": object{"labels": object{"spark-exec-id": nil}}}, nil)
	victim, far := own.executor(2, "executor"), other.executor(3, "executor")
	leaving := other.executor(4, "executor")
	other.remove(leaving, grace)
	remove := func(pod string) kube.Request { return kube.Request{Method: http.MethodDelete, Path: podPath(pod)} }
	fail := func(pod string) kube.Request {
		return kube.Request{Method: http.MethodPatch, Path: podPath(pod) + "/status", Patch: kube.MergePatch, In: object{"status": object{"phase": "Failed"}}}
	}
	get := func(path string) kube.Request { return kube.Request{Method: http.MethodGet, Path: path} }

	for _, d := range []deed{
		{"mark another node", mark(other.path()), false},
		{"mark its own node", mark(own.path()), true},
		{"list pods of all namespaces", get("/api/v1/pods"), true},
		{"read a driver elsewhere", get(podPath(far)), true},
		{"mark a pod elsewhere", mark(podPath(far)), true},
		{"mark a claim", mark(claims + "/disk"), true},
		{"change what a pod is", kube.Request{Method: http.MethodPatch, Path: podPath(far), Patch: kube.MergePatch, In: object{
			"spec": object{"activeDeadlineSeconds": 5}}}, false},
		{"end an executor elsewhere", remove(far), false},
		{"end a pod that is no executor", remove(bystander), false},
		{"fail an executor that is not being deleted", fail(victim), false},
		{"end an executor of its own node", remove(victim), true},
		{"fail it then", fail(victim), true},
		{"fail an executor elsewhere", fail(leaving), false},
		{"read secrets", get("/api/v1/secrets"), false},
		{"make pods", kube.Request{Method: http.MethodPost, Path: "/api/v1/namespaces/" + namespace + "/pods", In: object{}}, false},
		{"remove its node", kube.Request{Method: http.MethodDelete, Path: own.path()}, false},
		{"write a pod's status", mark(podPath(far) + "/status"), false},
		{"evict", kube.Request{Method: http.MethodPost, Path: podPath(far) + "/eviction", In: object{}}, false},
	} {
		err := agent.Do(t.Context(), d.request)
		if d.allowed && err != nil || !d.allowed && !errors.Is(err, kube.ErrForbidden) {
			t.Errorf("%s: %v", d.what, err)
		}
	}
}

// TestNamespaceMustAllowTheAgent: the label that the installation page names is needed, and is enough.
func TestNamespaceMustAllowTheAgent(t *testing.T) {
	t.Parallel()
	helm, err := chart.New(t.Context(), os.Stderr)
	must(t, err)
	manifest, err := helm.Manifests(t.Context(), chart.Release{})
	must(t, err)
	list, err := chart.Objects(manifest)
	must(t, err)
	var template any
	for _, o := range list {
		if o["kind"] == "DaemonSet" {
			template = o["spec"].(map[string]any)["template"].(map[string]any)["spec"]
		}
	}
	for level, admitted := range map[string]bool{"privileged": true, "baseline": false} {
		ns := "agents-" + level
		must(t, shared.Do(t.Context(), http.MethodPost, "/api/v1/namespaces", object{
			"metadata": object{"name": ns, "labels": object{"pod-security.kubernetes.io/enforce": level}},
		}, nil))
		err := shared.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/"+ns+"/pods?dryRun=All", object{
			"metadata": object{"name": "agent"}, "spec": template,
		}, nil)
		var refused *kubelab.StatusError
		if admitted && err != nil || !admitted && (!errors.As(err, &refused) || refused.Code != http.StatusForbidden) {
			t.Errorf("%s: %v", level, err)
		}
		if !admitted && !strings.Contains(err.Error(), "violates PodSecurity") {
			t.Errorf("refused for another reason: %v", err)
		}
	}
}
