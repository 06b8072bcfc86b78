//go:build integration

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	hand "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// agentHand is an agent's client with the sources that feed it.
type agentHand struct {
	*hand.Client
	t    *testing.T
	node *kube.Node
	pods *kube.Pods
	proc string // its /proc
	stop func()
}

// newHand runs one for a machine; it ends with the test, or when stop is called.
func newHand(t *testing.T, d *door, m *machine, standing func() bool) *agentHand {
	t.Helper()
	return newHandOf(t, d.options(m.name, nil), standing)
}

func newHandOf(t *testing.T, o kube.Options, standing func() bool) *agentHand {
	t.Helper()
	node, err := kube.NewNode(o)
	must(t, err)
	pods, err := kube.NewPods(o)
	must(t, err)
	h := &agentHand{t: t, node: node, pods: pods, proc: t.TempDir()}
	must(t, os.Symlink("/proc/1", filepath.Join(h.proc, "1"))) // disks are looked for there
	h.Client = hand.New(hand.Options{
		Cluster: o.Cluster, Node: node, Pods: pods, Name: o.Node, Config: config.Default().Kubernetes, Standing: standing, Proc: h.proc,
	})
	ctx, cancel := context.WithCancel(context.Background())
	notices := make(chan providers.Notice)
	var all sync.WaitGroup
	all.Go(func() { _ = node.Run(ctx, notices) })
	all.Go(func() { _ = pods.Run(ctx, notices) })
	all.Go(func() { h.Run(ctx) })
	go func() {
		for n := range notices { // what counts is what the sources show
			t.Logf("notice %s", n.ID)
		}
	}()
	h.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		close(notices)
	})
	t.Cleanup(h.stop)
	h.until("the node is known", func() bool { _, known := node.State(); return known })
	return h
}

func (h *agentHand) until(what string, holds func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, what, func(context.Context) (bool, error) { return holds(), nil }); err != nil {
		h.t.Fatal(err)
	}
}

// nodeDoc is the Node object as the API server has it.
type nodeDoc struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Unschedulable bool `json:"unschedulable"`
		Taints        []struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		} `json:"taints"`
	} `json:"spec"`
}

func (m *machine) read() (n nodeDoc) {
	m.t.Helper()
	m.do(http.MethodGet, m.path(), nil, &n)
	return n
}

// ownTaint is the value of the taint of a rescue; "" when there is none.
func (n nodeDoc) ownTaint() string {
	for _, t := range n.Spec.Taints {
		if t.Key == kube.OwnTaint {
			return t.Value
		}
	}
	return ""
}

func (m *machine) boot(id string) {
	m.t.Helper()
	m.do(http.MethodPatch, m.path()+"/status", object{"status": object{"nodeInfo": object{
		"bootID": id, "machineID": "", "systemUUID": "", "kernelVersion": "", "osImage": "", "containerRuntimeVersion": "",
		"kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "", "architecture": "",
	}}}, nil)
}

var soon = hand.Rescue{Report: "r1", By: "aws-spot-1", Deadline: time.Now().Add(2 * time.Minute)}

// seesMark waits until the watch shows the mark in a phase, or none, and returns the kinds of notices that are shown then.
func (h *agentHand) seesMark(phase string) (kinds []providers.Kind) {
	h.t.Helper()
	h.until("the watch shows the mark "+phase, func() bool {
		s, _ := h.node.State()
		m, _ := s.Mark()
		return m.Phase == phase
	})
	// One more round trip of the watch, so that the source has looked at what the last one brought.
	at := h.node.Health().LastAnswer
	h.until("the watch goes on", func() bool {
		must(h.t, shared.Do(h.t.Context(), http.MethodPatch, "/api/v1/nodes/"+h.Name(), object{"metadata": object{"labels": object{"x": strconv.FormatInt(time.Now().UnixNano(), 36)}}}, nil))
		return h.node.Health().LastAnswer.After(at)
	})
	for _, n := range h.node.Notices() {
		kinds = append(kinds, n.Kind)
	}
	return kinds
}

// TestNodeIsMarkedWhileItIsRescued, in one request, and its own source says nothing of it: also not after a restart of the agent.
func TestNodeIsMarkedWhileItIsRescued(t *testing.T) {
	t.Parallel()
	d, m := newDoor(t), newMachine(t, shared)
	m.boot("boot-1")
	m.taint(taint{key: "team", value: "x"})
	h := newHand(t, d, m, nil)
	h.Begin(soon)
	must(t, h.AwaitMark(t.Context()))
	n := m.read()
	mark, err := kube.ParseMark(n.Metadata.Annotations[kube.OwnMark])
	if err != nil || mark.Report != "r1" || mark.Boot != "boot-1" || !mark.Cordoned || mark.By != "aws-spot-1" || !mark.Deadline.Equal(soon.Deadline) {
		t.Errorf("mark %+v, %v", mark, err)
	}
	if !n.Spec.Unschedulable || n.ownTaint() != kube.PhaseCopying || len(n.Spec.Taints) < 2 {
		t.Errorf("%+v", n.Spec)
	}
	if kinds := h.seesMark(kube.PhaseCopying); len(kinds) > 0 {
		t.Errorf("our own hand was taken for %v", kinds)
	}
	h.stop()
	h = newHand(t, d, m, func() bool { return true })
	if kinds := h.seesMark(kube.PhaseCopying); len(kinds) > 0 {
		t.Errorf("our own hand of an earlier run was taken for %v", kinds)
	}
	h.Ended(soon)
	must(t, h.AwaitMark(t.Context()))
	if n := m.read(); n.ownTaint() != kube.PhaseEnded || !n.Spec.Unschedulable {
		t.Errorf("%+v", n.Spec)
	}
	h.Withdrawn(soon.Report)
	must(t, h.AwaitMark(t.Context()))
	if n := m.read(); n.Spec.Unschedulable || n.ownTaint() != "" || n.Metadata.Annotations[kube.OwnMark] != "" || n.Spec.Taints[0].Key != "team" {
		t.Errorf("not given back as it was: %+v", n)
	}
}

// TestUncordonByHandIsNotUndone: the rescue goes on, and its mark is taken back when it has ended.
func TestUncordonByHandIsNotUndone(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	h := newHand(t, newDoor(t), m, func() bool { return true })
	h.Begin(soon)
	must(t, h.AwaitMark(t.Context()))
	m.cordon(false)
	h.until("the watch shows it", func() bool { s, _ := h.node.State(); return !s.Unschedulable })
	h.Ended(soon)
	must(t, h.AwaitMark(t.Context()))
	if m.read().Spec.Unschedulable {
		t.Error("cordoned again")
	}
	h.until("the mark is taken back", func() bool { n := m.read(); return n.ownTaint() == "" && n.Metadata.Annotations[kube.OwnMark] == "" })
}

// TestWithdrawnNoticeLeavesAnEarlierOne: the node is still to be taken for it.
func TestWithdrawnNoticeLeavesAnEarlierOne(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	h := newHand(t, newDoor(t), m, nil)
	second := soon
	second.Report = "r2"
	h.Begin(soon)
	h.Ended(soon)
	must(t, h.AwaitMark(t.Context()))
	h.Begin(second)
	must(t, h.AwaitMark(t.Context()))
	h.Withdrawn(second.Report)
	must(t, h.AwaitMark(t.Context()))
	n := m.read()
	mark, err := kube.ParseMark(n.Metadata.Annotations[kube.OwnMark])
	if err != nil || mark.Report != soon.Report || !mark.Cordoned || !n.Spec.Unschedulable || n.ownTaint() != kube.PhaseEnded {
		t.Errorf("%+v, %v, %+v", mark, err, n.Spec)
	}
}

// TestRescueThatIsNarrowed to some executors leaves the node to others; another rescue's mark is none of its business.
func TestRescueThatIsNarrowed(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	h := newHand(t, newDoor(t), m, nil)
	h.Begin(soon)
	h.Narrowed("r0")
	must(t, h.AwaitMark(t.Context()))
	if m.read().ownTaint() == "" {
		t.Error("taken back for another rescue")
	}
	h.Narrowed(soon.Report)
	must(t, h.AwaitMark(t.Context()))
	if n := m.read(); n.Spec.Unschedulable || n.ownTaint() != "" {
		t.Errorf("%+v", n.Spec)
	}
}

// TestCordonOfOthersStays one, and goes on being a notice.
func TestCordonOfOthersStays(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	m.cordon(true)
	h := newHand(t, newDoor(t), m, nil)
	h.Begin(soon)
	must(t, h.AwaitMark(t.Context()))
	if kinds := h.seesMark(kube.PhaseCopying); len(kinds) != 1 || kinds[0] != providers.Cordon {
		t.Errorf("notices %v", kinds)
	}
	h.Withdrawn(soon.Report)
	must(t, h.AwaitMark(t.Context()))
	if n := m.read(); !n.Spec.Unschedulable || n.ownTaint() != "" {
		t.Errorf("%+v", n.Spec)
	}
}

// TestNodeThatStaysIsGivenBack: the machine came back under its name, or has outlived its deadline with no notice standing.
func TestNodeThatStaysIsGivenBack(t *testing.T) {
	t.Parallel()
	long := soon
	long.Deadline = time.Now().Add(-16 * time.Minute)
	for name, tt := range map[string]struct {
		rescue   hand.Rescue
		standing bool
		boot     string
		back     bool
	}{
		"came back":               {soon, true, "boot-2", true},
		"still to be taken":       {soon, false, "boot-1", false},
		"outlived":                {long, false, "boot-1", true},
		"the notice still stands": {long, true, "boot-1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, m := newDoor(t), newMachine(t, shared)
			m.boot("boot-1")
			h := newHand(t, d, m, nil)
			h.Begin(tt.rescue)
			must(t, h.AwaitMark(t.Context()))
			h.stop()
			m.boot(tt.boot)
			h = newHand(t, d, m, func() bool { return tt.standing })
			h.seesMarkOrNone(tt.back)
			if n := m.read(); n.Spec.Unschedulable == tt.back {
				t.Errorf("unschedulable: %v", n.Spec.Unschedulable)
			}
		})
	}
}

// seesMarkOrNone waits until the mark is taken back, or until the client has looked at the node and left it.
func (h *agentHand) seesMarkOrNone(back bool) {
	h.t.Helper()
	if back {
		h.seesMark("")
		return
	}
	for range 3 {
		h.seesMark(kube.PhaseCopying)
	}
}

// TestNodeIsMarkedLater when the API server was away, and while others write to the node all the time.
func TestNodeIsMarkedLater(t *testing.T) {
	t.Parallel()
	d, m := newDoor(t), newMachine(t, shared)
	h := newHand(t, d, m, nil)
	d.SetFault("unavailable")
	h.Begin(soon)
	if err := h.AwaitMark(t.Context()); !errors.Is(err, kube.ErrAway) {
		t.Errorf("%v", err)
	}
	writing, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	busy.Go(func() {
		for i := 0; writing.Err() == nil; i++ {
			_ = shared.Do(writing, http.MethodPatch, m.path(), object{"metadata": object{"labels": object{"i": strconv.Itoa(i)}}}, nil)
		}
	})
	d.SetFault("none")
	h.until("the node is marked", func() bool { return h.AwaitMark(t.Context()) == nil })
	stop()
	busy.Wait()
	if n := m.read(); n.ownTaint() != kube.PhaseCopying {
		t.Errorf("%+v", n.Spec)
	}
}

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
