package awstest

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
	Unauthorized Kind = "unauthorized" // 401, and every token given out so far is revoked
	Forbidden    Kind = "forbidden"    // 403, as when the metadata service is switched off
	NotFound     Kind = "not-found"    // 404
	TooMany      Kind = "too-many"     // 429
	Internal     Kind = "internal"     // 500
	Unavailable  Kind = "unavailable"  // 503
	Slow         Kind = "slow"         // the right answer after Delay
	BlackHole    Kind = "black-hole"   // no answer until the client leaves
	Malformed    Kind = "malformed"    // 200 with a broken document
	Truncated    Kind = "truncated"    // a connection that ends before Content-Length is reached
	Huge         Kind = "huge"         // 200 with HugeBody bytes
	Redirect     Kind = "redirect"     // 302 to Location, or to a place here that shows a false notice
	Reset        Kind = "reset"        // a connection reset instead of an answer
)

// HugeBody is how much a Huge answer holds, in bytes, unless the client leaves before.
const HugeBody = 64 << 20

// Step limits a fault to one kind of request.
type Step string

// The steps of one look at the metadata.
const (
	Both     Step = ""
	Token    Step = "token"    // PUT /latest/api/token
	Metadata Step = "metadata" // everything else
)

// Fault is one entry of a script of faults.
type Fault struct {
	Kind     Kind
	On       Step          // requests of the other step are answered well meanwhile
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
		if f.On != Both && f.On != step {
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

// statuses are the faults that are no more than a status.
func statusOf(k Kind) (int, bool) {
	switch k {
	case Unauthorized:
		return http.StatusUnauthorized, true
	case Forbidden:
		return http.StatusForbidden, true
	case NotFound:
		return http.StatusNotFound, true
	case TooMany:
		return http.StatusTooManyRequests, true
	case Internal:
		return http.StatusInternalServerError, true
	case Unavailable:
		return http.StatusServiceUnavailable, true
	}
	return 0, false
}

// fail plays a fault. It reports whether the request was answered by it.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, f Fault) bool {
	if f.Kind == Unauthorized {
		s.RevokeTokens()
	}
	if status, ok := statusOf(f.Kind); ok {
		page(w, status)
		return true
	}
	switch f.Kind {
	case Slow:
		return !pause(r, f.Delay)
	case BlackHole:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Malformed:
		malformed(w, r)
	case Truncated:
		truncated(w)
	case Huge:
		huge(w)
	case Redirect:
		to := f.Location
		if to == "" {
			to = trapPath
		}
		w.Header().Set("Location", to)
		page(w, http.StatusFound)
	case Reset:
		reset(w)
	default:
		return false
	}
	return true
}

// pause waits for d; false means that the client left before.
func pause(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// malformed sends what no client can use: a token with line breaks, or a document that stops in the middle.
func malformed(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		w.Header().Set(ttlHeader, "300")
		text(w, "text/html", "<html>\n<body>\nwait\n</body>\n</html>")
		return
	}
	text(w, "application/json", `{"action": "terminate", "time": "2017-09-1`)
}

// truncated promises more than it sends. What it sends would be a notice if the length were ignored.
func truncated(w http.ResponseWriter) {
	conn, ok := hijack(w)
	if !ok {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"+ttlHeader+": 300\r\nContent-Length: 4096\r\nServer: EC2ws\r\nConnection: close\r\n\r\n"+falseNotice)
}

// huge sends a false notice and then blanks without end, which are valid JSON.
func huge(w http.ResponseWriter) {
	w.Header().Set(ttlHeader, "300")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(HugeBody))
	chunk := strings.Repeat(" ", 32<<10)
	n, _ := io.WriteString(w, falseNotice)
	for left := HugeBody - n; left > 0; {
		m, err := io.WriteString(w, chunk[:min(left, len(chunk))])
		if err != nil {
			return
		}
		left -= m
	}
}

func reset(w http.ResponseWriter) {
	conn, ok := hijack(w)
	if !ok {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// hijack takes the connection; a writer that has none (a recorder in a test) gets a 500.
func hijack(w http.ResponseWriter) (net.Conn, bool) {
	h, ok := w.(http.Hijacker)
	if !ok {
		page(w, http.StatusInternalServerError)
		return nil, false
	}
	conn, _, err := h.Hijack()
	return conn, err == nil
}
