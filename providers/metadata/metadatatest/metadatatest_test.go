package metadatatest

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"
)

const (
	right     = `{"notice": true}`
	falseOne  = `{"notice": "false"}`
	tokenStep = Step("token")
)

// start returns a server that says right, and how often its credentials were revoked.
func start(t *testing.T) (s *Server, revoked *int) {
	t.Helper()
	revoked = new(int)
	s = New(Service{
		Header: "Fake/1.0",
		Serve:  func(w http.ResponseWriter, _ *http.Request) { Text(w, "application/json", right) },
		Step: func(r *http.Request) Step {
			if r.Method == http.MethodPut {
				return tokenStep
			}
			return "data"
		},
		Page:   func(w http.ResponseWriter, status int) { w.WriteHeader(status) },
		False:  falseOne,
		Broken: func(*http.Request) string { return `{"notice": tr` },
		Revoke: func() { *revoked++ },
	})
	if err := s.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, revoked
}

// ask sends one request and returns the answer's status, its body, and what went wrong.
func ask(t *testing.T, s *Server, method string, follow bool) (status int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.URL()+"/data", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{}
	if !follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}

func TestFaultsAreWhatTheySay(t *testing.T) {
	s, revoked := start(t)
	for kind, want := range map[Kind]int{
		None: 200, Unauthorized: 401, Forbidden: 403, NotFound: 404, Gone: 410, TooMany: 429, Internal: 500, Unavailable: 503, Redirect: 302,
	} {
		s.Faults(Fault{Kind: kind})
		if got, _, err := ask(t, s, "GET", false); err != nil || got != want {
			t.Errorf("%q: %d %v, want %d", kind, got, err, want)
		}
	}
	if *revoked != 1 {
		t.Errorf("credentials revoked %d times", *revoked)
	}
	for _, kind := range []Kind{Truncated, Reset} {
		s.Faults(Fault{Kind: kind})
		if _, body, err := ask(t, s, "GET", false); err == nil {
			t.Errorf("%q: answered %q", kind, body)
		}
	}
	s.Faults(Fault{Kind: Malformed})
	if _, body, err := ask(t, s, "GET", false); err != nil || body != `{"notice": tr` {
		t.Errorf("malformed: %q %v", body, err)
	}
	s.Faults(Fault{Kind: Huge})
	if _, body, err := ask(t, s, "GET", false); err != nil || len(body) != 1<<20 || body[:len(falseOne)] != falseOne {
		t.Errorf("huge: %d bytes, %v", len(body), err)
	}
	s.Faults(Fault{Kind: Slow, Delay: time.Millisecond})
	if _, body, err := ask(t, s, "GET", false); err != nil || body != right {
		t.Errorf("slow: %q %v", body, err)
	}
}

func TestFollowingARedirectIsCounted(t *testing.T) {
	s, _ := start(t)
	s.Faults(Fault{Kind: Redirect, Count: 1})
	if _, body, err := ask(t, s, "GET", true); err != nil || body != falseOne || s.Redirected() != 1 {
		t.Errorf("%q %v, %d followed", body, err, s.Redirected())
	}
}

func TestBlackHoleEndsWithTheClient(t *testing.T) {
	s, _ := start(t)
	s.Faults(Fault{Kind: BlackHole})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(r); err == nil {
		_ = resp.Body.Close()
		t.Error("answered")
	}
}

func TestScriptTakesTurns(t *testing.T) {
	s, _ := start(t)
	s.Faults(
		Fault{Kind: Unavailable, Count: 2},
		Fault{Kind: None, Count: 1},
		Fault{Kind: TooMany, On: "data", Count: 1},
		Fault{Kind: Internal, For: time.Hour},
	)
	for i, step := range []struct {
		method string
		want   int
	}{
		{"PUT", 503}, {"GET", 503},
		{"PUT", 200},
		{"PUT", 200}, // the fault waits for a request of the other step
		{"GET", 429},
		{"GET", 500}, {"PUT", 500},
	} {
		if got, _, err := ask(t, s, step.method, false); err != nil || got != step.want {
			t.Errorf("request %d: %d %v, want %d", i, got, err, step.want)
		}
	}
}

func TestFaultForATimeGivesWayToTheNext(t *testing.T) {
	now := time.Now()
	sc := script{faults: []Fault{{Kind: Internal, For: time.Minute}, {Kind: TooMany, For: time.Minute}}, since: now}
	for _, step := range []struct {
		after time.Duration
		want  Kind
	}{{0, Internal}, {59 * time.Second, Internal}, {61 * time.Second, TooMany}, {121 * time.Second, None}} {
		if f := sc.next("", now.Add(step.after)); f.Kind != step.want {
			t.Errorf("after %v: %q, want %q", step.after, f.Kind, step.want)
		}
	}
}

func TestClock(t *testing.T) {
	s, _ := start(t)
	s.Skew(time.Hour)
	resp, err := http.Get(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if ahead := time.Until(date); err != nil || ahead < 50*time.Minute || resp.Header.Get("Server") != "Fake/1.0" {
		t.Errorf("%v ahead, %v, %v", ahead, err, resp.Header)
	}
	if ahead := time.Until(s.Now()); ahead < 50*time.Minute {
		t.Errorf("Now is %v ahead", ahead)
	}
}

func TestListen(t *testing.T) {
	s := New(Service{})
	if err := s.Close(); err != nil || s.URL() != "" {
		t.Errorf("not listening: %v, URL %q", err, s.URL())
	}
	if err := s.Listen("256.0.0.1:0"); err == nil {
		t.Error("listens on an address that is none")
	}
}

func TestSet(t *testing.T) {
	s, _ := start(t)
	for _, c := range []struct {
		kind string
		want int
	}{{"unavailable", 503}, {"none", 200}, {"slow", 200}} {
		s.Set(c.kind, time.Millisecond)
		for range 2 {
			if got, _, err := ask(t, s, "GET", false); err != nil || got != c.want {
				t.Errorf("%s: %d %v, want %d", c.kind, got, err, c.want)
			}
		}
	}
}

func TestTokens(t *testing.T) {
	var tokens Tokens
	for _, ttl := range []string{"", "0", "-1", "21601", "1h"} {
		if _, ok := tokens.Give(ttl); ok {
			t.Errorf("a token for %q seconds", ttl)
		}
	}
	check := func(want bool, values ...string) {
		t.Helper()
		r := &http.Request{Header: http.Header{"X-Token": values}}
		if left, ok := tokens.Check(r, "X-Token"); ok != want || ok != (left > 0) {
			t.Errorf("%q: %v, %v left", values, ok, left)
		}
	}
	a, _ := tokens.Give("21600")
	b, _ := tokens.Give("1")
	check(true, a)
	check(true, b)
	check(false)
	check(false, "x")
	check(false, a, b)
	tokens.TokenLife(time.Nanosecond)
	c, _ := tokens.Give("60")
	check(false, c)
	tokens.RevokeTokens()
	check(false, a)
	if given, denied := tokens.Counts(); given != 3 || denied != 5 {
		t.Errorf("%d given, %d denied", given, denied)
	}
}
