package gcs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// keyFile writes a service account's key whose tokens come from a server.
func keyFile(t *testing.T, tokenURL string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "token_uri": tokenURL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secure opens a bucket at a server with TLS, which the client trusts.
func secure(t *testing.T, h http.Handler) (*Bucket, string, error) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	place, err := bucket.Parse("gs://b/p")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), Options{Place: place, Settings: bucket.Settings{Endpoint: s.URL}})
	if err == nil {
		b.client.Transport = s.Client().Transport
	}
	return b, s.URL, err
}

// TestDefaultCredentials: a key file leads to one token for many requests, which goes everywhere but to sessions.
func TestDefaultCredentials(t *testing.T) {
	var fetched atomic.Int32
	tokens := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"abc","token_type":"Bearer","expires_in":3600}`)
	})
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", keyFile(t, tokens))
	s := &service{t: t}
	b, url, err := secure(t, s)
	if err != nil {
		t.Fatal(err)
	}
	s.url, b.settings.PartSize = url, 1<<20
	for range 3 {
		s.content = nil
		if err := b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 2<<20)), bucket.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range s.auth {
		if h != "Bearer abc" {
			t.Errorf("Authorization %q", h)
		}
	}
	if fetched.Load() != 1 || len(s.auth) != 3 {
		t.Errorf("%d tokens for %d requests", fetched.Load(), len(s.auth))
	}
	s.url = "http" + url[len("https"):]
	err = b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 2<<20)), bucket.PutOptions{})
	wantKind(t, "a session without TLS", err, bucket.Unavailable)
}

func TestBadCredentials(t *testing.T) {
	refuse := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
	})
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", keyFile(t, refuse))
	b, _, err := secure(t, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Stat(t.Context(), "k")
	wantKind(t, "a key that is refused", err, bucket.Denied)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "none"))
	_, _, err = secure(t, http.NotFoundHandler())
	wantKind(t, "no key file", err, bucket.Denied)
	if !errors.Is(err, errCredentials) {
		t.Errorf("%v does not say what to do", err)
	}
}

// slow is a source of tokens that hangs.
type slow struct {
	calls atomic.Int32
	free  chan struct{}
}

func (s *slow) Token() (*oauth2.Token, error) {
	s.calls.Add(1)
	<-s.free
	return &oauth2.Token{AccessToken: "abc", Expiry: time.Now().Add(time.Hour)}, nil
}

// TestHangingTokens: callers wait no longer than their context lasts, however many there are and whatever hangs.
func TestHangingTokens(t *testing.T) {
	source := &slow{free: make(chan struct{})}
	k := &tokens{source: source}
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := k.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
	close(source.free)
	if token, err := k.get(t.Context()); err != nil || token.AccessToken != "abc" || source.calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, source.calls.Load())
	}
}
