package status

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

type fixed Status

func (f fixed) Status(context.Context) Status { return Status(f) }

func healthy() Status {
	return Status{
		Version: "v1", Node: "n", Sources: []Source{{Health: providers.Health{Source: "file", OK: true}}, {Health: providers.Health{Source: "aws-spot", Error: "no route"}}},
		Executors: []Executor{{App: "a", ID: "1", Host: "h", PID: 7}},
		Rescue:    &Rescue{ID: "20261121-101502-7f3a", Found: 10, Saved: 4},
	}
}

func options(s Status) Options {
	reg := prometheus.NewRegistry()
	NewMetrics(reg).Saved(100, migrate.Target{Executor: "1"})
	return Options{Addr: "127.0.0.1:0", Gatherer: reg, Reporter: fixed(s), Log: zap.NewNop()}
}

func get(t *testing.T, s Status, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(options(s)).ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func TestPages(t *testing.T) {
	stateless := healthy()
	stateless.State.Error = "state folder: read-only file system"
	silent := healthy()
	silent.Sources[0].Health = providers.Health{Source: "file", Error: "not a folder"}
	none := healthy()
	none.Sources = nil
	stopping := healthy()
	stopping.Stopping = true
	tests := []struct {
		name, method, path string
		status             Status
		code               int
		want               string
	}{
		{"metrics", "GET", "/metrics", healthy(), 200, `lifeboat_outputs_total{result="saved"} 1`},
		{"health", "GET", "/healthz", healthy(), 200, "ok"},
		{"health never asks", "GET", "/healthz", none, 200, "ok"},
		{"ready", "GET", "/readyz", healthy(), 200, `"ready": true`},
		{"one source is enough", "GET", "/readyz", healthy(), 200, `"reasons": []`},
		{"no source answers", "GET", "/readyz", silent, 503, "notice source aws-spot does not answer: no route"},
		{"no source", "GET", "/readyz", none, 503, "no source of notices is enabled"},
		{"state", "GET", "/readyz", stateless, 503, "read-only file system"},
		{"stopping", "GET", "/readyz", stopping, 503, "stopping"},
		{"status", "GET", "/status", healthy(), 200, `"savedOutputs": 4`},
		{"head", "HEAD", "/status", healthy(), 200, ""},
		{"unknown", "GET", "/", healthy(), 404, ""},
		{"below", "GET", "/status/x", healthy(), 404, ""},
		{"no pprof", "GET", "/debug/pprof/", healthy(), 404, ""},
		{"post", "POST", "/status", healthy(), 405, ""},
		{"delete", "DELETE", "/metrics", healthy(), 405, ""},
		{"put", "PUT", "/healthz", healthy(), 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, body := get(t, tt.status, tt.method, tt.path)
			if code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("%d %s", code, body)
			}
		})
	}
}

func TestStatusIsReadBack(t *testing.T) {
	_, body := get(t, healthy(), "GET", "/status")
	var got Status
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Rescue.Found != 10 || got.Executors[0].PID != 7 {
		t.Errorf("%v %+v", err, got)
	}
	_, body = get(t, Status{}, "GET", "/status")
	for _, want := range []string{`"rescue": null`, `"executors": []`, `"sources": []`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s lacks %s", body, want)
		}
	}
}

// TestServe: a request that runs when the server is stopped gets its answer.
func TestServe(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	o := options(healthy())
	o.Reporter = slow{entered, leave}
	s, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), Options{Addr: s.Addr().String(), Reporter: fixed{}, Log: zap.NewNop()}); err == nil {
		t.Error("a port twice")
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	answer := make(chan string, 1)
	go func() {
		client := http.Client{Timeout: 10 * time.Second}
		res, err := client.Get("http://" + s.Addr().String() + "/status")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	<-entered
	cancel()
	close(leave)
	if got := <-answer; !strings.Contains(got, `"node": "slow"`) {
		t.Error(got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type slow struct{ entered, leave chan struct{} }

func (s slow) Status(context.Context) Status {
	close(s.entered)
	<-s.leave
	return Status{Node: "slow"}
}

func TestServeEndsWithItsListener(t *testing.T) {
	s, err := Listen(t.Context(), options(healthy()))
	if err != nil {
		t.Fatal(err)
	}
	_ = s.listener.Close()
	if err := s.Serve(t.Context()); err == nil {
		t.Error("no error")
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	n := providers.Notice{Source: "file"}
	m.Notice(n, "rescue")
	m.Acknowledged("azure-events", false)
	m.Reacted(time.Second)
	m.Phase("copy", time.Second)
	m.Retried(migrate.Gone)
	m.Lost(5)
	m.Unsaved(7)
	m.SetExecutors(3)
	m.SetPinned(9)
	m.SetRunning(true)
	m.SetAtRisk(2, 20)
	m.SetForecast(30, math.Inf(1))
	CountSources(reg, func() float64 { return 2 })
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
	m.Rescued(&report.Report{Outcome: report.Some, SecondsLeft: -2, Applications: []report.Application{{Recompute: report.Recompute{Avoided: 3}}}})
	m.Rescued(&report.Report{Outcome: report.Some, DryRun: true})
	part := []report.Application{{Lost: report.Amount{Outputs: 4}}}
	m.Rescued(&report.Report{Outcome: report.None, Applications: part})
	m.Rescued(&report.Report{Outcome: report.None, Applications: part, Interrupted: true})
	m.Rescued(&report.Report{Outcome: report.None, Applications: part, DryRun: true})
	for name, c := range map[string]struct {
		got  prometheus.Collector
		want float64
	}{
		"retries": {m.retries.WithLabelValues("gone"), 1}, "lost": {m.bytes.WithLabelValues(lost), 5},
		"unsaved": {m.outputs.WithLabelValues(unsaved), 1}, "running": {m.running, 1}, "at risk": {m.bytesAtRisk, 20},
		"rescues": {m.rescues.WithLabelValues("some", "false"), 1}, "left": {m.lastSecondsLeft, 0}, "avoided": {m.recomputeAvoided, 3},
		"lost in rescues": {m.lostInRescues.WithLabelValues("false"), 4}, "time left": {m.timeLeft, 30}, "expected": {m.expected, math.Inf(1)},
		"executors": {m.executors, 3}, "pinned": {m.pinned, 9},
	} {
		if v := testutil.ToFloat64(c.got); v != c.want {
			t.Errorf("%s is %v, want %v", name, v, c.want)
		}
	}
	m.SetRunning(false)
	if !math.IsNaN(testutil.ToFloat64(m.timeLeft)) || !math.IsNaN(testutil.ToFloat64(m.expected)) {
		t.Error("a forecast after the rescue")
	}
	if testutil.ToFloat64(m.outputsAtRisk) != 0 {
		t.Error("at risk after the rescue")
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 23 {
		t.Errorf("%d families, %v", len(families), err)
	}
}
