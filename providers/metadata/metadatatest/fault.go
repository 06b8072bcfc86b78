package metadatatest

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind is what goes wrong with a request.
type Kind string

// The kinds of faults. None is a pause in a script.
const (
	None         Kind = ""
	Unauthorized Kind = "unauthorized" // 401, and all credentials given out so far are revoked
	Forbidden    Kind = "forbidden"    // 403, as when the metadata service is switched off
	NotFound     Kind = "not-found"    // 404
	Gone         Kind = "gone"         // 410, as Azure answers for up to 70 s while its service is updated
	TooMany      Kind = "too-many"     // 429
	Internal     Kind = "internal"     // 500
	Unavailable  Kind = "unavailable"  // 503
	Slow         Kind = "slow"         // the right answer after Delay
	BlackHole    Kind = "black-hole"   // no answer until the client leaves
	Malformed    Kind = "malformed"    // 200 with a broken document
	Truncated    Kind = "truncated"    // a connection that ends before Content-Length is reached
	Huge         Kind = "huge"         // 200 with HugeBody bytes
	Redirect     Kind = "redirect"     // 302 to Location, or to a place here that shows a false document
	Reset        Kind = "reset"        // a connection reset instead of an answer
)

// HugeBody is how much a Huge answer holds, in bytes, unless the client leaves before.
const HugeBody = 64 << 20

// Step is a kind of request; each fake names its own. "" in a Fault means all.
type Step string

// Fault is one entry of a script of faults.
type Fault struct {
	Kind     Kind
	On       Step          // requests of other steps are answered well meanwhile
	Count    int           // how many requests it lasts; 0 with For 0: until the script is replaced
	For      time.Duration // how long it lasts, from when its turn comes; not together with Count
	Delay    time.Duration // of Slow
	Location string        // of Redirect
}

// script hands out faults in order. It is guarded by the Server's lock.
type script struct {
	faults []Fault
	used   int       // requests that the first fault has taken
	since  time.Time // when the first fault's turn came
}

// next returns the fault for a request of this step.
func (s *script) next(step Step, now time.Time) Fault {
	for len(s.faults) > 0 {
		f := s.faults[0]
		if f.For > 0 && now.Sub(s.since) >= f.For {
			s.drop(s.since.Add(f.For))
			continue
		}
		if f.On != "" && f.On != step {
			return Fault{}
		}
		s.used++
		if f.Count > 0 && s.used >= f.Count {
			s.drop(now)
		}
		return f
	}
	return Fault{}
}

func (s *script) drop(now time.Time) { s.faults, s.used, s.since = s.faults[1:], 0, now }

// statusOf finds the faults that are no more than a status.
func statusOf(k Kind) (status int, ok bool) {
	switch k {
	case Unauthorized:
		status = http.StatusUnauthorized
	case Forbidden:
		status = http.StatusForbidden
	case NotFound:
		status = http.StatusNotFound
	case Gone:
		status = http.StatusGone
	case TooMany:
		status = http.StatusTooManyRequests
	case Internal:
		status = http.StatusInternalServerError
	case Unavailable:
		status = http.StatusServiceUnavailable
	}
	return status, status != 0
}

// fail plays a fault. It reports whether the request was answered by it.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, f Fault) bool {
	if f.Kind == Unauthorized && s.service.Revoke != nil {
		s.service.Revoke()
	}
	if status, ok := statusOf(f.Kind); ok {
		s.service.Page(w, status)
		return true
	}
	switch f.Kind {
	case Slow:
		return !Wait(r, f.Delay)
	case BlackHole:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Malformed:
		Text(w, "application/json", s.service.Broken(r))
	case Truncated:
		s.truncated(w)
	case Huge:
		s.huge(w)
	case Redirect:
		to := f.Location
		if to == "" {
			to = trapPath
		}
		w.Header().Set("Location", to)
		s.service.Page(w, http.StatusFound)
	case Reset:
		s.reset(w)
	default:
		return false
	}
	return true
}

// Wait lets the time pass; false means that the client left before.
func Wait(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// truncated promises more than it sends. What it sends would be a notice if the length were ignored.
func (s *Server) truncated(w http.ResponseWriter) {
	conn, ok := s.hijack(w)
	if !ok {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4096\r\nServer: "+
		s.service.Header+"\r\nConnection: close\r\n\r\n"+s.service.False)
}

// huge sends a false document and then blanks without end, which are valid JSON.
func (s *Server) huge(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(HugeBody))
	chunk := strings.Repeat(" ", 32<<10)
	n, _ := io.WriteString(w, s.service.False)
	for left := HugeBody - n; left > 0; {
		m, err := io.WriteString(w, chunk[:min(left, len(chunk))])
		if err != nil {
			return
		}
		left -= m
	}
}

func (s *Server) reset(w http.ResponseWriter) {
	conn, ok := s.hijack(w)
	if !ok {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// hijack takes the connection; a writer that has none (a recorder in a test) gets a 500.
func (s *Server) hijack(w http.ResponseWriter) (net.Conn, bool) {
	h, ok := w.(http.Hijacker)
	if !ok {
		s.service.Page(w, http.StatusInternalServerError)
		return nil, false
	}
	conn, _, err := h.Hijack()
	return conn, err == nil
}
