package peer

import (
	"context"
	"errors"
	"sync"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

var errPeerClosed = errors.New("this destination was closed")

// pool keeps up to a fixed number of connections, dialled when they are first needed and again after they
// broke.
type pool struct {
	connect func(context.Context) (*wire.Conn, error)
	life    context.Context // ends with the pool; dialling serves all who wait, so it can't end with one of them
	end     context.CancelFunc
	dials   sync.WaitGroup

	mu     sync.Mutex
	slots  []*slot
	closed bool
}

// slot is the place of one connection.
type slot struct {
	load    int // leases
	conn    *wire.Conn
	dialing *dialing
}

// dialing is one attempt, awaited by all leases of its slot.
type dialing struct {
	done chan struct{}
	conn *wire.Conn
	err  error
}

// lease is the use of a connection by one Put.
type lease struct {
	conn  *wire.Conn
	fresh bool // it was dialled for this lease
	pool  *pool
	slot  *slot
}

func newPool(size int, connect func(context.Context) (*wire.Conn, error)) *pool {
	p := &pool{connect: connect}
	p.life, p.end = context.WithCancel(context.Background())
	for range size {
		p.slots = append(p.slots, &slot{})
	}
	return p
}

// acquire gives the connection with the fewest leases.
func (p *pool) acquire(ctx context.Context) (*lease, error) {
	if ctx.Err() != nil {
		return nil, wire.ContextError(ctx)
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errPeerClosed
	}
	s := p.leastLoaded()
	s.load++
	l := &lease{conn: s.live(), pool: p, slot: s}
	if l.conn != nil {
		p.mu.Unlock()
		return l, nil
	}
	if s.dialing == nil {
		s.dialing = &dialing{done: make(chan struct{})}
		p.dials.Add(1)
		go p.dial(s, s.dialing)
	}
	d := s.dialing
	p.mu.Unlock()
	err := d.wait(ctx)
	if err != nil {
		l.release()
		return nil, err
	}
	l.conn, l.fresh = d.conn, true
	return l, nil
}

// leastLoaded prefers, among equals, a connection that stands.
func (p *pool) leastLoaded() *slot {
	best := p.slots[0]
	for _, s := range p.slots[1:] {
		if s.load < best.load || s.load == best.load && best.live() == nil && s.live() != nil {
			best = s
		}
	}
	return best
}

// live is the slot's connection if it still works.
func (s *slot) live() *wire.Conn {
	if s.conn != nil && s.conn.Err() != nil {
		s.conn = nil
	}
	return s.conn
}

func (p *pool) dial(s *slot, d *dialing) {
	defer p.dials.Done()
	conn, err := p.connect(p.life)
	p.mu.Lock()
	switch {
	case p.closed:
		if conn != nil {
			conn.Close()
		}
		d.err = errPeerClosed
	case err != nil:
		d.err = err
	default:
		d.conn, s.conn = conn, conn
	}
	s.dialing = nil
	p.mu.Unlock()
	close(d.done)
}

func (d *dialing) wait(ctx context.Context) error {
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return wire.ContextError(ctx)
	}
}

func (l *lease) release() {
	l.pool.mu.Lock()
	l.slot.load--
	l.pool.mu.Unlock()
}

// close ends everything and waits for what was being dialled.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.end()
	for _, s := range p.slots {
		if s.conn != nil {
			s.conn.Close()
		}
	}
	p.mu.Unlock()
	p.dials.Wait()
}
