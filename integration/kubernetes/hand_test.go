//go:build integration

package kubernetes

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	hand "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/integration/lab"
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
