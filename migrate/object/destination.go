// Package object stores map outputs in object storage, in the layout of Spark's fallback storage: the destination
// for what no peer can take. Executors read it there once the driver knows, and what was stored can also be adopted
// after its executor has died.
package object

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// AnnounceFunc tells Spark that outputs lie in the fallback storage; see Tell.
type AnnounceFunc func(ctx context.Context, at []migrate.Located) error

// Recorder hears of every output that lies whole in the bucket, before it is announced. It may be called by many
// goroutines at once, more than once for an output, and must be quick.
type Recorder interface {
	Stored(out *migrate.Output)
}

// Limiter bounds the bytes per second; golang.org/x/time/rate's is one.
type Limiter interface {
	WaitN(ctx context.Context, n int) error
	Burst() int
}

// Options of a Destination.
type Options struct {
	Bucket bucket.Bucket
	App    string // application id
	// Announce is called for each output after it was stored. Nil: outputs are only stored, and Location says that
	// Spark does not know.
	Announce AnnounceFunc
	Recorder Recorder // may be nil
	// Has says that an output lies in the bucket whole, because a mirror has put it there: it is only announced then.
	// It must be quick; nil: none does.
	Has     func(out *migrate.Output) bool
	Limiter Limiter // may be nil
	// Parallel is how many outputs are stored at the same time at most; the others wait. Default 16.
	Parallel int
	// Attempts is how often one Put tries again what the storage throttled. Default 5.
	Attempts int
	Log      *zap.Logger // may be nil
}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = 16
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// Destination is a migrate.Destination and a migrate.Announcer over a bucket. Its errors are classified: Corrupt
// when the output could not be read, Elsewhere when the storage refuses (access, quota, no such bucket), Transient
// otherwise. Errors of the caller's context have no kind of their own.
type Destination struct {
	opts Options
	gate *gate
}

var (
	_ migrate.Destination = (*Destination)(nil)
	_ migrate.Announcer   = (*Destination)(nil)
)

// New makes a Destination. It does not close the bucket.
func New(o Options) *Destination {
	o = o.withDefaults()
	return &Destination{opts: o, gate: newGate(o.Parallel)}
}

// Target is the bucket's URL.
func (d *Destination) Target() migrate.Target { return migrate.Target{URL: d.opts.Bucket.URL()} }

// Put stores the data, then the index, each whole or not at all, and announces the output when Options say so.
func (d *Destination) Put(ctx context.Context, out *migrate.Output) (migrate.Location, error) {
	op := fmt.Sprintf("store %s in %s", out.ID, d.opts.Bucket.URL())
	if out.ID.App != d.opts.App {
		return migrate.Location{}, &migrate.Error{Op: op, Kind: migrate.Elsewhere,
			Err: fmt.Errorf("the destination belongs to %s", d.opts.App)}
	}
	if err := d.store(ctx, out); err != nil {
		return migrate.Location{}, classify(ctx, op, err)
	}
	if d.opts.Recorder != nil {
		d.opts.Recorder.Stored(out)
	}
	at := migrate.Location{Target: d.Target(), Announced: d.opts.Announce != nil}
	if at.Announced {
		if err := d.opts.Announce(ctx, []migrate.Located{{Output: out, At: at}}); err != nil {
			return migrate.Location{}, fmt.Errorf("%s: announce: %w", op, err)
		}
	}
	return at, nil
}

// Announce tells Spark where outputs lie that this destination has stored.
func (d *Destination) Announce(ctx context.Context, at []migrate.Located) error {
	op := "announce what lies in " + d.opts.Bucket.URL()
	if d.opts.Announce == nil {
		return &migrate.Error{Op: op, Kind: migrate.Elsewhere, Err: errOnlyStores}
	}
	for _, l := range at {
		if l.At.Target != d.Target() || l.Output.ID.App != d.opts.App {
			return &migrate.Error{Op: op, Kind: migrate.Elsewhere, Err: fmt.Errorf("%s is stored at %s", l.Output.ID, l.At.Target)}
		}
	}
	if err := d.opts.Announce(ctx, at); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (d *Destination) store(ctx context.Context, out *migrate.Output) error {
	if d.opts.Has != nil && d.opts.Has(out) {
		return nil
	}
	if out.Data != nil && out.Data.Size() > 0 {
		if err := d.put(ctx, DataKey(out.ID), out.Data, out.Committed); err != nil {
			return err
		}
	}
	return d.put(ctx, IndexKey(out.ID), out.Index, out.Committed)
}

// deniedPause is how long to wait before access is tried once more: credentials may just have been replaced.
const deniedPause = 500 * time.Millisecond

// put stores one object, again when the storage was throttled, for which the gate has all puts wait, and once when it
// denied access.
func (d *Destination) put(ctx context.Context, key string, blob migrate.Blob, committed time.Time) error {
	for try := 1; ; try++ {
		err := d.try(ctx, key, blob, committed)
		switch kind := bucket.KindOf(err); {
		case err == nil || try >= d.opts.Attempts:
			return err
		case kind == bucket.Throttled:
		case kind == bucket.Denied && try == 1:
			select {
			case <-ctx.Done():
				return err
			case <-time.After(deniedPause):
			}
		default:
			return err
		}
		d.opts.Log.Debug("once more", zap.String("key", key), zap.Int("try", try), zap.Error(err))
	}
}

func (d *Destination) try(ctx context.Context, key string, blob migrate.Blob, committed time.Time) error {
	if err := d.gate.enter(ctx); err != nil {
		return err
	}
	err := d.send(ctx, key, blob, committed)
	d.gate.leave(err)
	return err
}

func (d *Destination) send(ctx context.Context, key string, blob migrate.Blob, committed time.Time) error {
	if d.there(ctx, key, blob.Size(), committed) {
		return nil
	}
	b := &body{ctx: ctx, blob: blob, limiter: d.opts.Limiter}
	err := d.opts.Bucket.Put(ctx, key, b, bucket.PutOptions{})
	if failed := b.failure(); err != nil && failed != nil && ctx.Err() == nil {
		return failed
	}
	return err
}

const (
	// worthAsking is from which size on it is asked whether an object is there already: for a smaller one, sending
	// it again costs no more than the question.
	worthAsking = 4 << 20
	// clockSkew is how far the storage's clock may be behind this one's.
	clockSkew = 5 * time.Minute
)

// there says that this object was stored before, whole: by an earlier Put, which is all or nothing, or by Spark.
// A map id is used for one attempt of one task, and an attempt commits once, so that of one application two
// objects of one name and size hold the same bytes. One that is older than the output belongs to another application
// that was given the same id.
func (d *Destination) there(ctx context.Context, key string, size int64, committed time.Time) bool {
	if size < worthAsking {
		return false
	}
	o, err := d.opts.Bucket.Stat(ctx, key)
	return err == nil && o.Size == size && o.Modified.After(committed.Add(-clockSkew))
}
