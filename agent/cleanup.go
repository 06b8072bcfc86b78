package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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
	// sweepApart is how far the clean-ups of all agents of one bucket are apart: each reads the whole catalog.
	sweepApart = 10 * time.Minute
	// sweepMost is how long one clean-up of an agent may take; the next one goes on.
	sweepMost = 30 * time.Minute
	// driverPatience is how long a driver has to answer, driverAgain the pause before one that refused is asked again.
	driverPatience, driverAgain = 5 * time.Second, time.Second
	// driversMost is how many drivers one clean-up talks to: their addresses stand in the bucket.
	driversMost = 1000
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
	// Reached says that a driver that refuses to be talked to has gone: it was talked to from here before, or
	// somebody knows that it could be. For others a refusal may come from a network that keeps us out, and only the time to live
	// counts. Nil: none.
	Reached func(catalog.Application) bool
	// Answered hears of drivers that answer. May be nil.
	Answered func(catalog.Application)
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
	run := &cleaning{Cleaner: c, options: o, catalog: catalog.New(b), states: map[catalog.Application]string{}}
	places, err := run.catalog.Places(ctx, o.App)
	if err != nil {
		return nil, err
	}
	places = slices.DeleteFunc(places, func(p catalog.Place) bool { return p == sweepPlace() })
	slices.SortStableFunc(places, func(x, y catalog.Place) int { return cmp.Compare(x.App, y.App) })
	list := []Copies{}
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].App == places[0].App {
			n++
		}
		list = append(list, run.application(ctx, places[:n])...)
		places = places[n:]
		if ctx.Err() != nil {
			return list, ctx.Err()
		}
	}
	return list, nil
}

// cleaning is one clean-up.
type cleaning struct {
	*Cleaner
	options CleanUpOptions
	catalog *catalog.Catalog
	states  map[catalog.Application]string // by what a manifest says
}

// application cleans up what is stored of one application. All of it shares one fate: that of the node that knows most.
func (c *cleaning) application(ctx context.Context, places []catalog.Place) []Copies {
	list := make([]Copies, len(places))
	state := CopiesEnded
	for i, p := range places {
		u, err := c.catalog.Usage(ctx, p)
		list[i] = Copies{App: p.App, Node: p.Node, Driver: u.Application.Driver, Outputs: u.Outputs, Bytes: u.Bytes, Newest: u.Newest}
		if err != nil {
			list[i].Problem = err.Error()
		}
		if u.Manifests > 0 || err != nil {
			state = livelier(state, c.ask(ctx, u.Application))
		}
	}
	last, err := c.catalog.LastSign(ctx, places[0].App)
	if err != nil || state == CopiesEnded && !slices.ContainsFunc(list, func(e Copies) bool { return e.Driver != "" }) {
		state = CopiesUnsure // nobody says which driver to ask
	}
	state = c.stateOf(state, time.Since(last))
	for i := range list {
		list[i].State = state
		if list[i].Problem == "" && err == nil && !c.options.ListOnly && (state == CopiesEnded || state == CopiesExpired) {
			c.remove(ctx, places[i], &list[i])
		}
	}
	// A node that only noted that the application lives has stored nothing.
	return slices.DeleteFunc(list, func(e Copies) bool { return e.Driver == "" && e.Problem == "" })
}

// livelier is the state of two that keeps more.
func livelier(a, b string) string {
	for _, s := range []string{CopiesLive, CopiesUnsure} {
		if a == s || b == s {
			return s
		}
	}
	return CopiesEnded
}

// ask finds out once what a driver says.
func (c *cleaning) ask(ctx context.Context, app catalog.Application) string {
	if state := c.states[app]; state != "" {
		return state
	}
	if len(c.states) >= driversMost {
		return CopiesUnsure
	}
	state := c.driverState(ctx, app)
	switch {
	case state == CopiesLive && c.options.Answered != nil:
		c.options.Answered(app)
	case state == CopiesEnded && (c.options.Reached == nil || !c.options.Reached(app)):
		state = CopiesUnsure
	}
	c.states[app] = state
	return state
}

// stateOf: copies that are young are left alone even if the driver is gone, and those that nobody can say anything about
// until they are old.
func (c *Cleaner) stateOf(driver string, age time.Duration) string {
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
	state := c.askDriver(ctx, app, d)
	if state == CopiesEnded && pause(ctx, driverAgain) == nil {
		state = c.askDriver(ctx, app, d)
	}
	return state
}

func (c *Cleaner) askDriver(ctx context.Context, app catalog.Application, d java.Dialect) string {
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

// remove removes what one node has stored, unless somebody is at it or the storage's clock says that it is young.
func (c *cleaning) remove(ctx context.Context, p catalog.Place, e *Copies) {
	by := cleanUpClaim(c.Config.Node.Name)
	ours, err := c.catalog.Claim(ctx, p, by, claimTime)
	if err != nil {
		e.Problem = err.Error()
		return
	}
	if !ours {
		return
	}
	defer holdOn(ctx, c.catalog, p, by, c.Log)()
	now, err := c.catalog.Clock(ctx, p)
	if err == nil {
		var last time.Time
		if last, err = c.catalog.LastSign(ctx, p.App); err == nil && c.stateOf(e.State, now.Sub(last)) != e.State {
			err = errors.New("left alone: this machine's clock or the storage's is wrong")
		}
	}
	if err != nil {
		e.Problem = err.Error()
		return
	}
	r, err := c.catalog.Remove(ctx, p, objectLayout, false)
	if err != nil {
		e.Problem = fmt.Sprintf("not all was removed, try again: %v", err)
		return
	}
	e.Removed = true
	c.Log.Info("copies removed", zap.Stringer("place", p), zap.Int("outputs", r.Outputs), zap.Int64("bytes", r.Bytes))
}

// sweep cleans up the buckets that this agent knows, now and then, until ctx ends.
func (a *Agent) sweep(ctx context.Context) {
	c := &Cleaner{Config: a.cfg, Log: a.log, Dialer: a.dialer}
	for pause(ctx, sweepEvery/2+rand.N(sweepEvery)) == nil {
		for _, p := range a.storages.places() {
			if err := a.sweepOne(ctx, c, p); err != nil && ctx.Err() == nil {
				a.log.Warn("object storage not cleaned up", zap.String("storage", p.url), zap.Error(err))
			}
		}
	}
}

// sweepPlace is what agents claim whose turn it is to clean up.
func sweepPlace() catalog.Place { return catalog.Place{App: "clean-up", Node: "all"} }

func (a *Agent) sweepOne(ctx context.Context, c *Cleaner, p objectPlace) error {
	ctx, cancel := context.WithTimeout(ctx, sweepMost)
	defer cancel()
	b, err := object.Open(ctx, p.url, p.settings)
	if err != nil {
		return err
	}
	defer b.Close()
	turn := catalog.New(b)
	ours, err := turn.Claim(ctx, sweepPlace(), cleanUpClaim(a.cfg.Node.Name), sweepApart)
	if err != nil || !ours {
		return err // another agent has just done it
	}
	if err := turn.DropOldClaims(ctx, sweepPlace()); err != nil {
		return err
	}
	_, err = c.CleanUp(ctx, b, CleanUpOptions{Reached: a.storages.gone, Answered: a.storages.answered})
	return err
}
