// Package peer stores map outputs on a live executor of the same application: the destination that a
// rescue tries first, because Spark itself then serves the output and tells the driver where it is.
package peer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// Options of a Peer.
type Options struct {
	Target  migrate.Target // executor, host and block manager port
	App     string         // application id
	Dialect java.Dialect
	Dialer  wire.Dialer
	// Connections to the executor at most; it handles the uploads of one connection one after another.
	// Default 2.
	Connections int
	// Stall is how long nothing may move while an acknowledgement is due; default as in wire.Options.
	Stall time.Duration
	// DialTimeout bounds one attempt to connect. Default 5 s.
	DialTimeout time.Duration
}

const (
	defaultConnections = 2
	defaultDialTimeout = 5 * time.Second
)

// Peer is a migrate.Destination and a migrate.Announcer. Its errors are classified: Gone when nothing
// listens at the address any more or another executor does, Elsewhere when it will not take blocks
// (leaving, disk full, another dialect), Corrupt when the output could not be read, Transient otherwise.
// Errors of the caller's context have no kind of their own.
type Peer struct {
	opts Options
	meta []byte // the Java object that tells how to store a block
	pool *pool
}

var (
	_ migrate.Destination = (*Peer)(nil)
	_ migrate.Announcer   = (*Peer)(nil)
)

// New makes a Peer. Nothing is dialled before the first use.
func New(o Options) *Peer {
	if o.Connections <= 0 {
		o.Connections = defaultConnections
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = defaultDialTimeout
	}
	p := &Peer{opts: o, meta: o.Dialect.UploadMetadata()}
	p.pool = newPool(o.Connections, p.connect)
	return p
}

// Target is the executor.
func (p *Peer) Target() migrate.Target { return p.opts.Target }

// Close ends all connections and what runs on them.
func (p *Peer) Close() { p.pool.close() }

// Put uploads the data, and after its acknowledgement the index. Both travel over one connection: that
// alone proves that the process which takes the index is the one that has the data, since a port may
// pass on to another executor. Spark acknowledges the index after it has told the driver.
func (p *Peer) Put(ctx context.Context, out *migrate.Output) (migrate.Location, error) {
	if err := p.checkApp(out); err != nil {
		return migrate.Location{}, err
	}
	op := fmt.Sprintf("upload %s to %s", out.ID, p.opts.Target)
	lease, err := p.pool.acquire(ctx)
	if err != nil {
		return migrate.Location{}, classify(ctx, op, err)
	}
	defer lease.release()
	if out.Data != nil && out.Data.Size() > 0 {
		if err := p.upload(ctx, lease.conn, out.ID.DataBlock(), out.Data); err != nil {
			return migrate.Location{}, err
		}
	}
	if err := p.upload(ctx, lease.conn, out.ID.IndexBlock(), out.Index); err != nil {
		return migrate.Location{}, err
	}
	return migrate.Location{Target: p.opts.Target, Announced: true}, nil
}

// announcesPerConnection bounds how many index blocks are under way at once.
const announcesPerConnection = 4

// Announce sends the index blocks again, which makes the executor tell the driver again. The outputs must
// lie on this executor already. It goes on after an error that concerns one output only, and returns
// all errors.
func (p *Peer) Announce(ctx context.Context, at []migrate.Located) error {
	errs := make([]error, len(at))
	var gone atomic.Bool
	var group errgroup.Group
	group.SetLimit(announcesPerConnection * p.opts.Connections)
	for i, a := range at {
		if gone.Load() || ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			errs[i] = p.announce(ctx, a)
			if migrate.KindOf(errs[i]) == migrate.Gone {
				gone.Store(true)
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	if ctx.Err() != nil {
		errs = append(errs, wire.ContextError(ctx))
	}
	return errors.Join(errs...)
}

func (p *Peer) announce(ctx context.Context, a migrate.Located) error {
	op := fmt.Sprintf("announce %s at %s", a.Output.ID, p.opts.Target)
	if a.At.Target != p.opts.Target {
		return &migrate.Error{Op: op, Kind: migrate.Elsewhere, Err: fmt.Errorf("stored at %s", a.At.Target)}
	}
	if err := p.checkApp(a.Output); err != nil {
		return err
	}
	lease, err := p.pool.acquire(ctx)
	if err != nil {
		return classify(ctx, op, err)
	}
	defer lease.release()
	return p.upload(ctx, lease.conn, a.Output.ID.IndexBlock(), a.Output.Index)
}

// Check asks the executor who it is: it is alive, and still the executor and application that the
// target names.
func (p *Peer) Check(ctx context.Context) error {
	op := fmt.Sprintf("check %s", p.opts.Target)
	lease, err := p.pool.acquire(ctx)
	if err != nil {
		return classify(ctx, op, err)
	}
	defer lease.release()
	if lease.fresh {
		return nil // connect has just asked
	}
	_, err = p.identify(ctx, lease.conn)
	return classify(ctx, op, err)
}

func (p *Peer) checkApp(out *migrate.Output) error {
	if out.ID.App == p.opts.App {
		return nil
	}
	return &migrate.Error{
		Op: fmt.Sprintf("upload %s to %s", out.ID, p.opts.Target), Kind: migrate.Elsewhere,
		Err: fmt.Errorf("the executor belongs to %s", p.opts.App),
	}
}

func (p *Peer) upload(ctx context.Context, conn *wire.Conn, block string, body migrate.Blob) error {
	_, err := conn.Upload(ctx, wire.UploadBlockStream(block, p.meta), body)
	if err == nil {
		return nil
	}
	return classify(ctx, fmt.Sprintf("upload %s to %s", block, p.opts.Target), err)
}

// connect opens a connection and makes sure that the right executor is at its other end: block
// manager ports and pod addresses are used again by others.
func (p *Peer) connect(ctx context.Context) (*wire.Conn, error) {
	addr := Address(p.opts.Target)
	conn, err := dial(ctx, p.opts.Dialer, addr, p.opts.DialTimeout, p.opts.Stall)
	if err != nil {
		return nil, err
	}
	if _, err := p.identify(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Address is where a target is dialled.
func Address(t migrate.Target) string { return wire.Address(t.Host, t.Port) }

// identify has the executor prove that it is the target, by naming its folders.
func (p *Peer) identify(ctx context.Context, conn *wire.Conn) (folders []string, err error) {
	reply, err := conn.Call(ctx, wire.GetLocalDirs(p.opts.App, p.opts.Target.Executor))
	if err != nil {
		return nil, identityError(err)
	}
	dirs, err := wire.DecodeLocalDirs(reply)
	if err != nil {
		return nil, err
	}
	folders, ok := dirs[p.opts.Target.Executor]
	if !ok {
		return nil, &migrate.Error{Op: "identify", Kind: migrate.Gone, Err: errors.New("another executor answers at its address")}
	}
	return folders, nil
}
