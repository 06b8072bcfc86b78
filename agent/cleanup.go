package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// What becomes of an application's copies, and why.
const (
	CopiesLive    = "live"    // its driver answers: they are kept
	CopiesEnded   = "ended"   // its driver is gone: they are removed
	CopiesExpired = "expired" // nobody knows, and they are older than objects.keep: they are removed
	CopiesUnsure  = "unsure"  // nobody knows yet: they are kept
)

const (
	// endedAfter is how long copies are kept after they were made although the driver is gone: somebody may look.
	endedAfter = 10 * time.Minute
	// sweepEvery is how often agents clean up, give or take a half.
	sweepEvery = time.Hour
	// driverPatience is how long a driver has to answer.
	driverPatience = 5 * time.Second
)

// Copies is what one node has stored of one application.
type Copies struct {
	App     string    `json:"app"`
	Node    string    `json:"node"`
	Driver  string    `json:"driver"`
	Outputs int       `json:"outputs"`
	Bytes   int64     `json:"bytes"`
	Newest  time.Time `json:"newest"` // when something was added last, by the storage's clock
	State   string    `json:"state"`  // live, ended, expired or unsure
	Removed bool      `json:"removed,omitempty"`
	Problem string    `json:"problem,omitempty"`
}

// CleanUpOptions say what is looked at.
type CleanUpOptions struct {
	App      string // only this application; "" for all
	ListOnly bool   // remove nothing, and touch nothing
	Claim    bool   // only what this agent gets the claim for: others clean up too
	// Reached says that a driver that refuses to be talked to has gone: it was talked to from here before, or
	// somebody knows that it could be. For others a refusal may come from a network that keeps us out, and only the time to live
	// counts. Nil: none.
	Reached func(catalog.Application) bool
}

// Cleaner removes copies from object storage. It needs no node and no state folder.
type Cleaner struct {
	Config config.Config
	Log    *zap.Logger
	Dialer wire.Dialer // to drivers
}

// CleanUpPath is CleanUp for what lies at objects.path.
func (c *Cleaner) CleanUpPath(ctx context.Context, o CleanUpOptions) ([]Copies, error) {
	s, err := openObjects(ctx, c.Config, nil, c.Log)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return c.CleanUp(ctx, s.bucket, o)
}

// CleanUp goes through the catalog of a bucket and removes the copies of applications that have ended, or whose end nobody
// has seen for objects.keep. It touches only what manifests list. Trouble with one node's copies is told in its entry and
// does not keep the others.
func (c *Cleaner) CleanUp(ctx context.Context, b bucket.Bucket, o CleanUpOptions) ([]Copies, error) {
	cat := catalog.New(b)
	places, err := cat.Places(ctx, o.App)
	if err != nil {
		return nil, err
	}
	states := map[string]string{} // by driver and application
	list := make([]Copies, 0, len(places))
	for _, p := range places {
		u, err := cat.Usage(ctx, p)
		e := Copies{App: p.App, Node: p.Node, Driver: u.Application.Driver, Outputs: u.Outputs, Bytes: u.Bytes, Newest: u.Newest}
		key := p.App + " " + e.Driver
		if states[key] == "" {
			states[key] = c.driverState(ctx, u.Application)
		}
		if states[key] == CopiesEnded && (o.Reached == nil || !o.Reached(u.Application)) {
			states[key] = CopiesUnsure
		}
		e.State = c.stateOf(states[key], u.Newest)
		if err == nil && !o.ListOnly && (e.State == CopiesEnded || e.State == CopiesExpired) {
			e.Removed, err = c.removeCopies(ctx, cat, p, o)
		}
		if err != nil {
			e.Problem = err.Error()
		}
		list = append(list, e)
		if ctx.Err() != nil {
			return list, ctx.Err()
		}
	}
	return list, nil
}

// stateOf: copies that are young are left alone even if the driver is gone, and those that nobody can say anything about
// until they are old.
func (c *Cleaner) stateOf(driver string, newest time.Time) string {
	age := time.Since(newest)
	switch {
	case driver == CopiesLive:
		return CopiesLive
	case driver == CopiesEnded && age > endedAfter:
		return CopiesEnded
	case age > c.Config.Objects.Keep:
		return CopiesExpired
	}
	return CopiesUnsure
}

// driverState asks the driver of a manifest for its application: live when it is the one, ended when nothing listens
// there any more or another application answers, unsure otherwise.
func (c *Cleaner) driverState(ctx context.Context, app catalog.Application) string {
	d, _, ok := java.ForVersion(app.Spark, app.Scala)
	if app.Driver == "" || !ok {
		return CopiesUnsure
	}
	ctx, cancel := context.WithTimeout(ctx, driverPatience)
	defer cancel()
	conn, err := driver.Dial(ctx, c.Dialer, app.Driver, d, wire.Options{Stall: driverPatience})
	if err == nil {
		defer conn.Close()
		var props map[string]string
		if props, err = conn.Properties(ctx, 0); err == nil && props["spark.app.id"] != app.ID {
			return CopiesEnded
		}
	}
	switch {
	case err == nil:
		return CopiesLive
	case errors.Is(err, driver.ErrGone):
		return CopiesEnded
	}
	return CopiesUnsure
}

func (c *Cleaner) removeCopies(ctx context.Context, cat *catalog.Catalog, p catalog.Place, o CleanUpOptions) (bool, error) {
	if o.Claim {
		ours, err := cat.Claim(ctx, p, c.Config.Node.Name, claimTime)
		if err != nil || !ours {
			return false, err
		}
	}
	r, err := cat.Remove(ctx, p, objectLayout, false)
	if err != nil {
		return false, fmt.Errorf("not all was removed, try again: %w", err)
	}
	c.Log.Info("copies removed", zap.Stringer("place", p), zap.Int("outputs", r.Outputs), zap.Int64("bytes", r.Bytes))
	return true, nil
}

// sweep cleans up the buckets that this agent knows, now and then, until ctx ends.
func (a *Agent) sweep(ctx context.Context) {
	c := &Cleaner{Config: a.cfg, Log: a.log, Dialer: a.dialer}
	for pause(ctx, sweepEvery/2+rand.N(sweepEvery)) == nil {
		for _, p := range a.storages.places() {
			b, err := object.Open(ctx, p.url, p.settings)
			if err == nil {
				_, err = c.CleanUp(ctx, b, CleanUpOptions{Claim: true, Reached: a.storages.reached})
				_ = b.Close()
			}
			if err != nil && ctx.Err() == nil {
				a.log.Warn("object storage not cleaned up", zap.String("storage", p.url), zap.Error(err))
			}
		}
	}
}
