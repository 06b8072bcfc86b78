package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Front is a reverse proxy before an HTTP server that does what servers and the ways to them do on bad days. It
// keeps the Host header, so that signatures hold.
type Front struct {
	URL string // http://127.0.0.1:PORT

	server *http.Server
	proxy  *httputil.ReverseProxy

	mu     sync.Mutex
	n      int
	script func(n int, r *http.Request) Fault
	healed chan struct{} // closed when stalled requests may go on
}

// Fault is what happens to one request; the zero value is nothing.
type Fault struct {
	Status     int    // answer with this status instead of forwarding
	Code       string // with Status: the error code in S3's XML
	RetryAfter int    // with Status: seconds; 0 for no such header

	Stall       bool  // neither forward nor answer
	Reset       bool  // break the connection at once
	ResetAfter  int64 // forward so many bytes of the body, then break both connections; 0 for never
	Flip        bool  // change one byte of the body, which
	FlipAt      int64 // is this one
	LoseAnswer  bool  // forward, and break the connection instead of answering
	CutAnswer   int64 // break the connection after so many bytes of the answer's body; 0 for never
	AnswerAfter time.Duration
}

type faultKey struct{}

var errFault = errors.New("by the test")

// NewFront begins on a free port of 127.0.0.1. The caller must Close.
func NewFront(upstream string) (*Front, error) {
	target, err := url.Parse(upstream)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &Front{URL: "http://" + l.Addr().String(), healed: make(chan struct{})}
	quiet := log.New(io.Discard, "", 0)
	f.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport:      &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		ModifyResponse: spoilAnswer,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
		ErrorLog:       quiet,
	}
	f.server = &http.Server{Handler: f, ErrorLog: quiet, ReadHeaderTimeout: time.Minute}
	go func() { _ = f.server.Serve(l) }()
	return f, nil
}

// Close ends it with all connections.
func (f *Front) Close() {
	f.Script(nil)
	_ = f.server.Close()
}

// Script says what happens to requests from now on, numbered from 1; nil is nothing bad. What stalled breaks.
func (f *Front) Script(script func(n int, r *http.Request) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.script = 0, script
	close(f.healed)
	f.healed = make(chan struct{})
}

// Always does the same to every request.
func (f *Front) Always(fault Fault) { f.Script(func(int, *http.Request) Fault { return fault }) }

// Requests is how many have come since the last Script.
func (f *Front) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *Front) next(r *http.Request) (Fault, chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.script == nil {
		return Fault{}, f.healed
	}
	return f.script(f.n, r), f.healed
}

func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, healed := f.next(r)
	switch {
	case fault.Stall:
		<-healed
		reset(w)
		return
	case fault.Reset:
		reset(w)
		return
	case fault.Status != 0:
		refuse(w, r, fault)
		return
	}
	if fault.AnswerAfter > 0 {
		select {
		case <-time.After(fault.AnswerAfter):
		case <-healed:
		}
	}
	if fault.Flip || fault.ResetAfter > 0 {
		r.Body = &spoiled{ReadCloser: r.Body, fault: fault}
	}
	f.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), faultKey{}, fault)))
}

// refuse answers in S3's way, without reading the body.
func refuse(w http.ResponseWriter, r *http.Request, fault Fault) {
	if fault.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(fault.Status)
	if r.Method != http.MethodHead && fault.Code != "" {
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>by the test</Message></Error>`, fault.Code)
	}
}

// reset breaks the connection so that the other side sees a reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// spoiled is a request's body that is not what was sent.
type spoiled struct {
	io.ReadCloser
	fault Fault
	read  int64
}

func (s *spoiled) Read(p []byte) (int, error) {
	if s.fault.ResetAfter > 0 {
		if s.read >= s.fault.ResetAfter {
			return 0, errFault
		}
		p = p[:min(int64(len(p)), s.fault.ResetAfter-s.read)]
	}
	n, err := s.ReadCloser.Read(p)
	if at := s.fault.FlipAt - s.read; s.fault.Flip && 0 <= at && at < int64(n) {
		p[at] ^= 1
	}
	s.read += int64(n)
	return n, err
}

func spoilAnswer(answer *http.Response) error {
	fault, _ := answer.Request.Context().Value(faultKey{}).(Fault)
	switch {
	case fault.LoseAnswer:
		answer.Body.Close()
		return errFault
	case fault.CutAnswer > 0:
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(answer.Body, fault.CutAnswer), failing{}), answer.Body}
	}
	return nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errFault }
