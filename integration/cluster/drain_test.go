//go:build integration

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// emptying is a job with executors on both nodes, and its driver on node-b: all that is taken is node-a's.
type emptying struct {
	*Job
	t         *testing.T
	executors int
}

const (
	emptied   = "node-a"
	other     = "node-b"
	agentUser = "system:serviceaccount:" + AgentNamespace + ":" + agentRelease
)

// newEmptying starts an agent on each node, and a job whose executors come and go as the driver likes.
func newEmptying(t *testing.T, o JobOptions) *emptying {
	t.Helper()
	must(t, shared.InstallAgent(t.Context(), AgentOptions{}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shared.AgentLogs(120))
		}
	})
	o.Node, o.Executors, o.Maps = other, 4, 24 // new executors on node-a get some, too, beside two that are warm
	conf := map[string]string{
		"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.shuffleTracking.enabled": "true",
		"spark.dynamicAllocation.minExecutors": "4", "spark.dynamicAllocation.maxExecutors": "4", "spark.dynamicAllocation.initialExecutors": "4",
	}
	maps.Copy(conf, o.Conf)
	o.Conf = conf
	return &emptying{Job: startJob(t, o), t: t, executors: 4}
}

// here are the executors on node-a.
func (e *emptying) here() (some []Pod) {
	e.t.Helper()
	pods, err := e.Executors(e.t.Context())
	must(e.t, err)
	for _, p := range pods {
		if p.Node == emptied {
			some = append(some, p)
		}
	}
	return some
}

// within is a part of the test that has a name.
func (e *emptying) within(name string, what func(t *testing.T)) {
	e.t.Run(name, func(t *testing.T) {
		outer := e.t
		e.t = t
		defer func() { e.t = outer }()
		what(t)
	})
}

// scenario does something to node-a while it holds a part of a shuffle, and gives the node back at the end.
func (e *emptying) scenario(name string, what func(t *testing.T)) {
	e.within(name, func(t *testing.T) {
		e.settle()
		fresh, err := e.Fresh(t.Context())
		must(t, err)
		if fresh.MapTasks == 0 {
			t.Fatal("no map task has run")
		}
		t.Cleanup(func() { giveBack(t, emptied) })
		what(t)
	})
}

// settle waits until all executors are there, on both nodes.
func (e *emptying) settle() {
	e.t.Helper()
	must(e.t, lab.Until(e.t.Context(), "executors are on both nodes", func(ctx context.Context) (bool, error) {
		pods, err := e.Executors(ctx)
		if err != nil || len(pods) != e.executors {
			return false, err
		}
		if _, registered, err := e.Events(ctx); err != nil || registered != e.executors {
			return false, err
		}
		var there []Pod
		for _, p := range pods {
			if p.Node == other {
				there = append(there, p)
			}
		}
		if len(there) <= e.executors/2 {
			return true, nil
		}
		_, err = shared.Kubectl(ctx, "-n", e.Namespace, "delete", "pod", there[len(there)-1].Name, "--grace-period=1", "--wait=false")
		return false, err
	}))
}

// giveBack makes a node as it was: whoever has emptied it would do so. A rescue that runs, or whose end the node does not show yet, is
// awaited: it would mark the node again.
func giveBack(t *testing.T, node string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := lab.Until(ctx, "no rescue is going to mark "+node, func(ctx context.Context) (bool, error) {
		var s status.Status
		if err := shared.Status(ctx, node, "/status", &s); err == nil && s.Rescue != nil { // without an agent there is none
			return false, nil
		}
		text, err := markOf(ctx, node)
		if text == "" {
			return err == nil, nil
		}
		m, err := kube.ParseMark(text)
		return m.Phase == kube.PhaseEnded, err
	}); err != nil {
		t.Error(err)
	}
	must(t, shared.Do(context.Background(), http.MethodPatch, "/api/v1/nodes/"+node, object{
		"metadata": object{"annotations": object{kube.OwnMark: nil}}, "spec": object{"unschedulable": nil, "taints": nil},
	}, nil))
}

// markOf is what a rescue has written on a node; "": nothing.
func markOf(ctx context.Context, node string) (string, error) {
	var n struct {
		Metadata struct{ Annotations map[string]string }
	}
	err := shared.Do(ctx, http.MethodGet, "/api/v1/nodes/"+node, nil, &n)
	return n.Metadata.Annotations[kube.OwnMark], err
}

// nothingLost reads the shuffle: from elsewhere than node-a, and with nothing computed again.
func (e *emptying) nothingLost() {
	e.t.Helper()
	round, err := e.Round(e.t.Context())
	must(e.t, err)
	e.t.Logf("next round: %v", round)
	if round.MapTasks != 0 || round.FetchFailures != 0 {
		e.t.Errorf("%d map tasks ran again, %d fetches failed", round.MapTasks, round.FetchFailures)
	}
	must(e.t, e.Alive(e.t.Context()))
}

// rescued waits for the next report of node-a's agent, of which everything must be saved, and returns what it says of the job.
func (e *emptying) rescued(before []*report.Report) *report.Application {
	e.t.Helper()
	r := rescued(e.t, emptied, []*Job{e.Job}, before...)
	e.t.Logf("report %s: %s (%s), %s, %.1f s, %.1f s left, phases %v", r.ID, r.Notice.Kind, r.Notice.Source, r.Outcome,
		r.Ended.Sub(r.Began).Seconds(), r.SecondsLeft, r.Phases)
	return e.In(r)
}

func (e *emptying) reports() []*report.Report {
	e.t.Helper()
	all, err := shared.Reports(emptied)
	must(e.t, err)
	return all
}

// agentStatus is what the agent of a node says of itself.
func agentStatus(t *testing.T, node string) (s status.Status) {
	t.Helper()
	resp, err := shared.Node(node).HTTP().Get("http://127.0.0.1:9420/status")
	must(t, err)
	defer resp.Body.Close()
	must(t, json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s))
	return s
}

// agentMetrics is the page of metrics of a node's agent.
func agentMetrics(t *testing.T, node string) string {
	t.Helper()
	resp, err := shared.Node(node).HTTP().Get("http://127.0.0.1:9420/metrics")
	must(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	must(t, err)
	return string(page)
}

// keepsOpen waits until a node's agent holds map outputs open, or none.
func keepsOpen(t *testing.T, node string, some bool) {
	t.Helper()
	must(t, lab.Until(t.Context(), fmt.Sprintf("map outputs are kept open: %v", some), func(context.Context) (bool, error) {
		return !strings.Contains(agentMetrics(t, node), "\nlifeboat_pinned_files 0\n") == some, nil
	}))
}

// taints puts a taint on node-a as somebody does who is about to remove it.
func taints(t *testing.T, key, value string) {
	t.Helper()
	_, err := shared.Kubectl(t.Context(), "taint", "node", emptied, fmt.Sprintf("%s=%s:NoSchedule", key, value))
	must(t, err)
}

// drains empties node-a with kubectl drain, and returns when that has ended.
func drains(t *testing.T) {
	t.Helper()
	begin := time.Now()
	_, err := shared.Kubectl(t.Context(), "drain", emptied, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
	must(t, err)
	t.Logf("kubectl drain took %v", time.Since(begin).Round(100*time.Millisecond))
}

// TestDrain empties a node in all the ways in which others do it. Nothing is computed again, and nobody waits for long.
func TestDrain(t *testing.T) {
	e := newEmptying(t, JobOptions{Name: "drain"})
	e.scenario("cordon alone", func(t *testing.T) {
		before, executors := e.reports(), e.here()
		_, err := shared.Kubectl(t.Context(), "cordon", emptied)
		must(t, err)
		must(t, lab.Until(t.Context(), "the agent has heard of the cordon", func(context.Context) (bool, error) {
			for _, n := range agentStatus(t, emptied).Notices {
				if n.Kind == "cordon" && n.LeadsTo == "mirrored" {
					return true, nil
				}
			}
			return false, nil
		}))
		keepsOpen(t, emptied, true)
		e.nothingLost()
		if now := e.here(); len(now) != len(executors) || len(e.reports()) != len(before) {
			t.Errorf("%d executors of %d are left, and there are %d reports, not %d", len(now), len(executors), len(e.reports()), len(before))
		}
		giveBack(t, emptied)
		keepsOpen(t, emptied, false)
	})
	e.scenario("one executor's pod is deleted", func(t *testing.T) {
		before, victim := e.reports(), e.here()[0]
		begin := time.Now()
		_, err := shared.Kubectl(t.Context(), "-n", e.Namespace, "delete", "pod", victim.Name)
		must(t, err)
		t.Logf("the pod was gone after %v", time.Since(begin).Round(100*time.Millisecond))
		if x := e.rescued(before).Executors; len(x) != 1 || x[0].ID != victim.Executor || x[0].Trigger != "hook" {
			t.Errorf("executors of the report: %+v", x)
		}
		e.nothingLost()
	})
	e.scenario("kubectl drain", func(t *testing.T) {
		before := e.reports()
		drains(t)
		e.rescued(before)
		e.nothingLost()
		if left := e.here(); len(left) > 0 {
			t.Errorf("still here: %+v", left)
		}
	})
	for _, by := range []struct {
		name, key string
		value     func() string
	}{
		{"cluster autoscaler", "ToBeDeletedByClusterAutoscaler", func() string { return strconv.FormatInt(time.Now().Unix(), 10) }},
		{"Karpenter", "karpenter.sh/disrupted", func() string { return "" }},
	} {
		e.scenario(by.name, func(t *testing.T) {
			before := e.reports()
			asked, _ := askedBy(t, agentUser)
			taints(t, by.key, by.value())
			a := e.rescued(before)
			now, _ := askedBy(t, agentUser)
			t.Logf("the agents of both nodes made %d requests to the API server meanwhile", sum(now)-sum(asked))
			for _, x := range a.Executors {
				if x.EndedBy != "pod deleted" {
					t.Errorf("executor %s was ended by: %s", x.ID, x.EndedBy)
				}
			}
			e.nothingLost()
			must(t, e.WaitExecutors(t.Context(), e.executors))
			if left := e.here(); len(left) > 0 {
				t.Errorf("replacements were scheduled here: %+v", left)
			}
		})
	}
	e.scenario("kubectl drain while our own rescue runs", func(t *testing.T) {
		before := e.reports()
		taints(t, "karpenter.sh/disrupted", "")
		must(t, lab.Until(t.Context(), "the rescue runs", func(context.Context) (bool, error) {
			return agentStatus(t, emptied).Rescue != nil || len(e.reports()) > len(before), nil
		}))
		drains(t)
		e.rescued(before)
		e.nothingLost()
	})
}
