package awstest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// ask sends one request with these headers (name, value, name, value …).
func ask(t *testing.T, s *Server, method, path string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func token(t *testing.T, s *Server) string {
	t.Helper()
	r := ask(t, s, "PUT", tokenPath, ttlHeader, "60")
	if r.StatusCode != 200 || r.Header.Get(ttlHeader) != "60" {
		t.Fatalf("token: %s, ttl %q", r.Status, r.Header.Get(ttlHeader))
	}
	return body(t, r)
}

func TestTokenRules(t *testing.T) {
	s := New()
	for name, c := range map[string]struct {
		method  string
		headers []string
		want    int
	}{
		"good":     {"PUT", []string{ttlHeader, "21600"}, 200},
		"no ttl":   {"PUT", nil, 400},
		"zero":     {"PUT", []string{ttlHeader, "0"}, 400},
		"too long": {"PUT", []string{ttlHeader, "21601"}, 400},
		"no time":  {"PUT", []string{ttlHeader, "1h"}, 400},
		"proxied":  {"PUT", []string{ttlHeader, "60", "X-Forwarded-For", "10.0.0.1"}, 403},
		"GET":      {"GET", nil, 405},
	} {
		if r := ask(t, s, c.method, tokenPath, c.headers...); r.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", name, r.Status, c.want)
		}
	}
}

func TestMetadataNeedsOneValidToken(t *testing.T) {
	s := New()
	a, b := token(t, s), token(t, s)
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"none":    {nil, 401},
		"unknown": {[]string{tokenHeader, "x"}, 401},
		"good":    {[]string{tokenHeader, a}, 200},
		"two":     {[]string{tokenHeader, a, tokenHeader, b}, 401},
	} {
		if r := ask(t, s, "GET", instancePath, c.headers...); r.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", name, r.Status, c.want)
		}
	}
	s.RevokeTokens()
	if r := ask(t, s, "GET", instancePath, tokenHeader, a); r.StatusCode != 401 {
		t.Errorf("revoked: %s", r.Status)
	}
	s.TokenLife(time.Nanosecond)
	if r := ask(t, s, "GET", instancePath, tokenHeader, token(t, s)); r.StatusCode != 401 {
		t.Errorf("expired: %s", r.Status)
	}
}

func TestNotice(t *testing.T) {
	s := New()
	get := func(path string) *http.Response { return ask(t, s, "GET", path, tokenHeader, token(t, s)) }
	none := get(actionPath)
	if none.StatusCode != 404 || none.Header.Get("Content-Type") != "text/html" || !strings.Contains(body(t, none), "<h1>404 - Not Found</h1>") {
		t.Errorf("no notice: %s %v", none.Status, none.Header)
	}
	s.Announce("stop", time.Date(2017, 9, 18, 8, 22, 0, 999, time.UTC))
	if got := body(t, get(actionPath)); got != `{"action": "stop", "time": "2017-09-18T08:22:00Z"}` {
		t.Errorf("notice: %s", got)
	}
	if got := body(t, get(timePath)); got != "2017-09-18T08:22:00Z" {
		t.Errorf("termination-time: %s", got)
	}
	if got := body(t, get(instancePath)); got != InstanceID {
		t.Errorf("instance-id: %s", got)
	}
	s.Withdraw()
	if r := get(actionPath); r.StatusCode != 404 {
		t.Errorf("withdrawn: %s", r.Status)
	}
	if c := s.Counts(); c.Looks != 3 || c.Shown != 1 {
		t.Errorf("counts: %+v", c)
	}
}

func TestScriptTakesTurns(t *testing.T) {
	s := New()
	s.Faults(
		Fault{Kind: Unavailable, Count: 2},
		Fault{Kind: None, Count: 1},
		Fault{Kind: TooMany, On: Metadata, Count: 1},
		Fault{Kind: Internal, For: time.Hour},
	)
	for i, step := range []struct {
		method, path string
		want         int
	}{
		{"PUT", tokenPath, 503}, {"GET", actionPath, 503},
		{"PUT", tokenPath, 200},
		{"PUT", tokenPath, 200}, // the fault waits for a request for metadata
		{"GET", actionPath, 429},
		{"GET", actionPath, 500}, {"PUT", tokenPath, 500},
	} {
		if r := ask(t, s, step.method, step.path, ttlHeader, "60"); r.StatusCode != step.want {
			t.Errorf("request %d: %s, want %d", i, r.Status, step.want)
		}
	}
	// A fault that lasts for a time gives way to the next when the time is over.
	now := time.Now()
	sc := script{faults: []Fault{{Kind: Internal, For: time.Minute}, {Kind: TooMany, For: time.Minute}}, since: now}
	for after, want := range map[time.Duration]Kind{0: Internal, 59 * time.Second: Internal} {
		if f := sc.next(Token, now.Add(after)); f.Kind != want {
			t.Errorf("after %v: %s, want %s", after, f.Kind, want)
		}
	}
	if f := sc.next(Token, now.Add(61*time.Second)); f.Kind != TooMany {
		t.Errorf("after 61 s: %s", f.Kind)
	}
	if f := sc.next(Token, now.Add(121*time.Second)); f.Kind != None {
		t.Errorf("after 121 s: %s", f.Kind)
	}
}

func TestStart(t *testing.T) {
	s, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(s.URL() + instancePath)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != 401 || r.Header.Get("Server") != "EC2ws" || !r.Close {
		t.Errorf("%s %v", r.Status, r.Header)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(s.URL()); err == nil {
		t.Error("still listening")
	}
	if _, err := Start("256.0.0.1:0"); err == nil {
		t.Error("listens on an address that is none")
	}
}
