//go:build integration

package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/kube"
)

const patience = time.Minute

// watching is a source that runs until the test ends.
type watching struct {
	t       *testing.T
	source  source
	notices chan providers.Notice
	stop    func()
}

type source interface {
	providers.Source
	providers.Sight
}

func watch(t *testing.T, s source, err error) *watching {
	t.Helper()
	must(t, err)
	w := &watching{t: t, source: s, notices: make(chan providers.Notice, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, w.notices) }()
	w.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		done <- context.Canceled
	}
	t.Cleanup(w.stop)
	return w
}

func (w *watching) next() providers.Notice {
	w.t.Helper()
	select {
	case n := <-w.notices:
		return n
	case <-time.After(patience):
		w.t.Fatalf("no notice; health: %+v", w.source.Health())
		return providers.Notice{}
	}
}

// silent checks that nothing was sent that nobody has looked at.
func (w *watching) silent() {
	w.t.Helper()
	select {
	case n := <-w.notices:
		w.t.Errorf("sent: %+v", n)
	default:
	}
}

// health waits until the source is as it should be, and says so with these words.
func (w *watching) health(ok bool, words string) {
	w.t.Helper()
	w.until(fmt.Sprintf("health is %v with %q", ok, words), func() bool {
		h := w.source.Health()
		return h.OK == ok && strings.Contains(h.Error, words)
	})
}

func (w *watching) until(what string, holds func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, what, func(context.Context) (bool, error) { return holds(), nil }); err != nil {
		w.t.Fatalf("%v; health: %+v", err, w.source.Health())
	}
}

// direct are options for a source that asks the API server itself.
func direct(t *testing.T, c *kubelab.Cluster, kubeconfig, node string) kube.Options {
	t.Helper()
	cluster, err := kube.Open(kube.Access{Kubeconfig: kubeconfig, Ping: time.Second})
	must(t, err)
	t.Cleanup(cluster.Close)
	return kube.Options{Cluster: cluster, Node: node, Retry: 100 * time.Millisecond, Look: 100 * time.Millisecond}
}

func watchNode(t *testing.T, m *machine) *watching {
	t.Helper()
	s, err := kube.NewNode(direct(t, m.c, m.c.AdminKubeconfig(), m.name))
	return watch(t, s, err)
}

func watchPods(t *testing.T, m *machine) *watching {
	t.Helper()
	s, err := kube.NewPods(direct(t, m.c, m.c.AdminKubeconfig(), m.name))
	return watch(t, s, err)
}

func TestCordonAndUncordon(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	w := watchNode(t, m)
	w.health(true, "")
	m.cordon(true)
	n := w.next()
	if n.Kind != providers.Cordon || n.Withdrawn || n.Source != kube.NodeName {
		t.Errorf("%+v", n)
	}
	// Another run of the agent knows it again.
	if again := watchNode(t, m).next(); again.ID != n.ID || !again.Deadline.Equal(n.Deadline) {
		t.Errorf("%+v after %+v", again, n)
	}
	m.cordon(false)
	if end := w.next(); !end.Withdrawn || end.ID != n.ID {
		t.Errorf("%+v", end)
	}
	w.silent()
}

func TestCordonOfARescueIsNoNotice(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	m.do(http.MethodPatch, m.path(), object{
		"metadata": object{"annotations": object{kube.OwnMark: "r1"}},
		"spec":     object{"unschedulable": true, "taints": []object{{"key": kube.OwnTaint, "effect": "NoSchedule"}}},
	}, nil)
	w := watchNode(t, m)
	w.health(true, "")
	m.taint(taint{key: kube.OwnTaint}, taint{key: "karpenter.sh/disrupted"})
	if n := w.next(); n.Kind != providers.Drain || !strings.Contains(n.ID, "karpenter") {
		t.Errorf("%+v", n)
	}
	w.silent()
}

func TestKarpenterComesBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	w := watchNode(t, m)
	m.taint(taint{key: "karpenter.sh/disrupted"})
	first := w.next()
	if lead := time.Until(first.Deadline); lead < 30*time.Second || lead > 2*time.Minute {
		t.Errorf("%v are left", lead)
	}
	m.taint(taint{key: "karpenter.sh/disrupted"}, taint{key: "example.com/other"})
	m.taint()
	if n := w.next(); !n.Withdrawn || n.ID != first.ID {
		t.Errorf("%+v", n)
	}
	m.taint(taint{key: "karpenter.sh/disrupted"}) // within the same second, maybe
	if n := w.next(); n.Withdrawn || n.ID == first.ID {
		t.Errorf("%+v after %+v", n, first)
	}
}

func TestGracefulShutdownOfTheNode(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	m.ready("True", "KubeletReady", "kubelet is posting ready status", time.Now().Add(-time.Hour))
	w := watchNode(t, m)
	w.health(true, "")
	at := time.Now().Truncate(time.Second)
	m.ready("False", "KubeletNotReady", "node is shutting down", at)
	n := w.next()
	if n.Kind != providers.Drain || !n.Deadline.Equal(at.Add(kube.ShutdownLead)) {
		t.Errorf("%+v", n)
	}
	m.ready("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.", time.Now())
	m.ready("True", "KubeletReady", "kubelet is posting ready status", time.Now())
	if end := w.next(); !end.Withdrawn || end.ID != n.ID {
		t.Errorf("%+v", end)
	}
}

func TestNodeObjectThatIsNotThere(t *testing.T) {
	t.Parallel()
	m := &machine{t: t, c: shared, name: fmt.Sprintf("late-%d", count.Add(1))}
	w := watchNode(t, m)
	w.health(false, `there is no node "late-`)
	m.register()
	w.health(true, "")
	m.taint(taint{key: "karpenter.sh/disrupted"})
	w.next()
	// The object goes, which takes nothing back, and the machine registers again.
	m.do(http.MethodDelete, m.path(), nil, nil)
	w.health(false, "there is no node")
	w.silent()
	m.register()
	if n := w.next(); !n.Withdrawn {
		t.Errorf("%+v", n)
	}
}

func TestDeletionOfAnExecutorsPod(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	w := watchPods(t, m)
	w.health(true, "")
	driver, pod, other := m.executor(0, "driver"), m.executor(12, "executor"), m.executor(13, "executor")
	m.remove(driver, 20*time.Second)
	at := m.remove(pod, 20*time.Second)
	n := w.next()
	if n.Kind != providers.Drain || n.App != app || !slices.Equal(n.Executors, []string{"12"}) || !n.Deadline.Equal(at) || n.Source != kube.PodsName {
		t.Errorf("%+v, want the deadline %v", n, at)
	}
	if again := watchPods(t, m).next(); again.ID != n.ID || !again.Deadline.Equal(at) {
		t.Errorf("%+v after %+v", again, n)
	}
	sooner := m.remove(pod, 5*time.Second)
	if n2 := w.next(); n2.ID != n.ID || !n2.Deadline.Equal(sooner) || !sooner.Before(at) {
		t.Errorf("%+v, want the deadline %v", n2, sooner)
	}
	m.remove(pod, 0) // as the kubelet does when the executor has ended
	m.remove(other, 30*time.Second)
	if n := w.next(); !slices.Equal(n.Executors, []string{"13"}) {
		t.Errorf("%+v", n)
	}
	w.silent()
}

func TestEvictionOfAnExecutorsPod(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	pod := m.executor(3, "executor")
	m.disrupt(pod, "False", "", time.Now()) // and phase Running, so that a grace is given
	w := watchPods(t, m)
	w.health(true, "")
	m.do(http.MethodPost, podPath(pod)+"/eviction", object{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": object{"name": pod, "namespace": namespace}}, nil)
	n := w.next()
	w.until("the deletion's deadline", func() bool {
		select {
		case n = <-w.notices:
		default:
		}
		left := time.Until(n.Deadline)
		return left > 0 && left <= grace+time.Second
	})
	if !slices.Equal(n.Executors, []string{"3"}) || n.App != app || n.Withdrawn {
		t.Errorf("%+v", n)
	}
}

func TestMissingPermissionIsNamed(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	dir := t.TempDir()
	must(t, shared.CA.Issue(filepath.Join(dir, "agent"), "agent-"+m.name, nil))
	kubeconfig := filepath.Join(dir, "kubeconfig")
	must(t, shared.Kubeconfig(kubeconfig, shared.URL, kubelab.User{Certificate: filepath.Join(dir, "agent")}))
	s, err := kube.NewNode(direct(t, shared, kubeconfig, m.name))
	w := watch(t, s, err)
	w.health(false, `cannot list resource "nodes"`)

	m.grant(object{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent-" + m.name}, "list")
	w.health(false, `cannot watch resource "nodes"`)
	m.taint(taint{key: "karpenter.sh/disrupted"})
	if n := w.next(); n.Kind != providers.Drain { // lists alone say it, too
		t.Errorf("%+v", n)
	}
	// These two verbs are all that is needed.
	m.do(http.MethodPut, clusterRoles+"/"+m.name, m.role("list", "watch"), nil)
	w.health(true, "")
	pods, err := kube.NewPods(direct(t, shared, kubeconfig, m.name))
	watch(t, pods, err).health(true, "")
}

// TestAPIServerInTrouble stops, kills and starts a whole API server of its own.
func TestAPIServerInTrouble(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := start(ctx)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			c.KeepFiles()
			t.Log("files are in " + c.Folder)
		}
		must(t, c.Close())
	})
	m := newMachine(t, c)
	m.taint(taint{key: "karpenter.sh/disrupted"})
	pod := m.executor(1, "executor")
	node, pods := watchNode(t, m), watchPods(t, m)
	first := node.next()
	pods.health(true, "")

	t.Run("it hangs with open connections", func(t *testing.T) {
		must(t, c.Pause())
		begin := time.Now()
		node.health(false, "")
		pods.health(false, "")
		t.Logf("a hanging API server was noticed after %v", time.Since(begin).Round(time.Millisecond))
		must(t, c.Resume())
		node.health(true, "")
		pods.health(true, "")
		node.silent()
		pods.silent()
		at := m.remove(pod, 10*time.Minute)
		if n := pods.next(); !n.Deadline.Equal(at) {
			t.Errorf("%+v, want %v", n, at)
		}
	})
	t.Run("it is away, and what holds still holds", func(t *testing.T) {
		c.StopAPIServer()
		node.health(false, "")
		pods.health(false, "")
		if got := node.source.Notices(); len(got) != 1 || got[0].ID != first.ID {
			t.Errorf("seen in the outage: %+v", got)
		}
		must(t, c.StartAPIServer(ctx))
		node.health(true, "")
		pods.health(true, "")
		node.silent()
		pods.silent()
		m.cordon(true)
		if n := node.next(); n.Kind != providers.Cordon {
			t.Errorf("%+v", n)
		}
	})
	t.Run("the watch's version is gone", func(t *testing.T) {
		// The API server is away, meanwhile the store has forgotten the versions from before.
		m.taint(taint{key: "karpenter.sh/disrupted"}, taint{key: "ToBeDeletedByClusterAutoscaler", value: unix(time.Now())})
		if n := node.next(); !strings.Contains(n.ID, "ToBeDeleted") {
			t.Errorf("%+v", n)
		}
		must(t, c.Compact(ctx))
		c.StopAPIServer()
		must(t, c.StartAPIServer(ctx))
		node.health(true, "")
		pods.health(true, "")
		m.taint()
		var ended []string
		for range 2 {
			n := node.next()
			if !n.Withdrawn {
				t.Errorf("%+v", n)
			}
			ended = append(ended, n.ID)
		}
		if !slices.Contains(ended, first.ID) {
			t.Errorf("withdrawn: %v, want %s among them", ended, first.ID)
		}
	})
}

// maxBookmarks is the size of the bookmarks that two watches may get within seconds, in bytes. A node or a pod is larger.
const maxBookmarks = 600

// TestReaction measures how long a notice takes, with the options of production.
func TestReaction(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	cluster, err := kube.Open(kube.Access{Kubeconfig: shared.AdminKubeconfig()})
	must(t, err)
	t.Cleanup(cluster.Close)
	s, err := kube.NewNode(kube.Options{Cluster: cluster, Node: m.name})
	w := watch(t, s, err)
	w.health(true, "")
	var took []time.Duration
	for i := range 200 {
		m.taint(taint{key: "example.com/some"}, taint{key: "ToBeDeletedByClusterAutoscaler", value: unix(time.Now().Add(time.Duration(i) * time.Second))})
		begin := time.Now()
		for n := w.next(); n.Withdrawn; n = w.next() {
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("from when the API server had confirmed a taint until its notice was sent: p50 %v, p99 %v, max %v", took[100], took[197], took[199])
	if took[197] > 2*time.Second {
		t.Errorf("99 %% of the notices took up to %v: they wait for something", took[197])
	}
}

// TestRequestsWhenNothingHappens counts what a quiet hour costs the API server.
func TestRequestsWhenNothingHappens(t *testing.T) {
	t.Parallel()
	d, m := newDoor(t), newMachine(t, shared)
	m.executor(1, "executor")
	o := d.options(m.name, nil)
	o.Look = 10 * time.Millisecond
	s, err := kube.NewNode(o)
	node := watch(t, s, err)
	p, err := kube.NewPods(o)
	pods := watch(t, p, err)
	node.health(true, "")
	pods.health(true, "")
	asked := func() []string {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Clone(d.requests)
	}
	node.until("four requests", func() bool { return len(asked()) >= 4 })
	before := d.sent.Load()
	m.annotate("example.com/heartbeat", "1") // what happens to the node is told, not asked for
	node.until("the node's heartbeat", func() bool { return d.sent.Load() > before })
	before = d.sent.Load()
	for range 20 { // nothing of what happens elsewhere is seen
		other := newMachine(t, shared)
		other.cordon(true)
		other.remove(other.executor(1, "executor"), grace)
	}
	quiet := time.Now()
	node.until("a few seconds", func() bool { return time.Since(quiet) > 5*time.Second })
	if more := d.sent.Load() - before; more > 0 && more > maxBookmarks {
		t.Errorf("%d bytes were sent for what happened on other nodes", more)
	}
	if all := asked(); len(all) != 4 {
		t.Errorf("requests: %s", strings.Join(all, "\n"))
	}
	var selected, lasting int
	for _, r := range asked() {
		if strings.Contains(r, "fieldSelector=metadata.name%3D"+m.name) || strings.Contains(r, "fieldSelector=spec.nodeName%3D"+m.name) {
			selected++
		}
		if strings.Contains(r, "timeoutSeconds=600") {
			lasting++
		}
	}
	if selected != 4 || lasting != 2 {
		t.Errorf("%d requests are for this node only, %d of them last 10 minutes: %s", selected, lasting, strings.Join(asked(), "\n"))
	}
	watches := 0
	for _, r := range asked() {
		if _, query, _ := strings.Cut(r, "?"); strings.Contains(query, "watch=") {
			values, err := url.ParseQuery(query)
			must(t, err)
			lasts, err := time.ParseDuration(values.Get("timeoutSeconds") + "s")
			must(t, err)
			watches += int(time.Hour / lasts)
		}
	}
	t.Logf("idle: %d requests at the start, and then, as the watches end, %d per node and hour", len(asked()), watches)
	if watches != idleRequests {
		t.Errorf("%d requests per node and hour, and docs/notices.md promises %d", watches, idleRequests)
	}
}

// idleRequests are those of an agent in an hour in which nothing happens, as documented.
const idleRequests = 12

func TestRotatedTokenIsReadAgain(t *testing.T) {
	t.Parallel()
	d, m := newDoor(t), newMachine(t, shared)
	s, err := kube.NewNode(d.options(m.name, nil))
	w := watch(t, s, err)
	w.health(true, "")
	good, err := os.ReadFile(d.tokenFile)
	must(t, err)
	must(t, os.WriteFile(d.tokenFile, []byte("old"), 0o600)) // and nobody has written the new one yet
	d.mu.Lock()
	d.token++
	d.mu.Unlock()
	d.cut()
	w.health(false, "credentials")
	if bytes.Equal(good, []byte("old")) {
		t.Fatal("no token")
	}
	d.rotate()
	w.health(true, "")
	m.cordon(true)
	w.next()
}
