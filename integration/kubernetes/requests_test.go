//go:build integration

package kubernetes

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	hand "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/agent/survivor"
	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// audited starts an API server that writes down each request.
func audited(t *testing.T) (*kubelab.Cluster, *audit) {
	t.Helper()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	must(t, os.WriteFile(policy, []byte(`{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[`+
		`{"level":"None","users":["admin"]},{"level":"Metadata"}]}`), 0o600))
	a := &audit{t: t, file: filepath.Join(dir, "audit.log")}
	c, err := kubelab.Start(t.Context(), kubelab.Options{Log: os.Stderr, Flags: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + a.file}})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": namespace}}, nil))
	return c, a
}

// audit counts requests in the API server's log.
type audit struct {
	t    *testing.T
	file string
}

// requests of a user since a moment, by verb and resource. A watch counts when it begins.
func (a *audit) requests(user string, since time.Time) map[string]int {
	a.t.Helper()
	f, err := os.Open(a.file)
	must(a.t, err)
	defer f.Close()
	all, seen := map[string]int{}, map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			AuditID string    `json:"auditID"`
			Verb    string    `json:"verb"`
			At      time.Time `json:"requestReceivedTimestamp"`
			User    struct {
				Username string `json:"username"`
			} `json:"user"`
			ObjectRef struct{ Resource, Subresource, Namespace string } `json:"objectRef"`
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.User.Username != user || e.At.Before(since) || seen[e.AuditID] {
			continue
		}
		seen[e.AuditID] = true
		what := e.Verb + " " + e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			what += "/" + e.ObjectRef.Subresource
		}
		if e.ObjectRef.Resource == "leases" {
			what += " in " + e.ObjectRef.Namespace
		}
		all[what]++
	}
	must(a.t, lines.Err())
	return all
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func shown(counts map[string]int) string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%d × %s", counts[what], what))
	}
	return strings.Join(all, ", ")
}

// window is how long requests are counted while nothing happens.
const window = 15 * time.Second

// idle waits until a time is over, and returns what a user has asked in it. Kubelets go on reporting meanwhile.
func (a *audit) idle(p *pool, user string) map[string]int {
	a.t.Helper()
	begin := time.Now()
	for i := 0; time.Since(begin) < window; i++ {
		must(a.t, p.report(p.nodes[1+i%(len(p.nodes)-1)], "boot-1", "True"))
	}
	return a.requests(user, begin)
}

// agentRequests are those of an agent on the first node of a pool: at its start, and in a window in which nothing happens.
func agentRequests(t *testing.T, p *pool, log *audit) (start, idle int) {
	begin := time.Now()
	r := runAgent(t, agentOptions{kube: fmt.Sprintf("enabled: true, kubeconfig: %s, node: %s", agentAccount(t, p.c, p.nodes[0]), p.nodes[0])})
	until(t, "the agent is ready", func() bool { return r.probe("/readyz") == http.StatusOK })
	last, since := -1, time.Now()
	until(t, "its start is over", func() bool {
		if n := total(log.requests(agentUser, begin)); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
	first, later := log.requests(agentUser, begin), log.idle(p, agentUser)
	t.Logf("an agent among %d nodes: %d requests at its start (%s), %d in %v while nothing happens (%s); resident %d KiB",
		len(p.nodes), total(first), shown(first), total(later), window, shown(later), r.residentKiB())
	return total(first), total(later)
}

// rescuePeers is how many nodes could take outputs in rescueRequests; executors of the rescued node are three.
const rescuePeers = 7

// rescueRequests are those of an agent in a rescue of a node with three executors, whose application has others on a few of the
// pool's nodes, by their addresses.
func rescueRequests(t *testing.T, p *pool, log *audit, node string, peers []string) map[string]int {
	t.Helper()
	cluster, err := kube.Open(kube.Access{Kubeconfig: agentAccount(t, p.c, node)})
	must(t, err)
	t.Cleanup(cluster.Close)
	must(t, p.executors(node, 3))
	h := newHandOf(t, kube.Options{Cluster: cluster, Node: node, Retry: 100 * time.Millisecond}, nil)
	h.until("its pods are known", func() bool { return len(h.Executors()) == 3 })

	begin := time.Now()
	h.Begin(soon)
	must(t, h.AwaitMark(t.Context()))
	h.until("the watch shows the mark", func() bool { // as it does long before a rescue ends
		s, _ := h.node.State()
		m, _ := s.Mark()
		return m.Phase == kube.PhaseCopying
	})
	found, err := h.Peers(t.Context(), p.name, app, peers)
	if err != nil || len(found) != len(peers) {
		t.Errorf("%d peers of %d are known: %v", len(found), len(peers), err)
	}
	about := []hand.Object{h.NodeObject()}
	for _, pod := range h.Executors() {
		about = append(about, hand.PodObject(pod))
	}
	for _, phase := range []hand.Reason{hand.Began, hand.Saved, hand.Ended} {
		h.Tell(soon.Report, phase, "as in a rescue", about...)
	}
	h.NoteRescue(soon.Report, h.NodeObject())
	for _, pod := range h.Executors() {
		must(t, h.EndPod(t.Context(), pod, soon.Report))
		must(t, h.FailPod(t.Context(), pod, soon.Report))
		must(t, h.DropPod(t.Context(), pod))
	}
	h.Ended(soon)
	must(t, h.AwaitMark(t.Context()))
	h.until("all is said", func() bool { waiting, _ := h.Unsaid(""); return len(waiting) == 0 })
	if _, failed := h.Unsaid(""); len(failed) > 0 {
		t.Errorf("refused: %q", failed)
	}
	asked := log.requests(agentUser, begin)
	t.Logf("a rescue of three executors with peers on %d nodes, among %d nodes: %d requests (%s)", len(peers), len(p.nodes), total(asked), shown(asked))
	return asked
}

// TestRequestsAtTheAPIServer counts what an agent and the survivors ask, with few nodes and with many, installed as the chart
// installs them. What they may do is what they do.
func TestRequestsAtTheAPIServer(t *testing.T) {
	c, log := audited(t)
	few := newPool(t, c, 10)
	install(t, c, map[string]any{
		"survivor": map[string]any{"enabled": true}, "config": map[string]any{"survivor": map[string]any{"nodes": "pool=" + few.name}},
	})
	grow := func(size int, register func(node string) error) {
		var names []string
		for i := len(few.nodes); i < size; i++ {
			names = append(names, fmt.Sprintf("%s-node-%d", few.name, i))
		}
		few.all(names, register)
		few.nodes = append(few.nodes, names...)
	}
	must(t, few.executors(few.nodes[0], 3))

	var peers []string
	for i, node := range few.nodes[3 : 3+rescuePeers] {
		peers = append(peers, fmt.Sprintf("10.9.6.%d", i+1))
		must(t, few.pod(node, "executor", peers[i]))
	}
	measure := func(rescued string) (start, idle int, rescue map[string]int) {
		t.Run(fmt.Sprintf("%d nodes", len(few.nodes)), func(t *testing.T) {
			start, idle = agentRequests(t, few, log)
			rescue = rescueRequests(t, few, log, rescued, peers)
		})
		return start, idle, rescue
	}
	start10, idle10, rescue10 := measure(few.nodes[1])
	grow(500, func(n string) error { return errors.Join(few.register(n, "boot-1", "True"), few.executors(n, 2)) })
	start500, idle500, rescue500 := measure(few.nodes[2])
	if !maps.Equal(rescue10, rescue500) {
		t.Errorf("requests of an agent in a rescue: among 10 nodes %s; among 500 %s", shown(rescue10), shown(rescue500))
	}
	if start10 != start500 || idle10 != idle500 || idle500 > 1 {
		t.Errorf("requests of an agent: at its start %d among 10 nodes, %d among 500; idle %d and %d", start10, start500, idle10, idle500)
	}

	s := few.shipped()
	survivorRequests(t, few, log, s)
	grow(5000, func(n string) error { return few.object(n, "boot-1", "True") })
	until(t, "all are looked after", func() bool { return s.is("nodes", 5000) })
	big := few.shipped()
	until(t, "another begins with all of them", func() bool { return big.is("nodes", 5000) })
	for what, s := range map[string]*survivorProcess{"that has seen them come": s, "that has listed them": big} {
		now, most := s.residentKiB()
		t.Logf("a survivor over 5000 nodes %s: resident %d KiB, at most %d KiB", what, now, most)
		if limit := 96 << 10; most > limit {
			t.Errorf("more than %d KiB", limit)
		}
	}
}

// shipped is a survivor as the chart runs it: with the chart's account and namespace.
func (p *pool) shipped() *survivorProcess {
	p.t.Helper()
	return p.survivor(p.tokenOf("lifeboat", "lifeboat-survivor"), "", "--namespace=lifeboat")
}

// survivorRequests counts those of a survivor that has just begun: idle, and for a dead node; it must use all that it may do.
func survivorRequests(t *testing.T, p *pool, log *audit, s *survivorProcess) {
	t.Helper()
	const user = "system:serviceaccount:lifeboat:lifeboat-survivor"
	until(t, "it leads", func() bool { return s.is("leader", 1) && s.is("nodes", float64(len(p.nodes))) })
	idle := log.idle(p, user)
	t.Logf("a leading survivor over %d nodes: %d requests in %v while nothing happens: %d in an hour (%s)",
		len(p.nodes), total(idle), window, total(idle)*int(time.Hour/window), shown(idle))
	acted := time.Now()
	dead := p.nodes[400]
	must(t, p.powerOff(dead))
	until(t, "the dead node is declared dead", func() bool { return s.is("dead_nodes", 1) && s.is(`actions_total{result="ok",verb="event"}`, 3) })
	act := log.requests(user, acted)
	delete(act, "update leases in lifeboat")
	t.Logf("a survivor, for a dead node with two executors: %d requests (%s)", total(act), shown(act))

	allowed := map[string]bool{}
	for _, r := range survivor.Permissions("") {
		for _, verb := range r.Verbs {
			allowed[verb+" "+r.Resource] = true
		}
	}
	for what := range log.requests(user, time.Time{}) {
		what, _, _ = strings.Cut(what, " in ")
		verb, resource, _ := strings.Cut(what, " ")
		delete(allowed, verb+" "+resource)
	}
	if len(allowed) != 0 {
		t.Errorf("permitted and never used: %v", slices.Sorted(maps.Keys(allowed)))
	}
}
