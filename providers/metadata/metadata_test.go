package metadata

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// serve answers every request with the handler.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnswer(t *testing.T) {
	date := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", date.Format(http.TimeFormat))
		if r.URL.RequestURI() != "/item?v=1" {
			http.NotFound(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Etag", "e1")
		_, _ = io.WriteString(w, r.Method+" "+r.Header.Get("Metadata")+" "+string(body))
	})
	a, err := c.Do(t.Context(), http.MethodPost, "/item?v=1", http.Header{"metadata": {"true"}}, []byte("x"))
	if err != nil || !a.Found() || a.Status != 200 || string(a.Body) != "POST true x" || !a.Date.Equal(date) || a.Header.Get("Etag") != "e1" {
		t.Errorf("%+v %v", a, err)
	}
	a, err = c.Get(t.Context(), "/other", nil)
	if err != nil || a.Found() || a.Status != 404 || len(a.Body) != 0 || !a.Date.Equal(date) {
		t.Errorf("404: %+v %v", a, err)
	}
}

func TestFailuresAreClassified(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, "page", code) }
	}
	for name, tt := range map[string]struct {
		serve  http.HandlerFunc
		want   providers.Result
		status int
		says   string
	}{
		"401":     {status(401), providers.Denied, 401, "GET /item: 401"},
		"403":     {status(403), providers.Denied, 403, "switched off"},
		"410":     {status(410), providers.Status, 410, "410"},
		"429":     {status(429), providers.Status, 429, "429"},
		"503":     {status(503), providers.Status, 503, "503"},
		"moved":   {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, providers.Denied, 302, "redirects"},
		"huge":    {func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, MaxBody+1)) }, providers.Malformed, 200, "longer than"},
		"headers": {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, providers.Unreachable, 0, "header"},
		"cut": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "half")
		}, providers.Malformed, 200, "unexpected EOF"},
		"reset": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, providers.Unreachable, 0, "EOF"},
		"silent": {func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, providers.Timeout, 0, "GET /item was not answered in time"},
		"slow page": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(502)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, providers.Status, 502, "502"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/item" {
					t.Errorf("followed to %s", r.URL.Path)
				}
				tt.serve(w, r)
			})
			limit := 10 * time.Second
			if name == "silent" {
				limit = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			a, err := c.Get(ctx, "/item", nil)
			var pe *providers.PollError
			if !errors.As(err, &pe) || pe.Result != tt.want || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v is not %s with %q", err, tt.want, tt.says)
			}
			if a.Status != tt.status || len(a.Body) > 0 {
				t.Errorf("answer %d, %d bytes; want %d", a.Status, len(a.Body), tt.status)
			}
		})
	}
}

func TestNoProxyIsAsked(t *testing.T) {
	c, err := New("http://169.254.169.254")
	if err != nil {
		t.Fatal(err)
	}
	// The standard transport reads the environment once per process, so that it can't be set here.
	if c.http.Transport.(*wire).next.(*http.Transport).Proxy != nil {
		t.Error("a proxy would be asked")
	}
}

func TestErrorBodies(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(503)
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	}))
	t.Cleanup(s.Close)
	for limit, want := range map[int64]int{0: 0, 10: 10, 2000: 1000} {
		ctx, x := Watch(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := HTTPClient(Options{ErrorBody: limit}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || len(body) != want || x.Status != 503 {
			t.Errorf("limit %d: %d bytes, status %d, %v", limit, len(body), x.Status, err)
		}
		resp.Body.Close()
	}
}

func TestEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"http://169.254.169.254":   "http://169.254.169.254",
		"http://[fd00:ec2::254]/":  "http://[fd00:ec2::254]",
		"https://127.0.0.1:1/x/":   "https://127.0.0.1:1/x",
		"169.254.169.254":          "",
		"ftp://169.254.169.254":    "",
		"http:///x":                "",
		"http://h?x":               "",
		"http://h/\x7f":            "",
		"":                         "",
		"metadata.google.internal": "",
	} {
		got, err := Endpoint(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}

func TestCheckToken(t *testing.T) {
	for token, good := range map[string]bool{
		"AQAAAGD9==": true, strings.Repeat("a", MaxToken): true,
		"": false, strings.Repeat("a", MaxToken+1): false, "a b": false, "a\n": false, "<html>\n": false, "ä": false,
	} {
		if err := CheckToken([]byte(token)); (err == nil) != good {
			t.Errorf("%.20q: %v", token, err)
		}
	}
}
