package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/agent/config"
)

// doc is a document of the API.
type doc map[string]any

// apiServer plays the API server of a cluster whose node is the stage. The real one is in integration; this one can be put
// into any trouble at any step of a rescue.
type apiServer struct {
	stage *stage

	mu      sync.Mutex
	objects map[string]doc  // by path; patches are merged into them
	deleted map[string]bool // by path
	events  []doc
	trouble func(w http.ResponseWriter, r *http.Request) // instead of an answer to anything but a watch; nil: none
}

// kubernetes puts the stage's node into a cluster, with the pods of its executors, and returns an agent that knows of it.
func (s *stage) kubernetes(pods ...doc) (*apiServer, *Agent) {
	s.t.Helper()
	k := &apiServer{stage: s, deleted: map[string]bool{}, objects: map[string]doc{
		"/api/v1/nodes/" + home: {"metadata": doc{"name": home, "uid": "node-uid", "resourceVersion": "1"}},
	}}
	for _, p := range pods {
		k.put("pods", p)
	}
	server := httptest.NewServer(k)
	s.t.Cleanup(server.Close)
	s.t.Cleanup(server.CloseClientConnections)
	access := filepath.Join(s.t.TempDir(), "kubeconfig")
	must(s.t, os.WriteFile(access, fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
		"clusters": [{"name": "c", "cluster": {"server": %q}}], "users": [{"name": "u", "user": {}}]}`, server.URL), 0o600))
	s.cfg.Providers.Kube = config.Kube{Enabled: config.On, Kubeconfig: access, Node: home, Timeout: config.Default().Providers.Kube.Timeout, Lead: config.Default().Providers.Kube.Lead}
	client, sources, err := openKubernetes(s.cfg, Deps{Log: s.logger(), Registry: prometheus.NewRegistry(), Proc: s.proc}, nil)
	must(s.t, err)
	s.others = sources
	a := s.agent()
	a.kube = client
	return k, a
}

// podOf describes the pod of an executor with one local dir, and a driver in a pod.
func podOf(x *sparkExecutor, volumes []doc, mounts []doc) doc {
	controller := true
	return doc{
		"metadata": doc{
			"name": x.app.id + "-exec-" + x.id, "namespace": "spark", "uid": "pod-uid-" + x.id, "resourceVersion": "2",
			"labels":          doc{"spark-role": "executor", "spark-app-selector": x.app.id, "spark-exec-id": x.id},
			"ownerReferences": []doc{{"apiVersion": "v1", "kind": "Pod", "name": "driver", "uid": "driver-uid", "controller": controller}},
		},
		"spec": doc{
			"nodeName": home, "volumes": volumes,
			"containers": []doc{{"name": "spark-kubernetes-executor", "volumeMounts": mounts, "env": []doc{
				{"name": "SPARK_EXECUTOR_ID", "value": x.id}, {"name": "SPARK_LOCAL_DIRS", "value": "/local/" + x.app.id},
			}}},
		},
		"status": doc{"phase": "Running", "podIP": "10.0.0.9"},
	}
}

func (k *apiServer) put(kind string, o doc) {
	meta := o["metadata"].(doc)
	k.mu.Lock()
	defer k.mu.Unlock()
	path := "/api/v1/" + kind + "/" + meta["name"].(string)
	if ns, has := meta["namespace"].(string); has {
		path = "/api/v1/namespaces/" + ns + "/" + kind + "/" + meta["name"].(string)
	}
	k.objects[path] = o
}

func (k *apiServer) get(path string) doc {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.objects[path])
}

// setTrouble begins it; nil ends it.
func (k *apiServer) setTrouble(trouble func(w http.ResponseWriter, r *http.Request)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trouble = trouble
}

func (k *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	k.mu.Lock()
	trouble := k.trouble
	k.mu.Unlock()
	switch {
	case r.URL.Query().Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case trouble != nil:
		trouble(w, r)
	default:
		code, text := k.answer(r, body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(text)
		if path, status := strings.CutSuffix(r.URL.Path, "/status"); status {
			k.stage.happened("api: %d STATUS %s", code, path)
		} else if r.Method == http.MethodDelete && strings.Contains(string(body), `"gracePeriodSeconds":0`) {
			k.stage.happened("api: DROP %s", r.URL.Path)
		} else if r.Method != http.MethodGet {
			k.stage.happened("api: %s %s", r.Method, r.URL.Path)
		}
	}
}

func refusal(code int, reason string) (int, doc) {
	return code, doc{"kind": "Status", "code": code, "reason": reason}
}

func (k *apiServer) answer(r *http.Request, body []byte) (int, doc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, known := k.objects[r.URL.Path]
	var in doc
	_ = json.Unmarshal(body, &in)
	switch {
	case r.Method == http.MethodGet && (r.URL.Path == "/api/v1/nodes" || r.URL.Path == "/api/v1/pods"):
		return http.StatusOK, k.list(r)
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pods"):
		return http.StatusOK, k.table()
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/events"):
		name := in["metadata"].(map[string]any)["name"]
		if slices.ContainsFunc(k.events, func(e doc) bool { return e["metadata"].(map[string]any)["name"] == name }) {
			return refusal(http.StatusConflict, "AlreadyExists")
		}
		k.events = append(k.events, in)
		return http.StatusCreated, in
	case strings.HasSuffix(r.URL.Path, "/status"): // of a pod, which must be on its way out
		of := strings.TrimSuffix(r.URL.Path, "/status")
		meta, _ := k.objects[of]["metadata"].(doc)
		if !k.deleted[of] && meta["deletionTimestamp"] == nil {
			return refusal(http.StatusUnprocessableEntity, "Invalid")
		}
	case !known:
		return refusal(http.StatusNotFound, "NotFound")
	case r.Method == http.MethodPatch:
		k.objects[r.URL.Path] = merge(o, in)
	case r.Method == http.MethodDelete:
		delete(k.objects, r.URL.Path)
		k.deleted[r.URL.Path] = true
	}
	return http.StatusOK, o
}

// list is what a selector of a field picks of a kind.
func (k *apiServer) list(r *http.Request) doc {
	items := []doc{}
	field, value, _ := strings.Cut(r.URL.Query().Get("fieldSelector"), "=")
	for at, o := range k.objects {
		spec, _ := o["spec"].(doc)
		switch {
		case field == "metadata.name" && at == "/api/v1/nodes/"+value,
			field == "spec.nodeName" && strings.Contains(at, "/pods/") && spec["nodeName"] == value:
			items = append(items, o)
		}
	}
	return doc{"kind": "List", "metadata": doc{"resourceVersion": "3"}, "items": items}
}

// table prints the executors' pods of a namespace.
func (k *apiServer) table() doc {
	rows := []doc{}
	for at, o := range k.objects {
		if labels, _ := o["metadata"].(doc)["labels"].(doc); strings.Contains(at, "/pods/") && labels["spark-role"] == "executor" {
			rows = append(rows, doc{"cells": []any{at, o["status"].(doc)["podIP"], o["spec"].(doc)["nodeName"]}})
		}
	}
	return doc{"kind": "Table", "columnDefinitions": []doc{{"name": "Name"}, {"name": "IP"}, {"name": "Node"}}, "rows": rows}
}

// merge is a JSON merge patch (RFC 7386).
func merge(into, patch map[string]any) doc {
	out := maps.Clone(into)
	for key, v := range patch {
		more, isMap := v.(map[string]any)
		switch had := out[key].(type) {
		case doc:
			if isMap {
				v = merge(had, more)
			}
		case map[string]any:
			if isMap {
				v = merge(had, more)
			}
		}
		if v == nil {
			delete(out, key)
		} else {
			out[key] = v
		}
	}
	return out
}

// told are the Events, as "reason kind/name", in no order.
func (k *apiServer) told() (all []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.events {
		of := e["involvedObject"].(map[string]any)
		all = append(all, fmt.Sprintf("%s %s/%s", e["reason"], of["kind"], of["name"]))
	}
	slices.Sort(all)
	return all
}

// says is the message of one Event.
func (k *apiServer) says(t *testing.T, what string) string {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.events {
		of := e["involvedObject"].(map[string]any)
		if fmt.Sprintf("%s %s/%s", e["reason"], of["kind"], of["name"]) == what {
			return e["message"].(string)
		}
	}
	t.Errorf("nobody has said %s", what)
	return ""
}
