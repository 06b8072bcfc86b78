package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// answer is what a scripted server says to every request.
type answer struct {
	status int
	code   string
	header map[string]string
}

func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(a.status)
	if a.code != "" && r.Method != http.MethodHead {
		fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>no</Message><RequestId>1</RequestId></Error>`, a.code)
	}
}

func client(t *testing.T, h http.Handler, s bucket.Settings) *Bucket {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s.Endpoint, s.PathStyle = server.URL, true
	if s.Credentials == (bucket.Credentials{}) {
		s.Credentials = bucket.Credentials{ID: "id", Secret: "hunter2"}
	}
	return open(t, s)
}

func open(t *testing.T, s bucket.Settings) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), Options{Place: bucket.Place{Scheme: "s3a", Authority: "b", Prefix: "x"}, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func put(ctx context.Context, b *Bucket, o bucket.PutOptions) error {
	return b.Put(ctx, "k", bytes.NewReader([]byte("content")), o)
}

// TestCodes: what each answer of a storage means, with and without a text that says so.
func TestCodes(t *testing.T) {
	region := map[string]string{regionHeader: "eu-central-1"}
	for _, c := range []struct {
		answer
		put, stat bucket.Kind
		says      string
	}{
		{answer{403, "AccessDenied", nil}, bucket.Denied, bucket.Denied, ""},
		{answer{400, "ExpiredToken", nil}, bucket.Denied, bucket.Denied, "ExpiredToken"},
		{answer{403, "SignatureDoesNotMatch", nil}, bucket.Denied, bucket.Denied, ""},
		{answer{403, "InvalidAccessKeyId", nil}, bucket.Denied, bucket.Denied, ""},
		{answer{403, "RequestTimeTooSkewed", nil}, bucket.Denied, bucket.Denied, "clock of this node"},
		{answer{400, "KMS.DisabledException", nil}, bucket.Denied, bucket.Denied, ""},
		{answer{401, "", nil}, bucket.Denied, bucket.Denied, ""},
		{answer{404, "NoSuchBucket", nil}, bucket.Misplaced, bucket.NotFound, ""},
		{answer{404, "NoSuchKey", nil}, bucket.NotFound, bucket.NotFound, ""},
		{answer{301, "PermanentRedirect", region}, bucket.Misplaced, bucket.Misplaced, `region "eu-central-1"`},
		{answer{307, "TemporaryRedirect", map[string]string{"Location": "http://example.invalid/"}}, bucket.Misplaced, bucket.Misplaced, ""},
		{answer{400, "AuthorizationHeaderMalformed", region}, bucket.Misplaced, bucket.Denied, `region "eu-central-1"`},
		{answer{501, "NotImplemented", nil}, bucket.Misplaced, bucket.Misplaced, ""},
		{answer{403, "QuotaExceeded", nil}, bucket.Full, bucket.Denied, ""},
		{answer{507, "XMinioStorageFull", nil}, bucket.Full, bucket.Full, ""},
		{answer{400, "BadDigest", nil}, bucket.BadBody, bucket.Denied, ""},
		{answer{400, "XAmzContentSHA256Mismatch", nil}, bucket.BadBody, bucket.Denied, ""},
		{answer{412, "PreconditionFailed", nil}, bucket.Exists, bucket.Exists, ""},
		{answer{400, "RequestTimeout", nil}, bucket.Unavailable, bucket.Denied, ""},
		{answer{418, "Unheard", nil}, bucket.Unavailable, bucket.Unavailable, ""},
	} {
		b := client(t, c.answer, bucket.Settings{})
		err := put(t.Context(), b, bucket.PutOptions{})
		var e *bucket.Error
		if !errors.As(err, &e) || e.Kind != c.put || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("put, %d %s: %v", c.status, c.code, err)
		}
		if _, err := b.Stat(t.Context(), "k"); err == nil || bucket.KindOf(err) != c.stat {
			t.Errorf("stat, %d %s: %v", c.status, c.code, err)
		}
	}
}

// TestThrottled: the storage's own time is waited for, a few times, and not beyond the caller's.
func TestThrottled(t *testing.T) {
	for _, a := range []answer{
		{503, "SlowDown", map[string]string{"Retry-After": "1"}}, {429, "TooManyRequests", nil}, {503, "", nil},
	} {
		var n atomic.Int64
		b := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) < 3 {
				a.ServeHTTP(w, r)
				return
			}
			answer{200, "", nil}.ServeHTTP(w, r)
		}), bucket.Settings{})
		begin := time.Now()
		if err := put(t.Context(), b, bucket.PutOptions{}); err != nil || n.Load() != 3 {
			t.Errorf("%+v: %v after %d requests", a, err, n.Load())
		}
		if took := time.Since(begin); len(a.header) > 0 && took < 2*time.Second {
			t.Errorf("%+v: two pauses of a second took %v", a, took)
		}
	}
	b := client(t, answer{503, "SlowDown", map[string]string{"Retry-After": "5"}}, bucket.Settings{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := put(ctx, b, bucket.PutOptions{})
	var e *bucket.Error
	if !errors.As(err, &e) || e.Kind != bucket.Throttled || e.RetryAfter != 5*time.Second || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
}

// TestTrouble: a server in trouble is asked three times, but never for a second object where the first must be new.
func TestTrouble(t *testing.T) {
	for _, c := range []struct {
		o    bucket.PutOptions
		want int64
	}{{bucket.PutOptions{}, attempts}, {bucket.PutOptions{IfAbsent: true}, 1}} {
		var n atomic.Int64
		b := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			if got := r.Header.Get("If-None-Match"); (got == "*") != c.o.IfAbsent {
				t.Errorf("If-None-Match %q", got)
			}
			if r.Header.Get("X-Amz-Checksum-Crc32c") == "" {
				t.Error("sent without a checksum")
			}
			answer{500, "InternalError", nil}.ServeHTTP(w, r)
		}), bucket.Settings{})
		if err := put(t.Context(), b, c.o); err == nil || bucket.KindOf(err) != bucket.Unavailable || n.Load() != c.want {
			t.Errorf("%+v: %v after %d requests", c.o, err, n.Load())
		}
	}
}

// TestSpoiled: what was spoiled on its way is sent again.
func TestSpoiled(t *testing.T) {
	var n atomic.Int64
	b := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < 3 {
			answer{400, "BadDigest", nil}.ServeHTTP(w, r)
			return
		}
		answer{200, "", nil}.ServeHTTP(w, r)
	}), bucket.Settings{})
	if err := put(t.Context(), b, bucket.PutOptions{}); err != nil || n.Load() != 3 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

// TestConflict: another writer of the same key is at work, and has won in the end.
func TestConflict(t *testing.T) {
	var n atomic.Int64
	b := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			answer{409, conflict, nil}.ServeHTTP(w, r)
			return
		}
		answer{412, "PreconditionFailed", nil}.ServeHTTP(w, r)
	}), bucket.Settings{})
	if err := put(t.Context(), b, bucket.PutOptions{IfAbsent: true}); bucket.KindOf(err) != bucket.Exists || n.Load() != 2 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

func TestEncryption(t *testing.T) {
	got := make(chan http.Header, 1)
	b := client(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Header
	}), bucket.Settings{Encryption: bucket.Encryption{Algorithm: "aws:kms", Key: "k1"}})
	if err := put(t.Context(), b, bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	h := <-got
	if h.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "k1" {
		t.Errorf("%v", h)
	}
}

// TestNobodyThere: what can't be reached is unavailable, and a black hole ends after the time of a stall.
func TestNobodyThere(t *testing.T) {
	server := httptest.NewServer(answer{})
	server.Close()
	b := open(t, bucket.Settings{Endpoint: server.URL, Credentials: bucket.Credentials{ID: "id", Secret: "s"}})
	if err := put(t.Context(), b, bucket.PutOptions{}); err == nil || bucket.KindOf(err) != bucket.Unavailable {
		t.Errorf("%v", err)
	}
	hole := make(chan struct{})
	b = client(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hole }), bucket.Settings{Stall: 200 * time.Millisecond})
	defer close(hole)
	begin := time.Now()
	err := put(t.Context(), b, bucket.PutOptions{})
	if bucket.KindOf(err) != bucket.Unavailable || !errors.Is(err, bucket.ErrStalled) || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestNoCredentials(t *testing.T) {
	for k, v := range map[string]string{
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "HOME": t.TempDir(),
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "",
	} {
		t.Setenv(k, v)
	}
	b := open(t, bucket.Settings{Endpoint: "http://127.0.0.1:1"})
	if err := put(t.Context(), b, bucket.PutOptions{}); err == nil || bucket.KindOf(err) != bucket.Denied {
		t.Errorf("%v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, endpoint := range []string{"minio:9000", "ftp://x", "http://user:hunter2@x", "http://x?hunter2", "http://", ":"} {
		_, err := Open(t.Context(), Options{
			Place: bucket.Place{Scheme: "s3", Authority: "b"}, Settings: bucket.Settings{Endpoint: endpoint},
		})
		if err == nil || bucket.KindOf(err) != bucket.Misplaced || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	if _, err := Open(t.Context(), Options{Place: bucket.Place{Scheme: "s3"}}); bucket.KindOf(err) != bucket.Misplaced {
		t.Errorf("no bucket: %v", err)
	}
}

// TestBrokenAnswer: an object that ends early is an error of the reader.
func TestBrokenAnswer(t *testing.T) {
	b := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write(make([]byte, 50))
	}), bucket.Settings{})
	r, err := b.Get(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	var e *bucket.Error
	if len(got) != 50 || !errors.As(err, &e) || e.Kind != bucket.Unavailable || e.Key != "k" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := b.Get(t.Context(), "k", 0, 50); err == nil || bucket.KindOf(err) != bucket.BadBody {
		t.Errorf("another length than asked for: %v", err)
	}
}

// doer answers instead of Amazon.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// TestRegion: without any setting the bucket's region is what Amazon says to anybody.
func TestRegion(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header string
		want   string
		kind   bucket.Kind
	}{
		"public": {200, "eu-west-1", "eu-west-1", 0}, "private": {403, "eu-central-1", "eu-central-1", 0},
		"moved": {301, "ap-south-1", "ap-south-1", 0}, "no such bucket": {404, "", "", bucket.Misplaced},
		"in trouble": {500, "", "", bucket.Unavailable},
	} {
		b := &Bucket{place: bucket.Place{Scheme: "s3a", Authority: "b"}, name: aws.String("b"), forget: func() {}}
		cfg := aws.Config{RetryMaxAttempts: 1, HTTPClient: doer(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Authorization") != "" || !strings.HasSuffix(r.URL.Host, ".amazonaws.com") {
				t.Errorf("%s: asked %s with %q", name, r.URL, r.Header.Get("Authorization"))
			}
			h := http.Header{}
			if c.header != "" {
				h.Set(regionHeader, c.header)
			}
			return &http.Response{StatusCode: c.status, Header: h, Body: http.NoBody, Request: r}, nil
		})}
		w := bucket.Watch(t.Context(), bucket.Settings{})
		err := b.region(w, &cfg)
		w.Stop()
		if c.want != "" && (err != nil || cfg.Region != c.want) || c.want == "" && (err == nil || bucket.KindOf(err) != c.kind) {
			t.Errorf("%s: region %q, %v", name, cfg.Region, err)
		}
	}
}
