package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/jwt"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// scope is what objects need; a bucket's own settings are not touched.
const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// tokenTimeout bounds one request for a token.
const tokenTimeout = 10 * time.Second

var errCredentials = errors.New("no usable credentials for Google Cloud Storage: give the agent a workload identity or " +
	"service account that may read and write objects, or name a key file in GOOGLE_APPLICATION_CREDENTIALS")

// tokens keeps the access token. Its source knows no contexts: callers wait for it only as long as theirs lasts, and
// there is at most one request for a token at a time.
type tokens struct {
	source oauth2.TokenSource

	mu      sync.Mutex
	token   *oauth2.Token
	err     error
	pending chan struct{} // closed when the request under way has ended; nil without one
}

// newTokens finds out where tokens come from.
func newTokens(ctx context.Context, given bucket.Credentials) (*tokens, error) {
	// The source keeps this context for all its requests, so that it must not end with the caller's.
	own := context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &http.Client{Timeout: tokenTimeout})
	if given.ID != "" {
		c := &jwt.Config{Email: given.ID, PrivateKey: []byte(given.Secret), Scopes: []string{scope}, TokenURL: google.JWTTokenURL}
		return &tokens{source: c.TokenSource(own)}, nil
	}
	type answer struct {
		found *google.Credentials
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		found, err := google.FindDefaultCredentials(own, scope)
		answers <- answer{found, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return nil, fmt.Errorf("%w (%w)", errCredentials, a.err)
		}
		return &tokens{source: a.found.TokenSource}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// get returns a token that is valid for a while.
func (t *tokens) get(ctx context.Context) (*oauth2.Token, error) {
	t.mu.Lock()
	if t.token.Valid() {
		defer t.mu.Unlock()
		return t.token, nil
	}
	if t.pending == nil {
		t.pending = make(chan struct{})
		go t.fetch(t.pending)
	}
	pending := t.pending
	t.mu.Unlock()
	select {
	case <-pending:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token, t.err
}

func (t *tokens) fetch(done chan struct{}) {
	token, err := t.source.Token()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		token, err = nil, fmt.Errorf("get a token: %w", bucket.Plain(err))
	}
	t.token, t.err, t.pending = token, err, nil
	close(done)
}
