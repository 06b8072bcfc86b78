package wiretest

import (
	"context"
	"errors"
	"net"
	"sync"
)

// ErrBroken is what a broken connection returns.
var ErrBroken = errors.New("broken on purpose")

// DialFunc is a Dialer made of a function.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// DialContext calls f.
func (f DialFunc) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return f(ctx, network, addr)
}

// Fault is a connection that breaks after so many bytes. A negative limit is none.
type Fault struct {
	net.Conn
	Step int // the most bytes that one read returns; 0 means no limit

	mu                    sync.Mutex
	readLimit, writeLimit int
}

// NewFault wraps a connection that breaks after readLimit bytes read or writeLimit bytes written.
func NewFault(nc net.Conn, readLimit, writeLimit int) *Fault {
	return &Fault{Conn: nc, readLimit: readLimit, writeLimit: writeLimit}
}

// Read reads until the limit.
func (f *Fault) Read(p []byte) (int, error) {
	if f.Step > 0 {
		p = p[:min(len(p), f.Step)]
	}
	n, ok := f.allow(&f.readLimit, len(p))
	if !ok {
		return 0, ErrBroken
	}
	got, err := f.Conn.Read(p[:n])
	f.giveBack(&f.readLimit, n-got)
	return got, err
}

// Write writes until the limit.
func (f *Fault) Write(p []byte) (int, error) {
	n, _ := f.allow(&f.writeLimit, len(p))
	done, err := f.Conn.Write(p[:n])
	if err == nil && n < len(p) {
		f.Close()
		err = ErrBroken
	}
	return done, err
}

// allow takes up to n from a limit; false when there is nothing left.
func (f *Fault) allow(limit *int, n int) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *limit < 0 {
		return n, true
	}
	n = min(n, *limit)
	*limit -= n
	return n, n > 0
}

func (f *Fault) giveBack(limit *int, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *limit >= 0 {
		*limit += n
	}
}
