// Package awstest is a faithful fake of the EC2 instance metadata service (IMDSv2 only) for tests and
// demonstrations: it announces spot interruptions on demand, and a script of faults says what goes
// wrong with which request. It stands where the cloud stands, before the first step of a rescue.
//
// What it copies is documented in the EC2 user guide ("Use the Instance Metadata Service", "Spot
// Instance interruption notices"): paths, token rules, status codes, the form of the document. The
// guide does not give the content type of spot/instance-action; text/plain is what most items have.
package awstest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	tokenPath    = "/latest/api/token"
	metaPath     = "/latest/meta-data/"
	actionPath   = metaPath + "spot/instance-action"
	timePath     = metaPath + "spot/termination-time"
	instancePath = metaPath + "instance-id"
	trapPath     = "/elsewhere"

	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	maxTTL      = 21600 // seconds

	// falseNotice is sent where no client may believe it. Its time tells it from every real one.
	falseNotice = `{"action": "terminate", "time": "1999-12-31T23:59:59Z"}`
)

// InstanceID is the id of the instance that the fake plays.
const InstanceID = "i-0123456789abcdef0"

// Counts says what was asked so far.
type Counts struct {
	Tokens       int // tokens given out
	Looks        int // requests for spot/instance-action that had a valid token
	Shown        int // … that showed a notice
	Unauthorized int // requests refused for want of one valid token, faults not included
	Redirected   int // requests that followed a redirect: always a mistake
}

// Server is the fake. All methods may be called at any time by many goroutines.
type Server struct {
	mu     sync.Mutex
	notice string // the document; "" is none
	at     string
	script script
	tokens map[string]time.Time // token -> when it expires
	maxAge time.Duration
	skew   time.Duration
	counts Counts

	url  string
	http *http.Server
}

// New returns a fake without a notice and without faults. It is an http.Handler.
func New() *Server { return &Server{tokens: make(map[string]time.Time)} }

// Start returns a fake that listens on addr, as "127.0.0.1:0". Close ends it.
func Start(addr string) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("fake metadata service: %w", err)
	}
	s := New()
	s.url = "http://" + l.Addr().String()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	return s, nil
}

// URL is the endpoint for AWS_EC2_METADATA_SERVICE_ENDPOINT; "" when the fake does not listen.
func (s *Server) URL() string { return s.url }

// Close stops listening and breaks the connections that are open.
func (s *Server) Close() error {
	if s.http == nil {
		return nil
	}
	return s.http.Close()
}

// Announce shows a notice: action is "terminate", "stop" or "hibernate", at has a resolution of one second.
func (s *Server) Announce(action string, at time.Time) {
	when := at.UTC().Format("2006-01-02T15:04:05Z")
	s.AnnounceDocument(fmt.Sprintf(`{"action": %q, "time": %q}`, action, when))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = when
}

// AnnounceDocument shows this very document as the notice.
func (s *Server) AnnounceDocument(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice, s.at = body, ""
}

// Withdraw answers 404 again.
func (s *Server) Withdraw() { s.AnnounceDocument("") }

// Faults replaces the script of faults. Each takes its turn when the one before is over.
func (s *Server) Faults(script ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script.faults = append([]Fault(nil), script...)
	s.script.used, s.script.since = 0, time.Now()
}

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
	s.maxAge = d
}

// Skew sets how much the fake's clock (the Date header) is ahead of this machine's.
func (s *Server) Skew(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}

// Counts returns what was asked so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// ServeHTTP answers as the metadata service does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	step := Metadata
	if r.URL.Path == tokenPath {
		step = Token
	}
	s.mu.Lock()
	f := s.script.next(step, now)
	h := w.Header()
	h.Set("Date", now.Add(s.skew).UTC().Format(http.TimeFormat))
	s.mu.Unlock()
	h.Set("Server", "EC2ws")
	h.Set("Connection", "close")
	if r.URL.Path == trapPath {
		s.count(func(c *Counts) { c.Redirected++ })
		text(w, "text/plain", falseNotice)
		return
	}
	if s.fail(w, r, f) {
		return
	}
	if step == Token {
		s.giveToken(w, r, now)
		return
	}
	s.metadata(w, r, now)
}

// giveToken answers PUT /latest/api/token.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request, now time.Time) {
	if r.Method != http.MethodPut {
		page(w, http.StatusMethodNotAllowed)
		return
	}
	if r.Header.Get("X-Forwarded-For") != "" {
		page(w, http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > maxTTL {
		page(w, http.StatusBadRequest)
		return
	}
	var b [40]byte
	_, _ = rand.Read(b[:])
	token := hex.EncodeToString(b[:])
	life := time.Duration(ttl) * time.Second
	s.mu.Lock()
	if s.maxAge > 0 {
		life = min(life, s.maxAge)
	}
	s.tokens[token] = now.Add(life)
	s.counts.Tokens++
	s.mu.Unlock()
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	text(w, "text/plain", token)
}

// metadata answers everything below /latest/meta-data/.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request, now time.Time) {
	left, ok := s.authorized(r, now)
	if !ok {
		s.count(func(c *Counts) { c.Unauthorized++ })
		page(w, http.StatusUnauthorized)
		return
	}
	w.Header().Set(ttlHeader, strconv.Itoa(int(left/time.Second)))
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		page(w, http.StatusMethodNotAllowed)
		return
	}
	body := s.document(r.URL.Path)
	if body == "" {
		page(w, http.StatusNotFound)
		return
	}
	w.Header().Set("Accept-Ranges", "none")
	text(w, "text/plain", body)
}

// document finds what lies at a path; "" is nothing.
func (s *Server) document(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch path {
	case instancePath:
		return InstanceID
	case actionPath:
		s.counts.Looks++
		if s.notice != "" {
			s.counts.Shown++
		}
		return s.notice
	case timePath:
		return s.at
	case metaPath:
		if s.notice != "" {
			return "instance-id\nspot/"
		}
		return "instance-id"
	}
	return ""
}

// authorized checks the token. A request with two token headers is refused, as EC2 does.
func (s *Server) authorized(r *http.Request, now time.Time) (left time.Duration, ok bool) {
	got := r.Header.Values(tokenHeader)
	if len(got) != 1 {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until, known := s.tokens[got[0]]
	if !known || !now.Before(until) {
		delete(s.tokens, got[0])
		return 0, false
	}
	return until.Sub(now), true
}

func (s *Server) count(add func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add(&s.counts)
}

// text sends a body with its exact length.
func text(w http.ResponseWriter, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = io.WriteString(w, body)
}

// page sends the HTML page that the metadata service shows for a status.
func page(w http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d - %s", status, http.StatusText(status))
	body := `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>` + title + `</title>
 </head>
 <body>
  <h1>` + title + `</h1>
 </body>
</html>
`
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
