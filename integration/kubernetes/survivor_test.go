//go:build integration

package kubernetes

import (
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/survivor"
)

// TestSurvivors: of two replicas one leads. It takes the executors from a node that the cloud has shut down, and nothing else;
// when it dies the other goes on; and when the machine comes back its taint is taken away.
func TestSurvivors(t *testing.T) {
	t.Parallel()
	p := newPool(t, shared, 6)
	account := p.account(survivor.Permissions(p.name))
	a, b := p.survivor(account, ""), p.survivor(account, "")
	until(t, "one leads", func() bool { return a.is("leader", 1) != b.is("leader", 1) && a.ready() && b.ready() })
	leader, other := a, b
	if b.is("leader", 1) {
		leader, other = b, a
	}

	first, second := p.nodes[0], p.nodes[1]
	for _, n := range p.nodes[:3] {
		must(t, p.executors(n, 3))
	}
	must(t, p.pod(first, "driver", ""))
	must(t, p.powerOff(first))
	until(t, "the executors of the dead node are gone, and its volumes free", func() bool { return p.pods(first, "executor") == 0 && p.node(first).tainted() })
	until(t, "it says so", func() bool { return leader.is(`nodes_declared_dead_total{witness="cloud-shutdown"}`, 1) })
	if n := p.pods(first, "driver"); n != 1 {
		t.Errorf("drivers on the dead node: %d: only executors are its business", n)
	}
	if n := p.pods("", "executor"); n != 6 {
		t.Errorf("executors on nodes that live: %d of 6", n)
	}
	until(t, "an event on the node", func() bool { return p.events("default", survivor.ReasonDead, first) == 1 })
	if other.is(`nodes_declared_dead_total{witness="cloud-shutdown"}`, 1) {
		t.Error("the other replica has acted too")
	}

	leader.end(syscall.SIGKILL)
	killed := time.Now()
	must(t, p.powerOff(second))
	until(t, "the other acts", func() bool { return p.pods(second, "executor") == 0 && p.node(second).tainted() })
	t.Logf("leader killed: the other had acted after %v", time.Since(killed).Round(100*time.Millisecond))

	must(t, p.renew(first, time.Now()))
	must(t, p.report(first, "boot-2", "True"))
	until(t, "the taint is taken back from the machine that has booted again", func() bool { return !p.node(first).tainted() })
	if n := p.node(first); len(n.Metadata.Annotations) != 0 || len(n.Spec.Taints) != 2 {
		t.Errorf("left on the node: %+v", n)
	}
	if !p.node(second).tainted() {
		t.Error("the taint was taken from a machine that is off")
	}

	third := p.survivor(account, "")
	until(t, "a third one is ready", third.ready)
	other.end(syscall.SIGTERM)
	ended := time.Now()
	until(t, "it leads", func() bool { return third.is("leader", 1) })
	t.Logf("leader ended by SIGTERM: the next one led after %v", time.Since(ended).Round(100*time.Millisecond))
}

// TestSurvivorNeedsCertainty walks through what looks like death and is none.
func TestSurvivorNeedsCertainty(t *testing.T) {
	t.Parallel()
	p := newPool(t, shared, 12)
	for _, n := range p.nodes {
		must(t, p.executors(n, 1))
	}
	renews, silent, cordoned, own, dead := p.nodes[0], p.nodes[1], p.nodes[2], p.nodes[3], p.nodes[4]
	s := p.survivor(p.account(survivor.Permissions(p.name)), "")
	until(t, "it leads", func() bool { return s.is("leader", 1) })
	must(t, p.silence(silent)) // nobody else says that it is dead
	must(t, p.powerOff(renews))
	must(t, p.renew(renews, time.Now())) // said by mistake: its kubelet renews
	p.do(http.MethodPatch, "/api/v1/nodes/"+cordoned, object{"spec": object{"unschedulable": true}}, nil)
	must(t, p.report(own, "boot-1", "False")) // its kubelet itself says that it is not ready
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // it goes on renewing, by a clock that is two hours behind
		defer close(done)
		for {
			if err := p.renew(renews, time.Now().Add(-2*time.Hour)); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	must(t, p.powerOff(dead)) // what is certain is done meanwhile, so that what is not had its time
	until(t, "the dead node is found", func() bool { return p.node(dead).tainted() })
	last, _ := s.metric("last_look_timestamp_seconds")
	until(t, "it has looked for some seconds more", func() bool {
		v, _ := s.metric("last_look_timestamp_seconds")
		return v > last+5
	})
	for _, n := range p.nodes[:4] {
		if p.pods(n, "executor") != 1 || p.node(n).tainted() {
			t.Errorf("%s: something was done", n)
		}
	}
	close(stop)
	<-done
	must(t, p.powerOff(silent)) // and when the cloud says so at last
	until(t, "the silent node is dead when the cloud says so", func() bool { return p.pods(silent, "executor") == 0 && p.node(silent).tainted() })

	// A node whose object the cloud controller manager deletes.
	gone := p.nodes[5]
	must(t, p.silence(gone))
	until(t, "the silence is seen", func() bool { return s.is("silent_nodes", 4) })
	p.do(http.MethodDelete, "/api/v1/nodes/"+gone, nil, nil)
	until(t, "the executors of the deleted node are gone", func() bool { return p.pods(gone, "executor") == 0 })

	// Deleted while it was ready, and made again under its name: another machine.
	again := p.nodes[6]
	p.do(http.MethodDelete, "/api/v1/nodes/"+again, nil, nil)
	p.do(http.MethodDelete, nodeLeases+"/"+again, nil, nil)
	must(t, p.register(again, "boot-9", "True"))
	until(t, "it was seen", func() bool { return s.is("nodes", 11) })
	if p.pods(again, "executor") != 1 {
		t.Error("the pods of a node were taken whose object was deleted while it was ready")
	}
}

// TestSurvivorGuard: when most nodes are silent at once it is the network, and nothing is done without the cloud's own word.
func TestSurvivorGuard(t *testing.T) {
	t.Parallel()
	p := newPool(t, shared, 10)
	for _, n := range p.nodes {
		must(t, p.executors(n, 1))
	}
	s := p.survivor(p.account(survivor.Permissions(p.name)), "onNotReady: true")
	until(t, "it leads", func() bool { return s.is("leader", 1) && s.is("nodes", 10) })
	// All at once for the survivor: it looks at them only when it goes on.
	must(t, s.cmd.Process.Signal(syscall.SIGSTOP))
	p.all(p.nodes[:6], p.silence)
	must(t, s.cmd.Process.Signal(syscall.SIGCONT))
	until(t, "it holds", func() bool { return s.is("held", 1) && s.is("silent_nodes", 6) })
	until(t, "it says so", func() bool { return p.events(p.name, survivor.ReasonHeld, survivor.LeaseName) == 1 })
	must(t, p.powerOff(p.nodes[0]))
	until(t, "the cloud's own word counts", func() bool { return p.pods(p.nodes[0], "executor") == 0 })
	last, _ := s.metric("last_look_timestamp_seconds")
	until(t, "it has looked for some seconds more", func() bool {
		v, _ := s.metric("last_look_timestamp_seconds")
		return v > last+5
	})
	if n := p.pods("", "executor"); n != 9 {
		t.Errorf("executors left: %d of 9", n)
	}
	p.all(p.nodes[1:4], func(n string) error { // three are heard again
		if err := p.renew(n, time.Now()); err != nil {
			return err
		}
		return p.report(n, "boot-1", "True")
	})
	until(t, "the rest is dead when silence is enough", func() bool {
		return s.is("held", 0) && p.pods("", "executor") == 7 && p.node(p.nodes[4]).tainted() && p.node(p.nodes[5]).tainted()
	})
}

// TestThirtyNodesAtOnce prints how long a wave takes.
func TestThirtyNodesAtOnce(t *testing.T) {
	t.Parallel()
	const wave, each = 30, 20
	p := newPool(t, shared, 70)
	p.all(p.nodes[:wave], func(n string) error { return p.executors(n, each) })
	s := p.survivor(p.account(survivor.Permissions(p.name)), "")
	until(t, "it leads", func() bool { return s.is("leader", 1) })
	p.all(p.nodes[:wave], p.powerOff)
	begin := time.Now()
	until(t, "all is done", func() bool { return s.is("dead_nodes", wave) })
	whole := time.Since(begin)
	if n := p.pods("", "executor"); n != 0 {
		t.Errorf("executors left: %d", n)
	}
	until(t, "all events are written", func() bool { return s.is(`actions_total{result="ok",verb="event"}`, wave+wave*each) })
	all := s.took()
	slices.Sort(all)
	if len(all) != wave {
		t.Fatalf("%d nodes were declared dead: %v", len(all), all)
	}
	now, most := s.residentKiB()
	t.Logf("%d nodes with %d executors each, from certainty to done: median %v, p95 %v, longest %v; %v from the last power-off to the end; resident %d KiB, at most %d KiB",
		wave, each, all[wave/2].Round(time.Millisecond), all[wave*95/100].Round(time.Millisecond), all[wave-1].Round(time.Millisecond), whole.Round(100*time.Millisecond), now, most)
}

// TestSurvivorCrashes in the middle of a wave, while the API server hangs for a while: the next one does what is left.
func TestSurvivorCrashes(t *testing.T) {
	t.Parallel()
	const wave, each = 8, 20
	c, err := start(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	p := newPool(t, c, 20)
	p.all(p.nodes[:wave], func(n string) error { return p.executors(n, each) })
	must(t, p.executors(p.nodes[wave], each))
	account := p.account(survivor.Permissions(p.name))
	first := p.survivor(account, "")
	until(t, "it leads", func() bool { return first.is("leader", 1) })
	p.all(p.nodes[:wave], p.powerOff)
	until(t, "some pods are gone", func() bool { return p.pods("", "executor") < (wave+1)*each })
	first.end(syscall.SIGKILL)
	left := p.pods("", "executor")
	t.Logf("killed with %d of %d executors left on dead nodes", left-each, wave*each)

	next := p.survivor(account, "")
	must(t, c.Pause())
	time.AfterFunc(3*time.Second, func() { _ = c.Resume() })
	until(t, "the next one has done the rest", func() bool { return next.is("dead_nodes", wave) })
	if n := p.pods("", "executor"); n != each {
		t.Errorf("executors left: %d; those of the living node are %d", n, each)
	}
	for _, n := range p.nodes[:wave] {
		if !p.node(n).tainted() {
			t.Errorf("%s is not tainted", n)
		}
		until(t, "an event on "+n, func() bool { return p.events("default", survivor.ReasonDead, n) == 1 })
	}
}
