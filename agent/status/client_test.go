package status

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestFetch(t *testing.T) {
	s := healthy()
	s.Started = time.Now()
	agent := httptest.NewServer(Handler(options(s)))
	t.Cleanup(agent.Close)
	_, port, err := net.SplitHostPort(agent.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{agent.Listener.Addr().String(), "0.0.0.0:" + port, ":" + port} {
		got, err := Fetch(t.Context(), addr)
		if err != nil || got.Node != "n" || got.Rescue.Found != 10 || len(got.Sources) != 2 {
			t.Errorf("%s: %v %+v", addr, err, got)
		}
	}
	if _, err := Fetch(t.Context(), ""); !errors.Is(err, ErrNoServer) {
		t.Errorf("no address: %v", err)
	}
	if _, err := Fetch(t.Context(), "127.0.0.1:1"); err == nil {
		t.Error("nobody listens")
	}
}

// TestFetchFromSomethingElse: whoever listens there is not believed.
func TestFetchFromSomethingElse(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
		"no JSON":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"other JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status": "ok"}`)) },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"node": "` + strings.Repeat("x", maxStatus) + `"}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			other := httptest.NewServer(answer)
			t.Cleanup(other.Close)
			if _, err := Fetch(t.Context(), other.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "something else listens") {
				t.Errorf("got %v", err)
			}
		})
	}
}
