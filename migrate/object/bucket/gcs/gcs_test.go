package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/buckettest"
)

// open opens gs://b/p at a server, with small parts.
func open(t *testing.T, endpoint string) *Bucket {
	t.Helper()
	place, err := bucket.Parse("gs://b/p")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), Options{Place: place, Settings: bucket.Settings{Endpoint: endpoint, Stall: 2 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	b.settings.PartSize = 1 << 20
	t.Cleanup(func() { b.Close() })
	return b
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func wantKind(t *testing.T, what string, err error, want bucket.Kind) {
	t.Helper()
	var e *bucket.Error
	if !errors.As(err, &e) || e.Kind != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func answer(reason, message string) string {
	return fmt.Sprintf(`{"error":{"message":%q,"errors":[{"reason":%q}]}}`, message, reason)
}

func TestKinds(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   bucket.Kind
	}{
		{400, answer("invalid", `Provided CRC32C "x" doesn't match calculated CRC32C "y".`), bucket.BadBody},
		{400, answer("invalid", "Invalid bucket name"), bucket.Misplaced},
		{401, answer("authError", "Invalid Credentials"), bucket.Denied},
		{403, answer("forbidden", "x does not have storage.objects.create access"), bucket.Denied},
		{403, answer("rateLimitExceeded", "slow"), bucket.Throttled},
		{403, answer("quotaExceeded", "quota"), bucket.Full},
		{404, answer("notFound", "The specified bucket does not exist."), bucket.Misplaced},
		{408, "", bucket.Unavailable},
		{412, answer("conditionNotMet", "At least one of the pre-conditions you specified did not hold."), bucket.Exists},
		{413, answer("uploadTooLarge", "large"), bucket.Full},
		{429, answer("rateLimitExceeded", "The rate of change requests is too high"), bucket.Throttled},
		{500, answer("backendError", "oops"), bucket.Unavailable},
		{503, answer("backendError", "oops"), bucket.Unavailable},
		{503, "<Code>SlowDown</Code>", bucket.Throttled},
		{307, "", bucket.Misplaced},
		{200, "no json", bucket.Unavailable},
		{200, strings.Repeat(" ", maxAnswer+1), bucket.Unavailable},
	} {
		b := open(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", "http://elsewhere.invalid/")
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}))
		what := fmt.Sprintf("%d %.60s", test.status, test.body)
		for _, size := range []int{10, 3 << 20} {
			if size == 10 || test.status != 200 {
				wantKind(t, fmt.Sprint(what, ": put of ", size), b.Put(t.Context(), "k", bytes.NewReader(make([]byte, size)), bucket.PutOptions{}), test.want)
			}
		}
		_, err := b.Stat(t.Context(), "k")
		wantKind(t, what+": stat", err, test.want)
		wantKind(t, what+": list", b.List(t.Context(), "", func(bucket.Object) error { return nil }), test.want)
		if test.status != 200 {
			_, err = b.Get(t.Context(), "k", 0, -1)
			wantKind(t, what+": get", err, test.want)
			wantKind(t, what+": delete", b.Delete(t.Context(), "k"), test.want)
		}
	}
}

// TestMissing: what a plain "not found" means depends on what was asked for.
func TestMissing(t *testing.T) {
	b := open(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "Not Found")
	}))
	_, err := b.Stat(t.Context(), "k")
	wantKind(t, "stat", err, bucket.NotFound)
	wantKind(t, "list", b.List(t.Context(), "", nil), bucket.Misplaced)
	wantKind(t, "put", b.Put(t.Context(), "k", bytes.NewReader(nil), bucket.PutOptions{}), bucket.Misplaced)
	wantKind(t, "large put", b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 2<<20)), bucket.PutOptions{}), bucket.Misplaced)
	if err := b.Delete(t.Context(), "k"); err != nil {
		t.Error(err)
	}
}

func TestRetryAfter(t *testing.T) {
	b := open(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	_, err := b.Stat(t.Context(), "k")
	var e *bucket.Error
	if !errors.As(err, &e) || e.RetryAfter != 3*time.Second || e.Kind != bucket.Throttled {
		t.Errorf("%#v", err)
	}
}

// service does resumable uploads as Google's does, and breaks connections by script.
type service struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	cuts    []int64 // the next requests break off after so many bytes, of which all but keeps are kept
	drops   int64   // what is lost of a request that broke off
	silent  int     // so many finished uploads get no answer
	content []byte
	size    int64
	asked   int
	auth    []string // of all requests but those to the session
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		var metadata struct{ Name, Crc32c string }
		if err := json.NewDecoder(r.Body).Decode(&metadata); err != nil || metadata.Name != "p/k" || metadata.Crc32c == "" {
			s.t.Errorf("metadata %+v, %v", metadata, err)
		}
		_, _ = fmt.Sscan(r.Header.Get("X-Upload-Content-Length"), &s.size)
		s.auth = append(s.auth, r.Header.Get("Authorization"))
		w.Header().Set("Location", s.url+"/session?upload_id=secret")
		return
	}
	if h := r.Header.Get("Authorization"); h != "" {
		s.t.Errorf("Authorization %q sent to a session", h)
	}
	var from, to, size int64
	if ask := fmt.Sprintf("bytes */%d", s.size); r.Header.Get("Content-Range") == ask {
		s.asked++
	} else if n, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size); n != 3 || err != nil ||
		size != s.size || to != size-1 || from != int64(len(s.content)) {
		s.t.Errorf("%q while %d of %d bytes are there", r.Header.Get("Content-Range"), len(s.content), s.size)
	} else if len(s.cuts) > 0 {
		got, _ := io.ReadAll(io.LimitReader(r.Body, s.cuts[0]))
		s.cuts = s.cuts[1:]
		s.content = append(s.content, got[:max(int64(len(got))-s.drops, 0)]...)
		panic(http.ErrAbortHandler)
	} else {
		got, _ := io.ReadAll(r.Body)
		s.content = append(s.content, got...)
		if s.silent > 0 {
			s.silent--
			panic(http.ErrAbortHandler)
		}
	}
	if int64(len(s.content)) == s.size {
		fmt.Fprintf(w, `{"name":"p/k","size":"%d"}`, s.size)
		return
	}
	if len(s.content) > 0 {
		w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(s.content)-1))
	}
	w.WriteHeader(http.StatusPermanentRedirect)
}

func TestResumes(t *testing.T) {
	content := buckettest.Bytes(1, 5<<20)
	for name, s := range map[string]*service{
		"nothing in the way":         {},
		"broken once":                {cuts: []int64{2 << 20}},
		"broken often":               {cuts: []int64{1 << 20, 100_000, 0, 0, 1 << 20, 0, 0, 0, 300_000}},
		"parts of what was sent":     {cuts: []int64{2 << 20, 1 << 20}, drops: 77_777},
		"the last answer is missing": {silent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.url = serve(t, s.ServeHTTP)
			b := open(t, s.url)
			if err := b.Put(t.Context(), "k", bytes.NewReader(content), bucket.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.content, content) {
				t.Errorf("%d bytes arrived that differ from the %d sent", len(s.content), len(content))
			}
		})
	}
}

// TestResumesInVain: an upload that makes no progress ends, and its error does not show the address of the session.
func TestResumesInVain(t *testing.T) {
	s := &service{t: t, cuts: make([]int64, 100)}
	s.url = serve(t, s.ServeHTTP)
	err := open(t, s.url).Put(t.Context(), "k", bytes.NewReader(make([]byte, 3<<20)), bucket.PutOptions{})
	wantKind(t, "put", err, bucket.Unavailable)
	if !errors.Is(err, errStuck) || strings.Contains(err.Error(), "secret") || s.asked != resumptions+1 {
		t.Errorf("%v after %d questions", err, s.asked)
	}
}

// TestHostileAnswers: what no service says is an error, not a stored object.
func TestHostileAnswers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"another size": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":"p/k","size":"7"}`) },
		"no size":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) },
		"no session":   func(http.ResponseWriter, *http.Request) {},
		"more than there is": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://"+r.Host+"/session")
			if r.Method == http.MethodPut {
				w.Header().Set("Range", "bytes=0-99999999999")
				w.WriteHeader(http.StatusPermanentRedirect)
			}
		},
		"expired": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://"+r.Host+"/session")
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusGone)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				h(w, r)
			}))
			wantKind(t, "put", b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 10)), bucket.PutOptions{}), bucket.Unavailable)
			wantKind(t, "large put", b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 2<<20)), bucket.PutOptions{}), bucket.Unavailable)
		})
	}
}

func TestLists(t *testing.T) {
	page := `{"items":[{"name":"p/a","size":"1","updated":"2026-01-02T03:04:05Z"},{"name":"p/folder/","size":"0"},` +
		`{"name":"other","size":"5"}],"nextPageToken":%q}`
	b := open(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, page, "next") // again and again
	}))
	n := 0
	err := b.List(t.Context(), "", func(o bucket.Object) error {
		if n++; o.Key != "a" || o.Size != 1 || o.Modified.Year() != 2026 {
			t.Errorf("%+v", o)
		}
		return nil
	})
	if err == nil || n != 1 {
		t.Errorf("%d objects, %v; want an end to the same page", n, err)
	}
}

func TestEndpoint(t *testing.T) {
	for _, test := range []struct {
		configured, emulated, want string
		secure                     bool
	}{
		{"", "", Endpoint, true},
		{"", "127.0.0.1:4443", "http://127.0.0.1:4443", false},
		{"", "https://127.0.0.1:4443/", "https://127.0.0.1:4443", false},
		{"https://private.example.com", "127.0.0.1:4443", "https://private.example.com", true},
		{"http://127.0.0.1:1/", "", "http://127.0.0.1:1", false},
	} {
		got, secure, err := endpointOf(test.configured, test.emulated)
		if err != nil || got != test.want || secure != test.secure {
			t.Errorf("%+v: %q, %v, %v", test, got, secure, err)
		}
	}
	for _, url := range []string{"gs://", "gs://a@b/c"} {
		place, err := bucket.Parse(url)
		if err == nil {
			_, err = Open(context.Background(), Options{Place: place})
		}
		wantKind(t, url, err, bucket.Misplaced)
	}
}
