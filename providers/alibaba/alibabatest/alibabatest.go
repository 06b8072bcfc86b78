// Package alibabatest is a faithful fake of the metadata service of Alibaba Cloud's ECS, as far as the
// interruption of spot instances goes, for tests and demonstrations. It stands where the cloud stands,
// before the first step of a rescue. Its instance allows the security hardening mode only.
//
// What it copies is documented in the ECS user guide ("Instance metadata", "Detect and handle spot
// instance interruptions"): paths, forms, token rules and their status codes, and 404 for an instance
// that is not taken. The limit of requests is mentioned there, but not how high it is.
package alibabatest

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

const (
	tokenPath  = "/latest/api/token"
	timePath   = "/latest/meta-data/instance/spot/termination-time"
	regionPath = "/latest/meta-data/region-id"

	tokenHeader = "X-Aliyun-Ecs-Metadata-Token"
	ttlHeader   = "X-Aliyun-Ecs-Metadata-Token-Ttl-Seconds"
	maxTTL      = 21600 // seconds

	// Region is where the fake's instance is.
	Region = "cn-hangzhou"
)

// The steps that a fault can be limited to.
const (
	Token    metadatatest.Step = "token"    // PUT /latest/api/token
	Metadata metadatatest.Step = "metadata" // everything else
)

// Counts says what was asked so far.
type Counts struct {
	Tokens       int // tokens given out
	Unauthorized int // requests refused for want of one valid token, faults not included
}

// Server is the fake. All methods may be called at any time by many goroutines.
type Server struct {
	*metadatatest.Server

	mu     sync.Mutex
	at     string
	tokens map[string]time.Time // token -> when it expires
	life   time.Duration        // of tokens; 0: as long as was asked for
	counts Counts
}

// Listen returns a fake without a notice and without faults that listens on addr, as "127.0.0.1:0".
// Close ends it.
func Listen(addr string) (*Server, error) {
	s := &Server{tokens: make(map[string]time.Time)}
	s.Server = metadatatest.New(metadatatest.Service{
		Serve: s.serve, Step: step, Page: page, Revoke: s.RevokeTokens,
		False: "1999-12-31T23:59:59Z",
		Broken: func(r *http.Request) string {
			if step(r) == Token {
				return "<html>\n<body>\nwait\n</body>\n</html>"
			}
			return "2020-04-07T17:0"
		},
	})
	return s, s.Server.Listen(addr)
}

// Announce shows a time, by the service's clock, with a resolution of one second.
func (s *Server) Announce(at time.Time) { s.AnnounceText(at.UTC().Format("2006-01-02T15:04:05Z")) }

// AnnounceText shows this very text instead of a time; "" is none.
func (s *Server) AnnounceText(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = text
}

// Withdraw answers 404 again.
func (s *Server) Withdraw() { s.AnnounceText("") }

// RevokeTokens makes every token given out so far invalid.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// TokenLife makes tokens expire earlier than the client was told; 0 ends that.
func (s *Server) TokenLife(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = d
}

// Counts returns what was asked so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

func step(r *http.Request) metadatatest.Step {
	if r.URL.Path == tokenPath {
		return Token
	}
	return Metadata
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Header.Get("X-Forwarded-For") != "":
		page(w, http.StatusForbidden)
	case r.URL.Path == tokenPath:
		s.giveToken(w, r)
	case len(r.Header.Values(tokenHeader)) == 0:
		// The normal mode, which this instance does not allow.
		s.counts.Unauthorized++
		page(w, http.StatusForbidden)
	case !s.authorized(r.Header.Values(tokenHeader)):
		s.counts.Unauthorized++
		page(w, http.StatusUnauthorized)
	default:
		body := map[string]string{timePath: s.at, regionPath: Region}[r.URL.Path]
		if body == "" || r.Method != http.MethodGet {
			page(w, http.StatusNotFound)
			return
		}
		metadatatest.Text(w, "text/plain", body)
	}
}

// giveToken answers PUT /latest/api/token. The lock is held.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if r.Method != http.MethodPut || err != nil || ttl < 1 || ttl > maxTTL {
		page(w, http.StatusBadRequest)
		return
	}
	life := time.Duration(ttl) * time.Second
	if s.life > 0 {
		life = min(life, s.life)
	}
	token := rand.Text()
	s.tokens[token] = time.Now().Add(life)
	s.counts.Tokens++
	metadatatest.Text(w, "text/plain", token)
}

// authorized checks the token: there must be one, and only one. The lock is held.
func (s *Server) authorized(tokens []string) bool {
	return len(tokens) == 1 && time.Now().Before(s.tokens[tokens[0]])
}

func page(w http.ResponseWriter, status int) {
	http.Error(w, strconv.Itoa(status)+" - "+http.StatusText(status), status)
}
