//go:build integration

package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// slowly makes a rescue last some seconds: one output after the other.
const slowly = "migrate: {inFlight: 1, connections: 1}\n"

// many outputs of some size, for a rescue in whose middle something is to happen.
func many(name string) JobOptions {
	return JobOptions{Name: name, Executors: 2, Maps: 480, KiB: 256, MapTime: 10 * time.Millisecond}
}

// TestAgentKilledInARescue: the kubelet starts another one, which goes on.
func TestAgentKilledInARescue(t *testing.T) {
	s := newScene(t, AgentOptions{Config: slowly})
	j := s.job(many("killed"))
	leaving := s.on(j, "node-a")
	shared.Metadata("node-a").Announce(2 * time.Minute)
	s.awaitSaved(5)
	s.killAgent()
	if rep := s.rescued(); rep.Runs < 2 {
		t.Errorf("%d runs of the agent, want two", rep.Runs)
	}
	unharmed(t, j)
	for _, p := range leaving {
		s.told("spark", p.Name)
	}
	s.told("default", "node-a")
}

// TestAgentUpdatedInARescue: the old agent finishes what it has begun, within its grace, before the new one is started. All agents are
// replaced at once, so that the one on node-a is among the first.
func TestAgentUpdatedInARescue(t *testing.T) {
	s := newScene(t, AgentOptions{Config: slowly, Values: "updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}\n"})
	o := many("updated")
	o.Maps *= 2 // the rescue is to last until the old pod was seen stopping
	j := s.job(o)
	old := s.agentPod()
	shared.Metadata("node-a").Announce(2 * time.Minute)
	s.awaitSaved(5)
	_, err := shared.Kubectl(s.ctx, "-n", AgentNamespace, "rollout", "restart", "daemonset")
	must(t, err)
	must(t, lab.Until(s.ctx, "the agent on node-a is to stop", func(context.Context) (bool, error) {
		now := s.agentPod()
		if !strings.HasPrefix(now, old) {
			return false, errors.New("it was replaced before anybody looked")
		}
		return now == old+" stops", nil
	}))
	stopping := time.Now()
	rep := s.rescued()
	t.Logf("its pod was being deleted %v after the rescue had begun, and %v before it ended",
		stopping.Sub(rep.Began).Round(time.Millisecond), rep.Ended.Sub(stopping).Round(time.Millisecond))
	if !stopping.Before(rep.Ended) {
		t.Error("the rescue was over before the agent was told to stop")
	}
	if rep.Runs > 1 {
		t.Errorf("%d runs of the agent worked on the rescue: the old one should have finished it", rep.Runs)
	}
	unharmed(t, j)
	_, err = shared.Kubectl(s.ctx, "-n", AgentNamespace, "rollout", "status", "daemonset", "--timeout=2m")
	must(t, err)
	if now := s.agentPod(); now == old || strings.HasSuffix(now, " stops") {
		t.Errorf("the agent on node-a was not replaced: %s, before %s", now, old)
	}
	all, err := shared.Reports("node-a")
	must(t, err)
	all = slices.DeleteFunc(all, func(r *report.Report) bool { return j.In(r) == nil && r.Notice.ID != rep.Notice.ID })
	if len(all) != 1 {
		t.Errorf("the new agent has begun another rescue: %d reports are about the job or its notice, not %s alone", len(all), rep.ID)
	}
}

// agentPod is the uid of the agent's pod on node-a, and "stops" while it is being deleted.
func (s *scene) agentPod() string {
	s.t.Helper()
	out, err := shared.Kubectl(s.ctx, "-n", AgentNamespace, "get", "pods", "--field-selector=spec.nodeName=node-a", "-l=app.kubernetes.io/component=agent",
		`-o=go-template={{range .items}}{{.metadata.uid}}{{if .metadata.deletionTimestamp}} stops{{end}}{{end}}`)
	must(s.t, err)
	return out
}

// TestAPIServerAwayInARescue: the data path goes on without the API server, whether it has gone or hangs, and what could not be
// said is said when it is back.
func TestAPIServerAwayInARescue(t *testing.T) {
	for name, trouble := range map[string]struct {
		begin, end func(ctx context.Context) error
	}{
		"stopped": {
			func(context.Context) error { shared.StopAPIServer(); return nil },
			shared.StartAPIServer,
		},
		"hangs": {
			func(context.Context) error { return shared.API().Pause() },
			func(context.Context) error { return shared.API().Resume() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, AgentOptions{})
			j := s.job(JobOptions{Name: "api-" + name, Executors: 2, Maps: 24})
			leaving := s.on(j, "node-a")
			must(t, trouble.begin(s.ctx))
			back := false
			defer func() {
				if !back {
					must(t, trouble.end(context.Background()))
				}
			}()
			begin := time.Now()
			shared.Metadata("node-a").Announce(2 * time.Minute)
			rep := s.rescued()
			t.Logf("the report was there %v after the notice", time.Since(begin).Round(10*time.Millisecond))
			if took := rep.Ended.Sub(rep.Began); took > 30*time.Second {
				t.Errorf("the rescue took %v", took)
			}
			if len(rep.Unsaid) == 0 {
				t.Error("nothing was left to be said")
			}
			unharmed(t, j) // with nobody at the API server
			must(t, trouble.end(s.ctx))
			back = true
			for _, p := range leaving {
				s.told("spark", p.Name)
			}
			s.told("spark", j.Name)
			s.told("default", "node-a")
			must(t, lab.Until(s.ctx, "the node is cordoned", func(ctx context.Context) (bool, error) {
				out, err := shared.Kubectl(ctx, "get", "node", "node-a", "-o", "jsonpath={.spec.unschedulable} {.metadata.annotations.lifeboat\\.dev/last-rescue}")
				return err == nil && out == "true "+rep.ID, nil
			}))
		})
	}
}
