package metadatatest

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxTTL is the longest that a token may be asked for, in seconds: the same at Amazon and Alibaba Cloud.
const maxTTL = 21600

// Tokens are the session tokens that a service has given out. The zero value has none. All methods may
// be called at any time by many goroutines.
type Tokens struct {
	mu     sync.Mutex
	until  map[string]time.Time
	maxAge time.Duration
	given  int
	denied int
}

// Give makes a token for a time of life in seconds, as a client asks for it in a header. ok is false for
// a time that services refuse.
func (t *Tokens) Give(seconds string) (token string, ok bool) {
	ttl, err := strconv.Atoi(seconds)
	if err != nil || ttl < 1 || ttl > maxTTL {
		return "", false
	}
	token = rand.Text() + rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	life := time.Duration(ttl) * time.Second
	if t.maxAge > 0 {
		life = min(life, t.maxAge)
	}
	if t.until == nil {
		t.until = make(map[string]time.Time)
	}
	t.until[token] = time.Now().Add(life)
	t.given++
	return token, true
}

// Check finds the token of a request and how long it is good for. A request with two is refused.
func (t *Tokens) Check(r *http.Request, header string) (left time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if got := r.Header.Values(header); len(got) == 1 {
		left = time.Until(t.until[got[0]])
		if left > 0 {
			return left, true
		}
		delete(t.until, got[0])
	}
	t.denied++
	return 0, false
}

// Counts says how many tokens were given out, and how many requests were refused for want of one.
func (t *Tokens) Counts() (given, denied int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.given, t.denied
}

// RevokeTokens makes every token given out so far invalid.
func (t *Tokens) RevokeTokens() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.until)
}

// TokenLife makes tokens expire earlier than the client was told; 0 ends that.
func (t *Tokens) TokenLife(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.maxAge = d
}
