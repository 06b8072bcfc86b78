package kube

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) *Cluster {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return openFor(t, server.URL)
}

func TestDoSendsWhatItWasGiven(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPatch || r.URL.RequestURI() != "/api/v1/nodes/n?dryRun=All" || r.Header.Get("Content-Type") != MergePatch ||
			string(body) != `{"a":1}` {
			t.Errorf("%s %s %q %s", r.Method, r.URL, r.Header, body)
		}
		says(http.StatusOK, `{"b": 2}`)(w, r)
	})
	var out struct{ B int }
	err := c.Do(t.Context(), Request{
		Method: http.MethodPatch, Path: "/api/v1/nodes/n", Query: url.Values{"dryRun": {"All"}}, Patch: MergePatch, In: map[string]int{"a": 1}, Out: &out,
	})
	if err != nil || out.B != 2 {
		t.Errorf("%v %v", out, err)
	}
}

func TestWhatAnswersStandFor(t *testing.T) {
	all := []error{ErrNotFound, ErrConflict, ErrForbidden, ErrTooMany, ErrAway}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   error
		text   string
	}{
		"not there":     {says(404, `{"reason": "NotFound", "message": "pods \"x\" not found"}`), ErrNotFound, `404 NotFound: pods "x" not found`},
		"has changed":   {says(409, `{"reason": "Conflict"}`), ErrConflict, "409 Conflict"},
		"not allowed":   {says(403, `{"reason": "Forbidden"}`), ErrForbidden, "permission is missing"},
		"not known":     {says(401, `Unauthorized`), ErrForbidden, "401"},
		"too many":      {says(429, `{}`), ErrTooMany, "429"},
		"in trouble":    {says(503, `<html>`), ErrAway, "503"},
		"breaks off":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrAway, "is away"},
		"invalid":       {says(422, `{"reason": "Invalid", "message": "`+strings.Repeat("x", 5000)+`"}`), nil, "422 Invalid"},
		"not an object": {says(200, `{"a": `), nil, "can't be read"},
		"too long":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, MaxAnswer+1) }, nil, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, tt.answer)
			var out json.RawMessage
			err := c.Do(t.Context(), Request{Method: http.MethodGet, Path: "/api/v1/nodes/n", Out: &out})
			if err == nil || !strings.Contains(err.Error(), tt.text) || len(err.Error()) > 1000 {
				t.Fatal(err)
			}
			for _, stands := range all {
				if errors.Is(err, stands) != (stands == tt.want) {
					t.Errorf("%v is %v", err, stands)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestDoSaysWhenToComeBack(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "2")
		says(429, `{}`)(w, r)
	})
	var e *StatusError
	if err := c.Do(t.Context(), Request{Method: http.MethodGet, Path: "/"}); !errors.As(err, &e) || e.RetryAfter != 2*time.Second {
		t.Errorf("%v", err)
	}
}

func TestDoKeepsItsDeadline(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Do(ctx, Request{Method: http.MethodGet, Path: "/"}); !errors.Is(err, ErrAway) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestDoTriesRotatedCredentialsOnce(t *testing.T) {
	asked := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		says(200, `{}`)(w, r)
	})
	if err := c.Do(t.Context(), Request{Method: http.MethodDelete, Path: "/"}); err != nil || asked != 2 {
		t.Errorf("%d %v", asked, err)
	}
}
