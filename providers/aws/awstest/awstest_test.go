package awstest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
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

func TestItems(t *testing.T) {
	s := New()
	get := func(path string) (int, string) {
		r := ask(t, s, "GET", path, tokenHeader, token(t, s))
		return r.StatusCode, body(t, r)
	}
	want := func(path string, status int, text string) {
		t.Helper()
		if code, got := get(path); code != status || text != "" && got != text {
			t.Errorf("%s: %d %s, want %d %s", path, code, got, status, text)
		}
	}
	want(rebalancePath, 404, "")
	want(lifecyclePath, 404, "")
	want(scheduledPath, 200, "[]")
	want(partitionPath, 200, "aws")
	at := time.Date(2019, 1, 21, 9, 0, 43, 0, time.UTC)
	s.Recommend(at)
	want(rebalancePath, 200, `{"noticeTime": "2019-01-21T09:00:43Z"}`)
	s.Lifecycle("Terminated")
	want(lifecyclePath, 200, "Terminated")
	s.Schedule(Event{ID: "instance-event-1", Code: "system-reboot", NotBefore: at, NotAfter: at.Add(time.Hour)})
	_, list := get(scheduledPath)
	for _, part := range []string{`"NotBefore": "21 Jan 2019 09:00:43 GMT"`, `"NotAfter": "21 Jan 2019 10:00:43 GMT"`, `"State": "active"`, `"EventId": "instance-event-1"`} {
		if !strings.Contains(list, part) {
			t.Errorf("no %s in %s", part, list)
		}
	}
	s.RecommendDocument("")
	s.Lifecycle("")
	s.Schedule()
	want(rebalancePath, 404, "")
	want(lifecyclePath, 404, "")
	want(scheduledPath, 200, "[]")
}

func TestFaultsOfOneStep(t *testing.T) {
	s := New()
	valid := token(t, s)
	s.Faults(metadatatest.Fault{Kind: metadatatest.Unauthorized, On: Metadata, Count: 1})
	token(t, s)
	if r := ask(t, s, "GET", instancePath, tokenHeader, valid); r.StatusCode != 401 {
		t.Errorf("fault: %s", r.Status)
	}
	if r := ask(t, s, "GET", instancePath, tokenHeader, valid); r.StatusCode != 401 {
		t.Errorf("a 401 has not revoked the tokens: %s", r.Status)
	}
	if r := ask(t, s, "GET", instancePath, tokenHeader, token(t, s)); r.StatusCode != 200 {
		t.Errorf("new token: %s", r.Status)
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
