// Package wiretest plays the other side of Spark's transport protocol for tests: a server that follows a
// script (answer, refuse, stall, truncate, reset) and connections that break at a chosen byte. It is no
// model of Spark: what Spark really does is proven against Spark itself.
package wiretest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// maxMessage bounds a frame's message.
const maxMessage = 64 << 20

// Request is one frame that arrived.
type Request struct {
	Type wire.FrameType
	ID   int64
	Body []byte // an RPC's body, or an upload's metadata
	Size int64  // an upload's promised length
	Data []byte // an upload's body; shorter than Size when the connection ended in it
}

// Block is the block's name of an upload; "" for anything else.
func (r Request) Block() string {
	if r.Type != wire.TypeUploadStream {
		return ""
	}
	name, _, _ := wire.DecodeUploadBlockStream(r.Body)
	return name
}

// Script says what a server does. All functions may be nil and run in the connection's goroutine.
type Script struct {
	// Open is called for each new connection.
	Open func(s *Session)
	// Peek sees an upload before its body is read. When it returns false, nothing more is read from
	// the connection: what the script did with it stands.
	Peek func(s *Session, r Request) bool
	// Handle sees each complete request. Without it every request is answered with an empty payload.
	Handle func(s *Session, r Request)
}

// Server is a scripted server on a loopback port.
type Server struct {
	script   Script
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every event
	sessions []*Session
	requests []Request
	closed   bool
}

// NewServer starts a server that lives as long as the test.
func NewServer(t testing.TB, script Script) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{script: script, listener: l, changed: make(chan struct{})}
	s.wg.Add(1)
	go s.accept()
	t.Cleanup(s.Close)
	return s
}

// Addr is the host:port to dial.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Port is the port to dial on 127.0.0.1.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Close ends the server and its connections, as the death of a process does: after it, connections are refused.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	sessions := s.sessions
	s.mu.Unlock()
	s.listener.Close()
	for _, c := range sessions {
		c.Close()
	}
	s.wg.Wait()
}

// Requests are all complete requests so far, in the order in which they became complete.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Blocks are the names of all blocks that arrived so far.
func (s *Server) Blocks() []string {
	var names []string
	for _, r := range s.Requests() {
		if name := r.Block(); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Sessions are all connections so far, also those that have ended.
func (s *Server) Sessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Session(nil), s.sessions...)
}

// Await returns when the condition holds. It looks again whenever a connection or a request has come.
func (s *Server) Await(t testing.TB, condition func() bool) {
	t.Helper()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if condition() {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("the test has ended before its condition held")
		}
	}
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		c := s.open(nc)
		if c == nil {
			nc.Close()
			return
		}
		go func() {
			defer s.wg.Done()
			c.run()
		}()
	}
}

func (s *Server) open(nc net.Conn) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	c := newSession(nc, s.script)
	c.server, c.Number = s, len(s.sessions)
	s.sessions = append(s.sessions, c)
	s.wg.Add(1)
	s.notify()
	return c
}

func (s *Server) record(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	s.notify()
}

func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Session is one connection of a scripted server.
type Session struct {
	net.Conn
	Number int // 0 for the server's first connection

	server *Server
	script Script
	once   sync.Once
	gone   chan struct{}
}

// Serve follows a script on a connection that exists already, such as one end of net.Pipe, until it ends.
func Serve(nc net.Conn, script Script) { newSession(nc, script).run() }

func newSession(nc net.Conn, script Script) *Session {
	return &Session{Conn: nc, script: script, gone: make(chan struct{})}
}

// Answer acknowledges a request.
func (s *Session) Answer(id int64, payload []byte) {
	s.send(wire.RPCResponse{ID: id, Body: payload}.Append(nil))
}

// Fail reports a Java exception.
func (s *Session) Fail(id int64, text string) {
	s.send(wire.RPCFailure{ID: id, Text: text}.Append(nil))
}

// Truncate sends the first n bytes of an acknowledgement and closes the connection.
func (s *Session) Truncate(id int64, payload []byte, n int) {
	s.send(wire.RPCResponse{ID: id, Body: payload}.Append(nil)[:n])
	s.Close()
}

// Stall reads and answers nothing more until the connection is closed from the other side or by the test.
func (s *Session) Stall() { <-s.gone }

// Reset closes the connection with a TCP reset.
func (s *Session) Reset() {
	if tcp, ok := s.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	s.Close()
}

// Close ends the connection.
func (s *Session) Close() error {
	s.once.Do(func() {
		close(s.gone)
		s.Conn.Close()
	})
	return nil
}

// Gone is closed when this side of the connection has ended.
func (s *Session) Gone() <-chan struct{} { return s.gone }

// send fails only when the client has gone, which tests provoke on purpose.
func (s *Session) send(frame []byte) { _, _ = s.Write(frame) }

func (s *Session) run() {
	defer s.Close()
	if s.script.Open != nil {
		s.script.Open(s)
	}
	for {
		r, err := s.next()
		if err != nil {
			return
		}
		if s.server != nil {
			s.server.record(r)
		}
		if s.script.Handle == nil {
			s.Answer(r.ID, nil)
			continue
		}
		s.script.Handle(s, r)
	}
}

var errPeeked = errors.New("the script reads no further")

func (s *Session) next() (Request, error) {
	t, message, err := wire.ReadFrame(s.Conn, maxMessage)
	if err != nil {
		return Request{}, err
	}
	if t != wire.TypeUploadStream {
		var m wire.RPCRequest
		err := m.Decode(message)
		return Request{Type: t, ID: m.ID, Body: m.Body}, err
	}
	var m wire.UploadStream
	if err := m.Decode(message); err != nil {
		return Request{}, err
	}
	r := Request{Type: t, ID: m.ID, Body: m.Meta, Size: m.Length}
	if s.script.Peek != nil && !s.script.Peek(s, r) {
		return r, errPeeked
	}
	r.Data, err = io.ReadAll(io.LimitReader(s.Conn, r.Size))
	if err == nil && int64(len(r.Data)) < r.Size {
		err = io.ErrUnexpectedEOF
	}
	return r, err
}
