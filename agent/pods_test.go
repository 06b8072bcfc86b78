package agent

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	memberPod = "/api/v1/namespaces/spark/pods/app-1-exec-1"
	homeNode  = "/api/v1/nodes/" + home
)

// inCluster puts the usual rescue into a cluster and runs its agent. change may alter the executor's pod before.
func inCluster(t *testing.T, n int, change func(s *stage, app *sparkApp, pod doc)) (s *stage, app *sparkApp, k *apiServer, d *daemon) {
	t.Helper()
	s, app, member, _ := usual(t, n)
	pod := podOf(member, nil, nil)
	if change != nil {
		change(s, app, pod)
	}
	k, a := s.kubernetes(pod)
	k.put("pods", doc{
		"metadata": doc{"name": "driver", "namespace": "spark", "uid": "driver-uid"},
		"spec":     doc{"nodeName": "node-d"}, "status": doc{"podIP": "10.0.0.5"},
	})
	d = s.run(a)
	s.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
	return s, app, k, d
}

// elsewhere puts a peer's pod on a node, and makes the node.
func (k *apiServer) elsewhere(x *sparkExecutor, node string, spec doc) {
	pod := podOf(x, nil, nil)
	pod["spec"].(doc)["nodeName"], pod["status"].(doc)["podIP"] = node, x.host
	k.put("pods", pod)
	k.put("nodes", doc{
		"metadata": doc{"name": node, "uid": "uid-" + node, "resourceVersion": "1"}, "spec": spec,
		"status": doc{"conditions": []doc{{"type": "Ready", "status": "True"}}},
	})
}

// isCordoned says whether the node takes no pods.
func (k *apiServer) isCordoned() bool {
	text, _ := json.Marshal(k.get(homeNode))
	return strings.Contains(string(text), `"unschedulable":true`)
}

func endedBy(rep *report.Report) string { return rep.Applications[0].Executors[0].EndedBy }

// TestPodIsDeletedOnceTheNodeIsCordoned: so that no replacement comes here, and its end is no failure of the application.
func TestPodIsDeletedOnceTheNodeIsCordoned(t *testing.T) {
	s, _, k, _ := inCluster(t, 5, nil)
	s.send(notice("n1", 30*time.Second))
	rep := s.report(1)
	saved(t, rep, 5)
	s.inOrder("api: PATCH "+memberPod, "api: DELETE "+memberPod)
	s.inOrder("api: DELETE "+memberPod, "api: 200 STATUS "+memberPod)
	s.inOrder("api: 200 STATUS "+memberPod, "api: DROP "+memberPod)
	s.inOrder("api: DROP "+memberPod, "ended 1")
	if s.first("api: PATCH "+homeNode) > s.first("api: DELETE") {
		t.Errorf("deleted before the node was cordoned: %q", s.seen("api"))
	}
	if endedBy(rep) != endedByPod {
		t.Errorf("ended by %s", endedBy(rep))
	}
	s.until("the node says that it is over", func() bool {
		text, _ := k.metaOf(homeNode, "annotations")[kube.OwnMark].(string)
		m, err := kube.ParseMark(text)
		return err == nil && m.Phase == kube.PhaseEnded && m.Report == rep.ID
	})
	if !k.isCordoned() {
		t.Errorf("not cordoned: %v", k.get(homeNode))
	}
}

// TestExecutorThatStartsInTheRescue: its pod was bound before the node was cordoned, and its process comes when all others are done.
func TestExecutorThatStartsInTheRescue(t *testing.T) {
	s, app, member, _ := usual(t, 3)
	late := app.peer("7", home)
	_, a := s.kubernetes(podOf(member, nil, nil), podOf(late, nil, nil))
	s.run(a)
	s.until("the pods are known", func() bool { return len(a.kube.Executors()) == 2 })
	s.send(notice("n1", 60*time.Second))
	s.await("ended 1")
	late.start(plain)
	s.await("ended 7")
	rep := s.report(1)
	saved(t, rep, 3)
	if x := rep.Applications[0].Executors; len(x) != 2 || !x[1].Told {
		t.Errorf("executors: %+v", x)
	}
	if rep.SecondsLeft < 10 {
		t.Errorf("%v s were left", rep.SecondsLeft)
	}
}

// TestPodThatNeverStarts holds up the end for half of the time that is left, and only where nothing can come in its place.
func TestPodThatNeverStarts(t *testing.T) {
	for name, tt := range map[string]struct {
		drill, cordon bool
		least, most   float64 // seconds left
	}{
		"cordoned":     {false, true, 5, 9},
		"not cordoned": {false, false, 10, 16},
		"a drill":      {true, true, 10, 16},
	} {
		t.Run(name, func(t *testing.T) {
			s, app, member, _ := usual(t, 3)
			s.cfg.Kubernetes.Cordon = tt.cordon
			_, a := s.kubernetes(podOf(member, nil, nil), podOf(app.peer("7", home), nil, nil))
			s.run(a)
			s.until("the pods are known", func() bool { return len(a.kube.Executors()) == 2 })
			n := notice("n1", 16*time.Second)
			n.Drill = tt.drill
			s.send(n)
			rep := s.report(1)
			saved(t, rep, 3)
			if rep.SecondsLeft < tt.least || rep.SecondsLeft > tt.most {
				t.Errorf("%.1f s left, want %v to %v", rep.SecondsLeft, tt.least, tt.most)
			}
		})
	}
}

// TestExecutorIsEndedByASignal where its pod can't be deleted, or must not be.
func TestExecutorIsEndedByASignal(t *testing.T) {
	for name, change := range map[string]func(s *stage, k *apiServer){
		"the API server is away": func(_ *stage, k *apiServer) {
			k.setTrouble(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		},
		"nothing may be deleted": func(_ *stage, k *apiServer) {
			k.setTrouble(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
		},
		"switched off": nil,
	} {
		t.Run(name, func(t *testing.T) {
			s, _, k, _ := inCluster(t, 3, func(s *stage, _ *sparkApp, _ doc) { s.cfg.Kubernetes.DeletePods = change != nil })
			if change != nil {
				change(s, k)
			}
			s.send(notice("n1", 30*time.Second))
			rep := s.report(1)
			saved(t, rep, 3)
			if endedBy(rep) != "SIGTERM" || rep.SecondsLeft < 20 {
				t.Errorf("ended by %s, %v s left", endedBy(rep), rep.SecondsLeft)
			}
			s.never("api: DELETE")
		})
	}
}

// TestSlowAPIServerHoldsUpNothing: up to the first copy it is waited for a second in all.
func TestSlowAPIServerHoldsUpNothing(t *testing.T) {
	s, _, k, _ := inCluster(t, 3, nil)
	k.setTrouble(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()
	s.send(notice("n1", 30*time.Second))
	s.await("data ")
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the first copy came after %v", took)
	}
	saved(t, s.report(1), 3)
}

// TestHookTellsTheDriver: whoever else told it first would have the hook's signal end the JVM at once.
func TestHookTellsTheDriver(t *testing.T) {
	for name, tt := range map[string]struct {
		hook    string // the preStop hook's command
		marks   bool   // the driver marks the executor
		trigger string
	}{
		"Spark's hook":          {decommissionScript, true, triggerHook},
		"a hook that is silent": {decommissionScript, false, triggerHook},
		"another hook":          {"/bin/true", false, triggerRPC},
	} {
		t.Run(name, func(t *testing.T) {
			s, app, k, _ := inCluster(t, 4, func(_ *stage, app *sparkApp, pod doc) {
				app.props["spark.decommission.enabled"] = "true"
				meta := pod["metadata"].(doc)
				meta["deletionTimestamp"] = time.Now().Add(25 * time.Second).UTC().Format(time.RFC3339)
				meta["deletionGracePeriodSeconds"] = 30
				pod["spec"].(doc)["containers"].([]doc)[0]["lifecycle"] = doc{"preStop": doc{"exec": doc{"command": []string{tt.hook}}}}
			})
			if tt.marks {
				s.until("the rescue has begun", func() bool { return len(s.seen("log: rescue begins")) == 1 })
				app.all()[0].set(func(x *sparkExecutor) { x.marked = true })
			}
			rep := s.report(1)
			saved(t, rep, 4)
			e := rep.Applications[0].Executors[0]
			if e.Trigger != tt.trigger || e.EndedBy != "SIGTERM" {
				t.Errorf("told by %s, ended by %s", e.Trigger, e.EndedBy)
			}
			if tt.trigger == triggerHook {
				s.never("told 1", "sigpwr")
			}
			s.inOrder("api: 200 STATUS "+memberPod, "ended 1")
			s.never("api: DROP")
			s.never("api: DELETE")
			if rep.Notice.Source != kube.PodsName || k.metaOf(homeNode, "annotations")[kube.OwnMark] != nil {
				t.Errorf("a rescue for %s has marked the node", rep.Notice.Source)
			}
		})
	}
}

// TestNothingGoesToNodesThatGo: what has gone there before that was known is copied once more.
func TestNothingGoesToNodesThatGo(t *testing.T) {
	for name, when := range map[string]string{"known before": "", "while it runs": "index "} {
		t.Run(name, func(t *testing.T) {
			s, app, k, _ := inCluster(t, 0, nil)
			member, doomed := app.all()[0], app.all()[1]
			k.elsewhere(doomed, "node-b", doc{"unschedulable": when == ""})
			var fine *sparkExecutor
			if when == "" {
				fine = app.peer("3", "node-c")
				k.elsewhere(fine, "node-c", doc{})
			}
			member.set(func(x *sparkExecutor) { x.tasks = 1 })
			member.commits(0, 5, 100)
			s.send(notice("n1", 30*time.Second))
			if when != "" {
				s.awaitN(when, 5)
				fine = app.peer("3", "node-c")
				k.elsewhere(fine, "node-c", doc{})
				k.elsewhere(doomed, "node-b", doc{"taints": []doc{{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}}})
			}
			s.until("the executor that stays holds all", func() bool { return fine.holds() == 5 })
			member.set(func(x *sparkExecutor) { x.tasks = 0 })
			saved(t, s.report(1), 5)
			if when == "" && doomed.holds() > 0 {
				t.Errorf("%d outputs went to a node that goes", doomed.holds())
			}
		})
	}
}

// goes taints the node of a peer.
func (k *apiServer) goes(x *sparkExecutor) {
	k.elsewhere(x, x.host, doc{"taints": []doc{{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}}})
}

// TestCopiesOnNodesThatGoCount where nothing else takes them.
func TestCopiesOnNodesThatGoCount(t *testing.T) {
	for name, doom := range map[string]func(s *stage, k *apiServer, two, three *sparkExecutor){
		"both at once": func(s *stage, k *apiServer, two, three *sparkExecutor) {
			k.goes(two)
			k.goes(three)
			s.awaitN("log: peer not used", 2)
		},
		"one after the other": func(s *stage, k *apiServer, two, three *sparkExecutor) {
			three.set(func(x *sparkExecutor) { x.silent = true })
			k.goes(two)
			s.await("log: outputs are copied again")
			k.goes(three)
			s.awaitN("log: peer not used", 2)
			three.set(func(x *sparkExecutor) { x.silent = false })
		},
		"the other refuses": func(s *stage, k *apiServer, two, three *sparkExecutor) {
			three.set(func(x *sparkExecutor) { x.refuse = "java.io.IOException: No space left on device" })
			k.goes(two)
			s.await("refused")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, app, k, _ := inCluster(t, 0, func(s *stage, _ *sparkApp, _ doc) { s.cfg.Migrate.Stall = time.Second })
			member, two, three := app.all()[0], app.all()[1], app.peer("3", "node-c")
			k.elsewhere(two, "node-b", doc{})
			k.elsewhere(three, "node-c", doc{})
			member.set(func(x *sparkExecutor) { x.tasks = 1 })
			member.commits(0, 8, 100)
			s.send(notice("n1", 40*time.Second))
			s.awaitN("index ", 8)
			if two.holds() == 0 || three.holds() == 0 {
				t.Fatalf("the peers hold %d and %d", two.holds(), three.holds())
			}
			doom(s, k, two, three)
			member.set(func(x *sparkExecutor) { x.tasks = 0 })
			rep := s.report(1)
			saved(t, rep, 8)
			if rep.SecondsLeft < 10 {
				t.Errorf("%.1f s left", rep.SecondsLeft)
			}
		})
	}
}

// TestCopyOfClosedFilesCounts: an executor on claims has ended and its files are let go when the node of their peer turns out to go.
func TestCopyOfClosedFilesCounts(t *testing.T) {
	s, app, k, a := onClaims(t, 5)
	two, other, fine := app.all()[1], app.member("3", plain), app.peer("4", "node-c")
	k.elsewhere(two, "node-b", doc{})
	k.elsewhere(fine, "node-c", doc{"unschedulable": true})
	other.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.run(a)
	s.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
	s.send(notice("n1", 40*time.Second))
	s.await("log: executor ended")
	k.elsewhere(fine, "node-c", doc{})
	s.awaitN("log: peer in use", 2)
	k.goes(two)
	s.await("log: outputs are copied again")
	other.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 5)
	if rep.SecondsLeft < 10 || fine.holds() > 0 {
		t.Errorf("%.1f s left, %d copied again", rep.SecondsLeft, fine.holds())
	}
}

// TestAllOthersGoToo: then nobody is told, and it is said why.
func TestAllOthersGoToo(t *testing.T) {
	s, app, k, _ := inCluster(t, 2, nil)
	k.elsewhere(app.all()[1], "node-b", doc{"unschedulable": true})
	s.send(notice("n1", 6*time.Second))
	rep := s.report(1)
	if rep.Outcome != report.None || !strings.Contains(rep.Applications[0].Error, errDoomed.Error()) {
		t.Errorf("%s: %s", rep.Outcome, rep.Applications[0].Error)
	}
	s.never("told", "ended", "data", "api: DELETE")
}

// TestDriverInAPodOfThisNode goes with it.
func TestDriverInAPodOfThisNode(t *testing.T) {
	s, _, k, d := inCluster(t, 2, func(_ *stage, _ *sparkApp, pod doc) {
		pod["metadata"].(doc)["ownerReferences"] = []doc{{"apiVersion": "v1", "kind": "Pod", "name": "here", "uid": "here-uid", "controller": true}}
	})
	k.put("pods", doc{
		"metadata": doc{"name": "here", "namespace": "spark", "uid": "here-uid"}, "spec": doc{"nodeName": home}, "status": doc{"podIP": "10.0.0.7"},
	})
	s.until("the driver's pod is known", func() bool {
		_, node, _ := d.kube.DriverAddress(d.kube.Executors()[0])
		return node == home
	})
	s.send(notice("n1", 20*time.Second))
	if rep := s.report(1); !strings.Contains(rep.Applications[0].Error, errDriverHere.Error()) {
		t.Errorf("%+v", rep.Applications[0])
	}
	s.never("told", "ended", "api: DELETE")
}

// TestDriverIsFoundByItsPod where its service's name leads nowhere.
func TestDriverIsFoundByItsPod(t *testing.T) {
	s, _, _, d := inCluster(t, 2, func(s *stage, app *sparkApp, pod doc) {
		env := &pod["spec"].(doc)["containers"].([]doc)[0]
		(*env)["env"] = append((*env)["env"].([]doc), doc{"name": "SPARK_DRIVER_URL", "value": app.driverURL()})
		s.dial = func(_ context.Context, host string) error {
			if host == app.host {
				return &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return nil
		}
	})
	s.until("the driver's pod is known", func() bool {
		_, node, _ := d.kube.DriverAddress(d.kube.Executors()[0])
		return node == "node-d"
	})
	s.send(notice("n1", 20*time.Second))
	saved(t, s.report(1), 2)
}

// TestOnlyAWholeNodeThatGoesIsMarked, and it is given back when its notice is withdrawn before anybody was told.
func TestOnlyAWholeNodeThatGoesIsMarked(t *testing.T) {
	for name, change := range map[string]func(n *providers.Notice){
		"one executor": func(n *providers.Notice) { n.App, n.Executors = "app-1", []string{"1"} },
		"a drill":      func(n *providers.Notice) { n.Drill = true },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, k, _ := inCluster(t, 2, nil)
			n := notice("n1", 20*time.Second)
			change(&n)
			s.send(n)
			saved(t, s.report(1), 2)
			if k.isCordoned() || k.metaOf(homeNode, "annotations")[kube.OwnMark] != nil {
				t.Errorf("marked: %v", k.get(homeNode))
			}
		})
	}
	t.Run("narrowed", func(t *testing.T) {
		s, app, k, _ := inCluster(t, 2, nil)
		app.setDeaf(true)
		s.send(notice("n1", 30*time.Second))
		s.until("the node is marked", k.isCordoned)
		one := of(notice("n2", 25*time.Second), "app-1", "1")
		s.send(one)
		s.leadsTo("n2", NoticeMerged)
		s.send(withdrawn(notice("n1", 30*time.Second)))
		s.until("the node is given back", func() bool { return !k.isCordoned() })
		app.setDeaf(false)
		saved(t, s.report(1), 2)
		if k.isCordoned() {
			t.Error("marked again")
		}
	})
	t.Run("withdrawn", func(t *testing.T) {
		s, app, k, _ := inCluster(t, 2, nil)
		app.setDeaf(true)
		s.send(notice("n1", 30*time.Second))
		s.await("api: PATCH " + homeNode)
		s.until("the node is marked", func() bool { return k.metaOf(homeNode, "annotations")[kube.OwnMark] != nil })
		s.send(withdrawn(notice("n1", 30*time.Second)))
		if rep := s.report(1); !rep.Withdrawn {
			t.Errorf("%+v", rep)
		}
		s.until("the node is given back", func() bool { return !k.isCordoned() && k.metaOf(homeNode, "annotations")[kube.OwnMark] == nil })
		s.never("told", "ended")
	})
}
