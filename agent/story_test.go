package agent

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
)

const claimPath = "/api/v1/namespaces/spark/persistentvolumeclaims/"

// onClaims puts the usual rescue into a cluster: the executor's local dir is a claim, and its pod has another one with
// dependencies.
func onClaims(t *testing.T, n int) (s *stage, app *sparkApp, k *apiServer, a *Agent) {
	t.Helper()
	s, app, member, _ := usual(t, n)
	k, a = s.kubernetes(podOf(member, []doc{
		{"name": "local", "persistentVolumeClaim": doc{"claimName": "local-1"}},
		{"name": "deps", "persistentVolumeClaim": doc{"claimName": "deps"}},
	}, []doc{{"name": "local", "mountPath": "/local/app-1"}, {"name": "deps", "mountPath": "/deps"}}))
	k.put("pods", doc{"metadata": doc{"name": "driver", "namespace": "spark", "uid": "driver-uid"}, "status": doc{}})
	for _, name := range []string{"local-1", "deps"} {
		k.put("persistentvolumeclaims", doc{
			"metadata": doc{"name": name, "namespace": "spark", "uid": "uid-" + name, "resourceVersion": "5", "labels": doc{"spark-app-selector": "app-1"}},
			"spec":     doc{"volumeName": "pv-" + name},
		})
	}
	k.put("persistentvolumes", doc{"metadata": doc{"name": "pv-local-1"}, "spec": doc{}})
	return s, app, k, a
}

// metaOf reads the labels and annotations of an object.
func (k *apiServer) metaOf(path, part string) map[string]any {
	meta, _ := k.get(path)["metadata"].(doc)
	switch all := meta[part].(type) {
	case doc:
		return all
	case map[string]any:
		return all
	}
	return nil
}

// TestStoryOfARescue: what kubectl get events tells, and what is written on the claim before the executor ends.
func TestStoryOfARescue(t *testing.T) {
	s, _, k, a := onClaims(t, 5)
	d := s.run(a)
	s.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
	s.send(notice("n1", 30*time.Second))
	rep := s.report(1)
	saved(t, rep, 5)
	want := []string{
		"SparkRescueBegan Node/node-a", "SparkRescueBegan Pod/app-1-exec-1", "SparkRescueBegan Pod/driver",
		"SparkRescueEnded Node/node-a", "SparkRescueEnded Pod/app-1-exec-1", "SparkRescueEnded Pod/driver",
		"SparkRescueSaved Node/node-a", "SparkRescueSaved Pod/app-1-exec-1", "SparkRescueSaved Pod/driver",
	}
	s.until("all is told", func() bool { return len(k.told()) >= len(want) })
	if got := k.told(); !slices.Equal(got, want) {
		t.Errorf("told: %q", got)
	}
	for what, words := range map[string][]string{
		"SparkRescueBegan Node/node-a":      {rep.ID, "preemption (script)", "Executors here: 1"},
		"SparkRescueBegan Pod/app-1-exec-1": {rep.ID, "this executor leaves", "5 (", "executors elsewhere that can take them: 1"},
		"SparkRescueSaved Pod/app-1-exec-1": {rep.ID, "5 ("},
		"SparkRescueEnded Pod/driver":       {"on node node-a is over", "lifeboat report " + rep.ID},
	} {
		for text := k.says(t, what); len(words) > 0; words = words[1:] {
			if !strings.Contains(text, words[0]) {
				t.Errorf("%s: %q does not say %q", what, text, words[0])
			}
		}
	}
	s.inOrder("api: PATCH "+claimPath+"local-1", "ended")
	labels, notes := k.metaOf(claimPath+"local-1", "labels"), k.metaOf(claimPath+"local-1", "annotations")
	if labels["lifeboat.dev/state"] != "complete" || labels["lifeboat.dev/executor"] != "1" || labels["spark-app-selector"] != "app-1" {
		t.Errorf("labels %v", labels)
	}
	if notes["lifeboat.dev/outputs"] != "0:0-4" || notes["lifeboat.dev/report"] != rep.ID || notes["lifeboat.dev/marked-by"] != home {
		t.Errorf("annotations %v", notes)
	}
	if other := k.metaOf(claimPath+"deps", "annotations"); other != nil || len(s.seen("api: PATCH "+claimPath+"deps")) > 0 {
		t.Errorf("the claim of the dependencies was touched: %v", other)
	}
	for _, path := range []string{"/api/v1/namespaces/spark/pods/driver", "/api/v1/nodes/node-a"} {
		s.until(path+" names the report", func() bool { return k.metaOf(path, "annotations")["lifeboat.dev/last-rescue"] == rep.ID })
	}
	d.stop()
	<-d.done
}

func TestStoryOfALoss(t *testing.T) {
	s, app, k, a := onClaims(t, 3)
	for _, x := range app.all() {
		x.set(func(x *sparkExecutor) { x.refuse = "no space left on device" })
	}
	s.run(a)
	s.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
	s.send(notice("n1", 8*time.Second))
	rep := s.report(1)
	if rep.Outcome != report.None {
		t.Fatalf("outcome %s", rep.Outcome)
	}
	s.until("the loss is told", func() bool { return slices.Contains(k.told(), "SparkRescueLost Pod/driver") })
	if text := k.says(t, "SparkRescueLost Pod/driver"); !strings.Contains(text, "lost: 3 (") || !strings.Contains(text, "Because: ") {
		t.Errorf("%q", text)
	}
	s.until("the claim is marked", func() bool { // on a busy machine after the rescue
		state := k.metaOf(claimPath+"local-1", "labels")["lifeboat.dev/state"]
		return state == "partial" || state == "complete"
	})
}

// TestStoryWithoutADestination: the driver names the report also of a rescue that could not begin.
func TestStoryWithoutADestination(t *testing.T) {
	s, app, k, a := onClaims(t, 3)
	for _, x := range app.all() {
		if x.host != home {
			x.set(func(x *sparkExecutor) { x.unknown = true })
		}
	}
	s.run(a)
	s.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
	s.send(notice("n1", 4*time.Second))
	rep := s.report(1)
	s.untouched(rep, "no usable destination")
	s.until("the loss is told", func() bool { return slices.Contains(k.told(), "SparkRescueLost Pod/driver") })
	s.until("the driver names the report", func() bool {
		return k.metaOf("/api/v1/namespaces/spark/pods/driver", "annotations")["lifeboat.dev/last-rescue"] == rep.ID
	})
}

// TestAPITroubleDuringARescue: the data path goes on without the API server, and what was not said is said when it is back.
func TestAPITroubleDuringARescue(t *testing.T) {
	for name, trouble := range map[string]func(w http.ResponseWriter, r *http.Request){
		"hangs":  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"breaks": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"is broken": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "etcd has no leader", http.StatusServiceUnavailable)
		},
		"throttles": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
		},
		"refuses": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "rbac", http.StatusForbidden) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, k, a := onClaims(t, 20)
			s.run(a)
			s.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
			k.setTrouble(trouble)
			s.send(notice("n1", time.Minute))
			rep := s.report(1)
			saved(t, rep, 20)
			if took := rep.Ended.Sub(rep.Began); took > 15*time.Second {
				t.Errorf("the rescue took %v", took)
			}
			if !slices.ContainsFunc(rep.Unsaid, func(u string) bool { return strings.Contains(u, "mark of claim spark/local-1") }) {
				t.Errorf("unsaid: %q", rep.Unsaid)
			}
			k.setTrouble(nil)
			s.until("the claim is marked", func() bool { return k.metaOf(claimPath+"local-1", "labels")["lifeboat.dev/state"] == "complete" })
			s.until("all is told", func() bool { return len(k.told()) == 9 })
			s.until("the report knows", func() bool {
				rep, err := report.Load(s.cfg.State, rep.ID)
				return err == nil && len(rep.Unsaid) == 0 && len(rep.Problems) == 0
			})
		})
	}
}

// TestWhatIsNeverSaidIsAProblem: an agent that ends before the API server is back says so in the report.
func TestWhatIsNeverSaidIsAProblem(t *testing.T) {
	s, _, k, a := onClaims(t, 3)
	d := s.run(a)
	s.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
	k.setTrouble(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.send(notice("n1", time.Minute))
	id := s.report(1).ID
	d.stop()
	<-d.done
	rep, err := report.Load(s.cfg.State, id)
	must(t, err)
	if !slices.ContainsFunc(rep.Problems, func(p string) bool {
		return strings.Contains(p, "mark of claim spark/local-1") && strings.Contains(p, "the agent ends")
	}) {
		t.Errorf("problems: %q", rep.Problems)
	}
	// The next run of it has not forgotten.
	k.setTrouble(nil)
	client, _, err := openKubernetes(s.cfg, a.deps, nil)
	if err == nil {
		next := s.agent()
		next.kube = client
		s.run(next)
	}
	must(t, err)
	s.until("the claim is marked", func() bool { return k.metaOf(claimPath+"local-1", "labels")["lifeboat.dev/state"] == "complete" })
}
