package gcptest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// ask sends one request as a client that knows the rules does.
func ask(t *testing.T, s *Server, path string, headers ...string) (status int, body string, header http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Metadata-Flavor", "Google")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	resp := w.Result()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestItems(t *testing.T) {
	s := New()
	want := func(item string, status int, body string) {
		t.Helper()
		got, text, h := ask(t, s, root+item)
		if got != status || !strings.Contains(text, body) || h.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%s: %d %s %v, want %d %s", item, got, text, h, status, body)
		}
	}
	want(preempted, 200, "FALSE")
	want(event, 200, "NONE")
	want(upcoming+"?alt=json", 503, "no notifications have been received yet")
	want(policy, 200, "TERMINATE")
	want("instance/id", 200, "45200")
	want("instance/nothing", 404, "Error 404")
	s.Preempt()
	s.Event(Migrate)
	s.Policy("MIGRATE")
	start := time.Date(2026, 12, 1, 19, 0, 1, 0, time.UTC)
	s.Schedule(start, start.Add(2*time.Hour), "PENDING")
	want(preempted, 200, "TRUE")
	want(event, 200, "MIGRATE_ON_HOST_MAINTENANCE")
	want(policy, 200, "MIGRATE")
	want(upcoming, 200, `"window_start_time": "2026-12-01T19:00:01Z"`)
	s.Reboot()
	want(preempted, 200, "FALSE")
	if c := s.Counts(); c.Plain != 7 || c.Long != 0 {
		t.Errorf("%+v", c)
	}
}

func TestHeaderRules(t *testing.T) {
	s := New()
	for name, h := range map[string][]string{
		"none":    {"Metadata-Flavor", ""},
		"other":   {"Metadata-Flavor", "Amazon"},
		"proxied": {"X-Forwarded-For", "10.0.0.1"},
	} {
		if status, _, _ := ask(t, s, root+preempted, h...); status != 403 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if c := s.Counts(); c.NoFlavor != 3 {
		t.Errorf("%+v", c)
	}
	s.Foreign(true)
	if status, _, h := ask(t, s, root+preempted); status != 200 || h.Get("Metadata-Flavor") != "" {
		t.Errorf("%d %v", status, h)
	}
}

func TestLongPolls(t *testing.T) {
	s := New()
	s.Behave(Manner{Second: time.Millisecond})
	_, _, h := ask(t, s, root+preempted)
	etag := h.Get("Etag")
	poll := func(etag string, seconds string) (string, string) {
		t.Helper()
		_, body, h := ask(t, s, root+preempted+"?wait_for_change=true&timeout_sec="+seconds+"&last_etag="+etag)
		return body, h.Get("Etag")
	}
	if body, now := poll(etag, "1"); body != "FALSE" || now != etag {
		t.Errorf("nothing happened: %s %s, before %s", body, now, etag)
	}
	if body, now := poll("another", "3600000"); body != "FALSE" || now != etag {
		t.Errorf("the client knows another version: %s %s", body, now)
	}
	done := make(chan string)
	go func() {
		body, _ := poll(etag, "3600000")
		done <- body
	}()
	for s.Counts().Long < 3 {
		s.Event(Migrate) // another item is no reason to answer
	}
	s.Preempt()
	if body := <-done; body != "TRUE" {
		t.Errorf("changed: %s", body)
	}
	if c := s.Counts(); c.Long != 3 {
		t.Errorf("%+v", c)
	}
}

func TestManners(t *testing.T) {
	etags := func(m Manner) (first, second string) {
		s := New()
		s.Behave(m)
		_, _, h := ask(t, s, root+event)
		_, _, again := ask(t, s, root+event)
		if m.ConstantEtag {
			s.Event(Migrate)
			_, _, again = ask(t, s, root+event)
		}
		return h.Get("Etag"), again.Get("Etag")
	}
	if a, b := etags(Manner{}); a == "" || a != b {
		t.Errorf("good: %s %s", a, b)
	}
	if a, b := etags(Manner{NewEtags: true}); a == b {
		t.Errorf("new etags: %s %s", a, b)
	}
	if a, b := etags(Manner{ConstantEtag: true}); a != b {
		t.Errorf("constant: %s %s", a, b)
	}
	if a, b := etags(Manner{NoEtag: true}); a != "" || b != "" {
		t.Errorf("none: %s %s", a, b)
	}
}
