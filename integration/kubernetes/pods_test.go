//go:build integration

package kubernetes

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// sparkPod makes a running pod with an address.
func (m *machine) sparkPod(labels, owner object, ip string) (name, uid string) {
	m.t.Helper()
	name = fmt.Sprintf("spark-%d", count.Add(1))
	meta := object{"name": name, "labels": labels}
	if owner != nil {
		meta["ownerReferences"] = []object{owner}
	}
	var made struct {
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
	}
	m.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", object{"metadata": meta, "spec": object{
		"nodeName": m.name, "containers": []object{{"name": "spark", "image": "spark", "env": []object{
			{"name": "SPARK_EXECUTOR_ID", "value": "1"}, {"name": "SPARK_DRIVER_URL", "value": "spark://CoarseGrainedScheduler@" + driverHost(m) + ":7078"},
		}}},
	}}, &made)
	m.do(http.MethodPatch, podPath(name)+"/status", object{"status": object{"phase": "Running", "podIP": ip, "podIPs": []object{{"ip": ip}}}}, nil)
	return name, made.Metadata.UID
}

func driverHost(m *machine) string { return m.name + "-driver-svc.spark.svc" }

func executorLabels(app string) object {
	return object{"spark-role": "executor", "spark-app-selector": app, "spark-exec-id": "1"}
}

// TestPodIsDeletedAsOurOwn: the deletion is no notice, and it is that pod or none.
func TestPodIsDeletedAsOurOwn(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	name, uid := m.sparkPod(executorLabels("spark-del-"+m.name), nil, "10.9.1.1")
	h := newHand(t, newDoor(t), m, nil)
	h.until("the pod is known", func() bool { return len(h.Executors()) == 1 })
	pod := h.Executors()[0]
	other := pod
	other.UID = strings.Replace(uid, uid[:4], "0000", 1)
	must(t, h.EndPod(t.Context(), other, "r1"))
	if p := h.Executors()[0]; p.Leaving() || p.Marked() != "" {
		t.Errorf("another pod was taken for it: %+v", p)
	}
	must(t, h.EndPod(t.Context(), pod, "r1"))
	h.until("the pod is being deleted", func() bool { return h.Executors()[0].Leaving() })
	var o struct {
		Metadata struct {
			Grace       int               `json:"deletionGracePeriodSeconds"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	m.do(http.MethodGet, podPath(name), nil, &o)
	if o.Metadata.Grace != 2 || o.Metadata.Annotations[kube.OwnMark] != "r1" {
		t.Errorf("%+v", o)
	}
	if n := h.pods.Notices(); len(n) > 0 {
		t.Errorf("our own hand was taken for %+v", n)
	}
	m.remove(name, 0)
	h.until("the pod has gone", func() bool { return len(h.Executors()) == 0 })
	must(t, h.EndPod(t.Context(), pod, "r1"))
}

// TestPodOfAnExecutor is known by its control group. A process that only looks like an executor has no pod.
func TestPodOfAnExecutor(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	app := "spark-join-" + m.name
	_, uid := m.sparkPod(executorLabels(app), nil, "10.9.3.1")
	_, another := m.sparkPod(executorLabels("spark-other-"+m.name), nil, "10.9.3.2")
	h := newHand(t, newDoor(t), m, nil)
	h.until("the pods are known", func() bool { return len(h.Executors()) == 2 })
	for name, tt := range map[string]struct {
		uid   string // in its control group; "": there is none
		app   string
		id    string
		known bool
	}{
		"its own":                 {uid, app, "1", true},
		"gone":                    {"", app, "1", true},
		"of another application":  {another, app, "1", false},
		"of another executor":     {uid, app, "2", false},
		"in a pod that is none":   {"5a1b9d6e-0f3c-4a6e-9a53-1c7d1f0a2b3c", app, "1", false},
		"gone, and never known":   {"", app, "2", false},
		"gone, of an unknown app": {"", "spark-nobody", "1", false},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.MkdirAll(filepath.Join(h.proc, "77"), 0o755))
			if tt.uid != "" {
				must(t, os.WriteFile(filepath.Join(h.proc, "77", "cgroup"), []byte("0::/kubepods/burstable/pod"+tt.uid+"/0a1b\n"), 0o600))
			} else {
				_ = os.Remove(filepath.Join(h.proc, "77", "cgroup"))
			}
			p, known := h.PodOf(executor.Executor{App: tt.app, ID: tt.id, PID: 77})
			if known != tt.known || known && p.UID != uid {
				t.Errorf("%v %+v", known, p)
			}
		})
	}
}

// TestDriverIsKnownWhileTheAPIServerIsAway, also by the name of its service.
func TestDriverIsKnownWhileTheAPIServerIsAway(t *testing.T) {
	t.Parallel()
	d, m, elsewhere := newDoor(t), newMachine(t, shared), newMachine(t, shared)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	must(t, err)
	driver, uid := elsewhere.sparkPod(object{"spark-role": "driver"}, nil, "127.0.0.1")
	m.sparkPod(executorLabels("spark-drv-"+m.name), object{"apiVersion": "v1", "kind": "Pod", "name": driver, "uid": uid, "controller": true}, "10.9.2.1")
	h := newHand(t, d, m, nil)
	h.until("the driver is known", func() bool {
		for _, p := range h.Executors() {
			if _, _, known := h.DriverAddress(p); known {
				return true
			}
		}
		return false
	})
	d.SetFault("unavailable")
	if ip, node, _ := h.DriverAddress(h.Executors()[0]); ip != "127.0.0.1" || node != elsewhere.name {
		t.Errorf("%s on %s", ip, node)
	}
	conn, err := h.Dial(t.Context(), &net.Dialer{}, "tcp", net.JoinHostPort(driverHost(m), port))
	must(t, err)
	conn.Close()
}

// TestPeersOnNodesThatGo are known, with one list and one request for each node; the last that was known counts while the API server is away.
func TestPeersOnNodesThatGo(t *testing.T) {
	t.Parallel()
	d, m := newDoor(t), newMachine(t, shared)
	h := newHand(t, d, m, nil)
	app := "spark-peers-" + m.name
	kinds := []string{"fine", "cordoned", "tainted", "marked", "not ready", "likely"}
	hosts := []string{"10.8.0.99"}
	machines := map[string]*machine{}
	for i, kind := range kinds {
		x := newMachine(t, shared)
		x.ready("True", "KubeletReady", "", time.Now())
		x.taint() // new nodes are tainted as not ready
		host := fmt.Sprintf("10.8.0.%d", i)
		x.sparkPod(executorLabels(app), nil, host)
		hosts, machines[kind] = append(hosts, host), x
	}
	machines["cordoned"].cordon(true)
	machines["tainted"].taint(taint{key: "karpenter.sh/disrupted"})
	machines["marked"].annotate(kube.OwnMark, `{"report": "r9", "phase": "copying"}`)
	machines["not ready"].ready("Unknown", "NodeStatusUnknown", "", time.Now())
	machines["likely"].taint(taint{key: "DeletionCandidateOfClusterAutoscaler", value: "1"})
	before := len(d.asked())
	check := func() {
		t.Helper()
		got, _ := h.Peers(t.Context(), namespace, app, hosts)
		if len(got) != len(kinds) {
			t.Fatalf("%+v", got)
		}
		for i, kind := range kinds {
			p := got[hosts[i+1]]
			if p.Node != machines[kind].name || (p.Doomed == "") != (kind == "fine" || kind == "likely") {
				t.Errorf("%s: %+v", kind, p)
			}
		}
	}
	check()
	made := d.asked()[before:]
	if len(made) != 1+len(kinds) {
		t.Errorf("%d requests: %q", len(made), made)
	}
	d.SetFault("unavailable")
	check()
}

// asked are the requests that came through the door, without watches.
func (d *door) asked() (some []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.requests {
		if !strings.Contains(r, "watch=true") {
			some = append(some, r)
		}
	}
	return some
}
