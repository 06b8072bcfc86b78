package alibabatest

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// start returns a fake and a function that sends it one request with these headers (name, value …).
func start(t *testing.T) (s *Server, ask func(method, path string, headers ...string) (int, string)) {
	t.Helper()
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, func(method, path string, headers ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

func TestTokenRules(t *testing.T) {
	_, ask := start(t)
	for name, c := range map[string]struct {
		method  string
		headers []string
		want    int
	}{
		"good":     {"PUT", []string{ttlHeader, "21600"}, 200},
		"no ttl":   {"PUT", nil, 400},
		"zero":     {"PUT", []string{ttlHeader, "0"}, 400},
		"too long": {"PUT", []string{ttlHeader, "21700"}, 400},
		"proxied":  {"PUT", []string{ttlHeader, "60", "X-Forwarded-For", "www.example.com"}, 403},
	} {
		if got, body := ask(c.method, tokenPath, c.headers...); got != c.want {
			t.Errorf("%s: %d %s, want %d", name, got, body, c.want)
		}
	}
}

func TestMetadataNeedsOneValidToken(t *testing.T) {
	s, ask := start(t)
	token := func() string {
		_, body := ask("PUT", tokenPath, ttlHeader, "60")
		return body
	}
	a, b := token(), token()
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"none":    {nil, 403},
		"unknown": {[]string{tokenHeader, "aaa"}, 401},
		"good":    {[]string{tokenHeader, a}, 200},
		"two":     {[]string{tokenHeader, a, tokenHeader, b}, 401},
	} {
		if got, body := ask("GET", regionPath, c.headers...); got != c.want {
			t.Errorf("%s: %d %s, want %d", name, got, body, c.want)
		}
	}
	s.RevokeTokens()
	if got, _ := ask("GET", regionPath, tokenHeader, a); got != 401 {
		t.Errorf("revoked: %d", got)
	}
	s.TokenLife(time.Nanosecond)
	if got, _ := ask("GET", regionPath, tokenHeader, token()); got != 401 {
		t.Errorf("expired: %d", got)
	}
}

func TestNotice(t *testing.T) {
	s, ask := start(t)
	get := func() (int, string) {
		_, token := ask("PUT", tokenPath, ttlHeader, "60")
		return ask("GET", timePath, tokenHeader, token)
	}
	if status, _ := get(); status != 404 {
		t.Errorf("no notice: %d", status)
	}
	s.Announce(time.Date(2020, 4, 8, 1, 3, 0, 999, time.FixedZone("UTC+8", 8*60*60)))
	if _, body := get(); body != "2020-04-07T17:03:00Z" {
		t.Errorf("notice: %s", body)
	}
	s.Withdraw()
	if status, body := get(); status != 404 || !strings.Contains(body, "Not Found") {
		t.Errorf("withdrawn: %d %s", status, body)
	}
	if _, err := Listen("256.0.0.1:0"); err == nil {
		t.Error("listens on an address that is none")
	}
}
