package agent

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
)

// catalogued stores only outputs that the catalog lists, so that whatever lies in the bucket can be salvaged, and
// removed, also when the agent dies in the middle.
type catalogued struct {
	*object.Destination
	app    *application
	book   *catalog.Catalog
	bucket bucket.Bucket

	turn   chan struct{} // holds one token: who has it may write and look at listed
	listed map[catalog.Ref]bool
}

func (a *application) catalogued(s *objectStorage, d *object.Destination) *catalogued {
	c := &catalogued{Destination: d, app: a, book: catalog.New(s.bucket), bucket: s.bucket, turn: make(chan struct{}, 1), listed: map[catalog.Ref]bool{}}
	c.turn <- struct{}{}
	for _, ref := range a.stored.refs() {
		c.listed[ref] = true
	}
	return c
}

// recallTime is how long object storage may take to say what it holds, before a rescue begins to use it.
const recallTime = 3 * time.Second

// recall learns what a mirror has stored that is not this process's, or was not before it was started anew. What it does not
// learn in time is stored again.
func (a *application) recall(ctx context.Context, s *objectStorage) {
	if a.cfg.Mirror.Mode == config.MirrorOff || a.salvage != nil || a.stored.count() > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, recallTime)
	defer cancel()
	p := catalog.Place{App: a.id, Node: a.cfg.Node.Name}
	err := catalog.New(s.bucket).Stored(ctx, p, objectLayout, func(_ *catalog.Manifest, e catalog.Entry) error {
		a.stored.add(e.Ref, e.Bytes())
		return nil
	})
	if err != nil {
		a.log.Info("not all is known that was copied ahead", zap.Error(err))
	}
}

// keep claims what this node has in the catalog for as long as ctx lives: what is being rescued needs no salvage when
// its executor ends.
func (c *catalogued) keep(ctx context.Context) {
	if c.app.dryRun || c.app.salvage != nil {
		return
	}
	by := rescueClaim(c.place().Node)
	holdClaim(ctx, c.book, c.place(), by, c.app.log)
	if !c.app.interrupted() { // what is not settled now, others may salvage
		giveUpClaim(ctx, c.book, c.place(), by)
	}
}

func (c *catalogued) place() catalog.Place {
	return catalog.Place{App: c.app.id, Node: c.app.rescue.cfg.Node.Name}
}

// Put lists the output, and stores it.
func (c *catalogued) Put(ctx context.Context, out *migrate.Output) (migrate.Location, error) {
	if err := c.enlist(ctx, out); err != nil {
		return migrate.Location{}, err
	}
	if err := c.confirm(ctx, out); err != nil {
		return migrate.Location{}, c.classify(ctx, err)
	}
	return c.Destination.Put(ctx, out)
}

// confirm looks whether what a mirror stored a while ago is still there: somebody may have emptied the bucket, and
// what is announced must exist. What is not is forgotten, and stored like any other.
func (c *catalogued) confirm(ctx context.Context, out *migrate.Output) error {
	if c.app.salvage != nil || !c.app.stored.hasOld(out) {
		return nil
	}
	e := catalog.EntryOf(out)
	data, index := objectLayout(out.ID)
	sizes := map[string]int64{index: e.Index}
	if e.Data != catalog.NoData {
		sizes[data] = e.Data
	}
	for key, size := range sizes {
		o, err := c.bucket.Stat(ctx, key)
		switch {
		case err == nil && o.Size == size:
		case err == nil, bucket.KindOf(err) == bucket.NotFound:
			c.app.stored.forget([]migrate.OutputID{out.ID})
			return nil
		default:
			return err
		}
	}
	return nil
}

// enlist lists an output together with all others that may still follow it, unless it is listed already: so there is
// one manifest for many. Without an output it lists those others. Its errors are classified as those of Put.
func (c *catalogued) enlist(ctx context.Context, out *migrate.Output) error {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { c.turn <- struct{}{} }()
	if c.app.salvage != nil || out != nil && c.listed[catalog.RefOf(out.ID)] {
		return nil
	}
	outs := c.app.engine.Pending()
	if out != nil {
		outs = append(outs, out)
	}
	var entries []catalog.Entry
	for _, o := range outs {
		if ref := catalog.RefOf(o.ID); !c.listed[ref] {
			c.listed[ref] = true
			entries = append(entries, catalog.EntryOf(o))
		}
	}
	if err := c.book.Write(ctx, c.app.manifest(), entries); err != nil {
		for _, e := range entries {
			delete(c.listed, e.Ref)
		}
		return c.classify(ctx, err)
	}
	return nil
}

func (c *catalogued) classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := migrate.Transient
	switch bucket.KindOf(err) {
	case bucket.Denied, bucket.Full, bucket.Misplaced:
		kind = migrate.Elsewhere
	}
	return &migrate.Error{Op: "list map outputs in " + c.Target().URL, Kind: kind, Err: err}
}

// prove makes sure that the storage takes something, by listing what it is to store.
func (c *catalogued) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, objectCheck)
	defer cancel()
	if err := c.enlist(ctx, nil); err != nil {
		return fmt.Errorf("%w that takes map outputs: %w", errNoObjects, err)
	}
	return nil
}

// settleTime is how long the end of a rescue may take, while the node lives, to say what needs no salvage.
const settleTime = 5 * time.Second

// settle says in the catalog which of the listed outputs Spark knows a place of.
func (c *catalogued) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(settleTime, c.app.untilTaken()))
	defer cancel()
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return
	}
	var known []catalog.Ref
	for _, r := range c.app.engine.Results() {
		if ref := catalog.RefOf(r.Output.ID); r.State == migrate.Saved && !waits(r.Location) && c.listed[ref] {
			known = append(known, ref)
		}
	}
	if len(known) == 0 {
		return
	}
	if err := c.book.Settle(ctx, c.place(), c.app.journal.ID(), known); err != nil {
		c.app.log.Info("catalog not settled: a salvage may look at copies that count already", zap.Error(err))
	}
}

// manifest is what the catalog says about the application beside its outputs.
func (a *application) manifest() catalog.Manifest {
	spark, scala := a.version()
	m := catalog.Manifest{
		Agent: a.rescue.version, Node: a.rescue.cfg.Node.Name,
		Application: catalog.Application{ID: a.id, Driver: a.driverURL(), Spark: spark, Scala: scala},
	}
	for _, x := range a.snapshot() {
		m.Executors = append(m.Executors, catalog.Executor{ID: x.ID, Host: x.Host})
	}
	return m
}
