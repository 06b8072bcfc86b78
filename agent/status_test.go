package agent

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/status"
)

// ask is one request to the agent's pages.
func (d *daemon) ask(s *stage, method, path, body string) (code int, answer string) {
	w := httptest.NewRecorder()
	status.Handler(status.Options{Gatherer: d.registry, Reporter: d.Agent, Log: s.logger()}).
		ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// TestDefect08LivenessNeverFails because of metadata that is refused, silent or missing. Readiness does, and says why.
func TestDefect08LivenessNeverFails(t *testing.T) {
	s := newStage(t)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(refusing.Close)
	s.cfg.Providers.AWS.Enabled, s.cfg.Providers.AWS.Endpoint = config.On, refusing.URL
	s.cfg.Providers.Azure.Enabled, s.cfg.Providers.Azure.Endpoint = config.On, "http://127.0.0.1:1"
	s.cfg.Providers.File = config.File{Enabled: true, Path: filepath.Join(t.TempDir(), "missing", "notice"), Lead: time.Minute}
	s.cfg.Providers.Kube.Enabled = config.Off
	a, err := New(s.cfg, Deps{Log: s.logger(), Registry: prometheus.NewRegistry(), Version: "test", Dialer: s, Proc: s.proc})
	must(t, err)
	d := s.run(a)
	s.awaitN("log: source of notices down", 6)
	code, answer := d.ask(s, http.MethodGet, "/readyz", "")
	if code != http.StatusServiceUnavailable {
		t.Errorf("ready: %d %s", code, answer)
	}
	for _, source := range []string{"aws-spot", "azure-events", "file"} {
		if !strings.Contains(answer, "notice source "+source+" does not answer: ") {
			t.Errorf("%s lacks why %s does not work", answer, source)
		}
	}
	if code, answer := d.ask(s, http.MethodGet, "/healthz", ""); code != http.StatusOK {
		t.Errorf("alive: %d %s", code, answer)
	}
	select {
	case <-d.done:
		t.Errorf("the agent has ended: %v", d.err)
	default:
	}
}

// TestDefect09NoRequestStartsAnything: whoever can reach the address can look, and no more.
func TestDefect09NoRequestStartsAnything(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	s.await("log: source of notices up") // of drills
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		for _, path := range []string{"/", "/status", "/metrics", "/healthz", "/readyz", "/notices", "/notice", "/drill", "/drain", "/rescue", "/debug/pprof/"} {
			code, _ := d.ask(s, method, path+"?kind=drain", `{"kind": "drain"}`)
			if read := method == "GET" || method == "HEAD"; !read && code < 400 {
				t.Errorf("%s %s is answered with %d", method, path, code)
			}
		}
	}
	s.never("log: notice\t", "log: rescue begins", "told", "ended")
	if ids, err := journal.IDs(s.cfg.State); len(ids) > 0 || err != nil {
		t.Errorf("rescues: %v, %v", ids, err)
	}
}

// TestStatusShowsWhatSourcesSee, and what was made of it.
func TestStatusShowsWhatSourcesSee(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	n := maintenance("n1", 24*time.Hour)
	s.send(n)
	s.leadsTo("n1", NoticeScheduled)
	got := d.Status(t.Context())
	if len(got.Notices) != 1 || got.Notices[0].ID != "n1" || got.Notices[0].LeadsTo != NoticeScheduled {
		t.Errorf("notices %+v", got.Notices)
	}
	if len(got.Sources) != 2 || got.Sources[0].Source != "script" || !got.Sources[1].Drills {
		t.Errorf("sources %+v", got.Sources)
	}
	for i := range 2 * maxHandled {
		d.handled.note(notice(time.Duration(i).String(), time.Minute), NoticeRecorded)
	}
	if n := len(d.Status(t.Context()).Notices); n != maxHandled {
		t.Errorf("%d notices are kept", n)
	}
}
