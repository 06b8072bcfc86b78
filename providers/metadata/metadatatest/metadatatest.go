// Package metadatatest is what the fakes of all clouds' metadata services share: a server on a loopback
// address with a clock of its own, and a script of faults that says what goes wrong with which request.
// It stands below the fakes, where the network to the metadata service stands.
package metadatatest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// trapPath is where a redirect leads when its fault names no other place.
const trapPath = "/elsewhere"

// Service is what one cloud's fake brings.
type Service struct {
	Header string           // of every answer: Server
	More   http.Header      // of every answer, but those that stop in the middle; may be nil
	Serve  http.HandlerFunc // the right answer
	// Step names the kind of a request, for faults that are limited to one kind; nil: all are "".
	Step func(*http.Request) Step
	// Page shows a status the way that the service does.
	Page func(w http.ResponseWriter, status int)
	// False is a document that nobody may believe, in the form of a true one; it is sent where a
	// redirect leads, and at the beginning of answers that are cut off or never end.
	False string
	// Broken is a document that stops in the middle.
	Broken func(*http.Request) string
	Revoke func() // makes all credentials invalid; may be nil
}

// Server plays a Service. All methods may be called at any time by many goroutines.
type Server struct {
	service Service

	mu         sync.Mutex
	script     script
	skew       time.Duration
	redirected int

	url  string
	http *http.Server
}

// New returns a server without faults that does not listen yet. It is an http.Handler.
func New(s Service) *Server { return &Server{service: s} }

// Listen starts to listen on addr, as "127.0.0.1:0". Close ends it.
func (s *Server) Listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("fake metadata service: %w", err)
	}
	s.url = "http://" + l.Addr().String()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	return nil
}

// URL is the endpoint; "" when the server does not listen.
func (s *Server) URL() string { return s.url }

// Close stops listening and breaks the connections that are open.
func (s *Server) Close() error {
	if s.http == nil {
		return nil
	}
	return s.http.Close()
}

// Faults replaces the script of faults. Each takes its turn when the one before is over.
func (s *Server) Faults(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script{faults: append([]Fault(nil), faults...), since: time.Now()}
}

// Set plays one fault until the next call, by the word that the conformance suite has for it too; "none"
// is none. delay is that of slow answers.
func (s *Server) Set(kind string, delay time.Duration) {
	if kind == "none" {
		s.Faults()
		return
	}
	s.Faults(Fault{Kind: Kind(kind), Delay: delay})
}

// Skew sets how much the service's clock (the Date header) is ahead of this machine's.
func (s *Server) Skew(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}

// Now is the time by the service's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.skew)
}

// Redirected counts the requests that followed a redirect: always a mistake.
func (s *Server) Redirected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.redirected
}

// ServeHTTP answers as the service does, or as the script of faults says.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var step Step
	if s.service.Step != nil {
		step = s.service.Step(r)
	}
	s.mu.Lock()
	now := time.Now()
	f := s.script.next(step, now)
	now = now.Add(s.skew)
	trapped := r.URL.Path == trapPath
	if trapped {
		s.redirected++
	}
	s.mu.Unlock()
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	w.Header().Set("Server", s.service.Header)
	maps.Copy(w.Header(), s.service.More)
	if trapped {
		Text(w, "application/json", s.service.False)
		return
	}
	if !s.fail(w, r, f) {
		s.service.Serve(w, r)
	}
}

// Text sends a body with its exact length.
func Text(w http.ResponseWriter, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = io.WriteString(w, body)
}
