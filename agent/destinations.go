package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object"
)

// objectsPatience is how long a rescue waits for object storage that is its first choice, and for a driver that does
// not say who lives while there is object storage.
const objectsPatience = 3 * time.Second

// objectsFirst says that object storage is the first choice.
func (a *application) objectsFirst() bool { return a.cfg.Destinations[0] == config.DestinationObjects }

// prefer puts peers on this node's own host names after the others: they do not protect a stage that still runs. What lies
// in object storage where the application does not look for it comes last: it counts only later, if at all.
// What a mirror has put there already only has to be announced.
func (a *application) prefer(out *migrate.Output, t migrate.Target) int {
	class := 0
	if a.objectsCount() && a.stored.has(out) {
		if t.URL != "" {
			return 0
		}
		class++
	}
	switch {
	case t.URL == "" && a.isHere(t.Host):
		class++
	case t.URL != "" && !a.objectsCount():
		return 3
	case t.URL != "" && a.objectsFirst():
		return 0
	case t.URL != "":
		return 2
	}
	if a.objectsFirst() {
		class++
	}
	return class
}

// slots is how many outputs may be on their way to a target at once; 0 is what peers get.
func (a *application) slots(t migrate.Target) int {
	if t.URL == "" {
		return 0
	}
	return a.rescue.cfg.Objects.InFlight
}

// objectsCount says that a copy in object storage counts as soon as the driver knows of it.
func (a *application) objectsCount() bool {
	s := a.storage.Load()
	return s != nil && s.read
}

// list makes the peers in use and the object storage the engine's destinations. What lies at peers whose nodes go is copied once
// more.
func (a *application) list() {
	a.listing.Lock()
	defer a.listing.Unlock()
	a.mu.Lock()
	ds := slices.Clone(a.willing)
	peers := len(ds)
	if a.objects != nil {
		ds = append(ds, a.objects)
	}
	objects, leaving := a.objects, a.leaving
	a.mu.Unlock()
	if n := a.engine.SetDestinations(ds, leaving...); n > 0 {
		a.log.Info("outputs are copied again: their peers go too", zap.Int("outputs", n))
	}
	if objects != nil && peers > 0 && !a.objectsCount() {
		a.giveToPeers(objects.Target())
	}
}

// giveToPeers has peers that came later, or have nothing left to do, take what only waits in object storage: with them it
// counts at once.
func (a *application) giveToPeers(objects migrate.Target) {
	p := a.engine.Progress()
	if p.Queued.Outputs > 0 || p.InFlight.Outputs > 0 || a.engine.Waiting() == 0 {
		return
	}
	if n := a.engine.Doubt(objects); n > 0 {
		a.log.Info("peers take what only waited in object storage", zap.Int("outputs", n))
	}
}

// findObjects takes the application's object storage into use once it proves to be usable, and tries until ctx ends.
// The driver has to be known before, and the files to be pinned. A rescue never waits for it when it has peers.
func (a *application) findObjects(ctx context.Context) {
	for _, before := range []<-chan struct{}{a.dialed, a.pinned} {
		select {
		case <-before:
		case <-ctx.Done():
			return
		}
	}
	last := ""
	for {
		err := a.useObjects(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		a.noObjects = err
		a.mu.Unlock()
		if text := err.Error(); text != last {
			last = text
			a.log.Info("object storage not in use", zap.Error(err))
		}
		if errors.Is(err, errNoObjects) || pause(ctx, refreshEvery) != nil {
			return
		}
	}
}

// useObjects opens the object storage and makes it a destination. In a dry run nothing is written.
func (a *application) useObjects(ctx context.Context) error {
	s := a.storage.Load()
	if s == nil {
		var err error
		if s, err = openObjects(ctx, a.rescue.cfg, a.props, a.log); err != nil {
			return err
		}
		a.storage.Store(s)
	}
	if err := s.check(ctx, a.id); err != nil {
		return err
	}
	var announce object.AnnounceFunc
	if s.read {
		announce = object.Tell(a.driver)
	}
	if a.salvage != nil && !s.read {
		return fmt.Errorf("%w that the application reads: copies are given back to executors", errNoObjects)
	}
	a.recall(ctx, s)
	dest := a.catalogued(s, s.destination(a.id, announce, a.stored.has, nil))
	a.helpers.Go(func() { dest.keep(ctx) })
	a.mu.Lock()
	a.objects, a.noObjects = dest, nil
	a.mu.Unlock()
	a.log.Info("object storage in use", zap.String("url", s.url), zap.Bool("read", s.read))
	a.list()
	close(a.objectsReady)
	return nil
}

// awaitObjects gives object storage that is the first choice a moment to prove itself.
func (a *application) awaitObjects(ctx context.Context) {
	if !a.cfg.Uses(config.DestinationObjects) || !a.objectsFirst() {
		return
	}
	a.mu.Lock()
	never := errors.Is(a.noObjects, errNoObjects)
	a.mu.Unlock()
	if never {
		return
	}
	timer := time.NewTimer(objectsPatience)
	defer timer.Stop()
	select {
	case <-a.objectsReady:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// withoutPeers says whether a rescue can begin although there is no peer: with object storage that takes something it
// can. A driver that does not say who lives is asked for a while before.
func (a *application) withoutPeers(ctx context.Context, peersErr error, since time.Time) error {
	if !errors.Is(peersErr, errNoPeer) && time.Since(since) < objectsPatience {
		return peersErr
	}
	a.mu.Lock()
	objects, err := a.objects, a.noObjects
	a.mu.Unlock()
	if objects != nil && !a.dryRun {
		err = objects.prove(ctx)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w; %w", peersErr, err)
	case objects == nil:
		return peersErr // it is still being looked for
	}
	a.log.Info("no peers: object storage takes everything", zap.Error(peersErr))
	return nil
}

// settleCatalog leaves later salvages only what they can be of use for.
func (a *application) settleCatalog(ctx context.Context) {
	a.mu.Lock()
	objects := a.objects
	a.mu.Unlock()
	if objects != nil {
		objects.settle(ctx)
	}
}

// pauseForObjects pauses before the next look for peers, but no longer than until there is object storage.
func (a *application) pauseForObjects(ctx context.Context) error {
	ready := a.objectsReady
	if isClosed(ready) {
		ready = nil
	}
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ready:
	case <-timer.C:
	}
	return nil
}

// objectsTrouble is why object storage that was wanted was never used; "" when there is nothing to say.
func objectsTrouble(err error) string {
	if err == nil || errors.Is(err, errObjectsOff) || errors.Is(err, errObjectsUnset) {
		return ""
	}
	return "object storage was not used: " + err.Error()
}

// noteDestinations says in a dry run where outputs would go.
func (a *application) noteDestinations() {
	a.mu.Lock()
	peers, objects, why := len(a.willing), a.objects, a.noObjects
	a.mu.Unlock()
	switch {
	case objects != nil:
		a.note(fmt.Sprintf("map outputs would go to %d peers and %s, %s", peers, objects.Target(), a.storage.Load().meaning()))
	case why != nil:
		a.note(fmt.Sprintf("map outputs would go to %d peers; %v", peers, why))
	}
}
