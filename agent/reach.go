package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/peer"
	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// Every question to the driver has this much time; a driver in a long garbage collection answers late,
// so questions are repeated until the deadline.
const (
	rpcTimeout   = 5 * time.Second
	retryPause   = 500 * time.Millisecond
	refreshEvery = 2 * time.Second
	askedPeers   = 3 // how many living executors GetPeers is asked with when the first is not known
)

var (
	errDriverGone = errors.New("the driver is gone: nothing is worth saving")
	errDriverHere = errors.New("the driver runs on this node and goes with it: nothing is worth saving")
	errNoPeer     = errors.New("no living executor elsewhere takes map outputs")
	errPeersOff   = fmt.Errorf("%w: peers are switched off by destinations", errNoPeer)
)

const (
	// dryRunPatience is how long a dry run looks for a destination: a person waits for it.
	dryRunPatience = 3 * time.Second
	// leftPatience is the same for an application that has left this node, and perhaps the world.
	leftPatience = 10 * time.Second
)

// reach finds the driver, its settings and at least one usable peer, or object storage; until ctx ends, because all may
// come back. Nobody is told anything here. The REST server is looked for as long as copying goes on.
func (a *application) reach(ctx, copying context.Context) error {
	defer a.phase(phaseReach)()
	host, _, err := driver.Address(a.driverURL())
	if err != nil {
		return err
	}
	if a.wholeNode() && (a.isHere(host) || a.driverIsHere()) {
		return errDriverHere
	}
	a.helpers.Go(func() { a.findREST(copying, host) })
	switch {
	case a.dryRun:
		short, cancel := context.WithTimeout(ctx, dryRunPatience)
		defer cancel()
		ctx = short
	case a.left != nil:
		short, cancel := context.WithTimeout(ctx, leftPatience)
		defer cancel()
		ctx = short
	}
	var last error
	for began := time.Now(); ; {
		err := a.tryReach(ctx, began)
		if err == nil || final(err) {
			return err
		}
		if ctx.Err() != nil && last != nil {
			return last // says more than that this try was cut short
		}
		if last == nil || err.Error() != last.Error() {
			a.log.Info("no usable destination yet", zap.Error(err))
		}
		last = err
		if a.pauseForObjects(ctx) != nil {
			return err
		}
	}
}

// final errors do not get better by waiting.
func final(err error) bool {
	return errors.Is(err, errDriverGone) || errors.Is(err, peer.ErrDialectRefused)
}

// gone says in our words that the driver is no more, if that is what its client says.
func gone(err error) error {
	if errors.Is(err, driver.ErrGone) {
		return fmt.Errorf("%w (%w)", errDriverGone, err)
	}
	return err
}

func (a *application) tryReach(ctx context.Context, began time.Time) error {
	var first errgroup.Group
	if a.driver == nil {
		first.Go(func() error { return a.dialDriver(ctx) })
	}
	a.locateMembers(ctx)
	if err := first.Wait(); err != nil {
		return err
	}
	err := a.reachPeers(ctx)
	switch {
	case final(err):
		return err
	case err != nil:
		return a.withoutPeers(ctx, err, began)
	}
	a.awaitObjects(ctx)
	return nil
}

// reachPeers takes living peers into use, and is an error when there is none.
func (a *application) reachPeers(ctx context.Context) error {
	if !a.cfg.Uses(config.DestinationPeers) {
		return errPeersOff
	}
	list, err := a.livingPeers(ctx)
	if err != nil {
		return err
	}
	return a.provePeers(ctx, list)
}

// provePeers takes those of the listed peers into use that answer for themselves, in a dialect that is known to be theirs.
func (a *application) provePeers(ctx context.Context, list []java.BlockManagerID) (err error) {
	if !a.proved {
		if list, err = a.probe(ctx, list); err != nil {
			return err
		}
	}
	if a.usePeers(ctx, list) == 0 {
		return a.noPeer(list)
	}
	return nil
}

// dialDriver connects, with the dialect of the executors' Spark version, and asks for the properties.
func (a *application) dialDriver(ctx context.Context) error {
	if err := a.chooseDialect(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	c, err := driver.Dial(ctx, a.dialer, a.driverURL(), a.dialect, wire.Options{Stall: rpcTimeout})
	if err != nil {
		return gone(err)
	}
	props, err := c.Properties(ctx, a.profile())
	if err != nil {
		c.Close()
		return gone(err)
	}
	if id := props["spark.app.id"]; id != "" && id != a.id {
		c.Close()
		return fmt.Errorf("%w (the driver of %s has its address)", errDriverGone, id)
	}
	a.driver, a.props = c, props
	close(a.dialed)
	return nil
}

// chooseDialect takes the dialect of the exact version where it is known. Any other is proved by a
// probe before anybody is told.
func (a *application) chooseDialect() error {
	if name := a.cfg.Spark.Dialect; a.named() {
		d, ok := java.ByName(name)
		if !ok {
			return fmt.Errorf("spark.dialect %q is not known; known are %v", name, java.Names())
		}
		a.dialect, a.proved = d, false
		return nil
	}
	spark, scala := a.version()
	d, exact, ok := java.ForVersion(spark, scala)
	if !ok {
		return fmt.Errorf("spark version %q (Scala %q) is not supported", spark, scala)
	}
	a.dialect, a.proved = d, exact
	return nil
}

// named says that the configuration insists on a dialect.
func (a *application) named() bool { return a.cfg.Spark.Dialect != config.DialectAuto }

// probe asks peers, one after the other, until one has said which dialect it understands. With a dialect named in
// the configuration any other answer is a refusal.
func (a *application) probe(ctx context.Context, list []java.BlockManagerID) ([]java.BlockManagerID, error) {
	err := errNoPeer
	for _, p := range list {
		ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
		var d java.Dialect
		d, err = peer.Probe(ctx, a.dialer, peer.Address(targetOf(p)), a.id, a.dialect)
		cancel()
		switch {
		case err == nil && a.named() && d != a.dialect:
			return nil, fmt.Errorf("spark.dialect %s: %w: it speaks another", a.dialect.Name, peer.ErrDialectRefused)
		case err == nil:
			a.dialect, a.proved = d, true
			return list, nil
		}
		if errors.Is(err, peer.ErrDialectRefused) {
			return nil, err
		}
	}
	return nil, err
}

// locateMembers finds each member's own block manager: by the driver's REST view, or by asking each
// port its process listens on which executor it is. Its answer also names its folders.
func (a *application) locateMembers(ctx context.Context) {
	var all sync.WaitGroup
	for _, m := range a.snapshot() {
		if !m.located() {
			all.Go(func() { a.locate(ctx, m) })
		}
	}
	all.Wait()
}

func (a *application) locate(ctx context.Context, m *member) {
	for _, port := range a.candidatePorts(m) {
		self := java.BlockManagerID{Executor: m.ID, Host: m.Host, Port: port}
		own, err := a.folders(ctx, self)
		if err != nil {
			continue
		}
		m.mu.Lock()
		m.self, m.folders = self, own
		m.mu.Unlock()
		a.addAsk(self)
		return
	}
}

// located says that the executor's block manager has answered.
func (m *member) located() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self.Port != 0
}

// folders asks an executor for its own block manager folders. The answer proves that it is the one.
func (a *application) folders(ctx context.Context, at java.BlockManagerID) (map[string]bool, error) {
	dirs, err := askFolders(ctx, a.dialer, at, a.id)
	return folderNames(dirs), err
}

// folderTimeout is short: the question goes to every port that a process of this node listens on.
const folderTimeout = time.Second

func askFolders(ctx context.Context, d wire.Dialer, at java.BlockManagerID, app string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, folderTimeout)
	defer cancel()
	return peer.Folders(ctx, peer.Options{Target: targetOf(at), App: app, Dialer: d, DialTimeout: folderTimeout})
}

func folderNames(dirs []string) map[string]bool {
	names := make(map[string]bool, len(dirs))
	for _, dir := range dirs {
		names[path.Base(dir)] = true
	}
	return names
}

func (a *application) candidatePorts(m *member) []int {
	ports, err := a.finder.ListeningPorts(m.PID)
	if err != nil {
		a.log.Warn("listening ports not readable", zap.Int("pid", m.PID), zap.Error(err))
	}
	if r, _ := a.activity.latest(); r.executors != nil {
		if id, ok := r.executors[m.ID].BlockManager(); ok {
			ports = append([]int{id.Port}, slices.DeleteFunc(ports, func(p int) bool { return p == id.Port })...)
		}
	}
	return ports
}

// locateStaying asks the executors of this node that stay which folders are theirs, so that those are left
// alone. One that does not answer has its outputs copied too, which harms nobody.
func (a *application) locateStaying(ctx context.Context) {
	for _, e := range a.staying {
		ports, _ := a.finder.ListeningPorts(e.PID)
		for _, port := range ports {
			self := java.BlockManagerID{Executor: e.ID, Host: e.Host, Port: port}
			if own, err := a.folders(ctx, self); err == nil {
				maps.Copy(a.foreign, own)
				a.addAsk(self)
				break
			}
		}
	}
}

// isLeaving says that an executor is no destination: it goes with this rescue.
func (a *application) isLeaving(id java.BlockManagerID) bool {
	for _, m := range a.snapshot() {
		if m.ID == id.Executor {
			return true
		}
	}
	return a.wholeNode() && a.isHere(id.Host)
}

// driverURL, version and profile are the same for all executors of an application (but for resource
// profiles, of which any one will do to ask for the properties).
func (a *application) driverURL() string {
	if members := a.snapshot(); len(members) > 0 {
		return members[0].DriverURL
	}
	return a.left.DriverURL
}

func (a *application) version() (spark, scala string) {
	if members := a.snapshot(); len(members) > 0 {
		return members[0].Spark, members[0].Scala
	}
	return a.left.Spark, a.left.Scala
}

func (a *application) profile() int {
	if members := a.snapshot(); len(members) > 0 {
		return members[0].ResourceProfile
	}
	return 0
}

func (a *application) addAsk(id java.BlockManagerID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.asks, id) {
		a.asks = append(a.asks, id)
	}
}

// livingPeers asks the driver which executors live and are not leaving (GetPeers), and drops those that
// leave with this node. GetPeers answers an empty list to anybody it does not know, so several are asked with.
func (a *application) livingPeers(ctx context.Context) ([]java.BlockManagerID, error) {
	if to := a.replacement(); to != nil {
		return a.livingReplacement(ctx, to)
	}
	a.mu.Lock()
	asks, members := slices.Clone(a.asks), len(a.members)
	a.mu.Unlock()
	if object.FallbackPath(a.props) != "" { // then the driver knows this one always, and it never leaves
		asks = slices.Insert(asks, 0, java.FallbackBlockManager())
	}
	asks = append(asks, a.restIDs()...)
	if len(asks) == 0 {
		return nil, fmt.Errorf("%w: no executor's block manager is known to ask the driver with", errNoPeer)
	}
	var last error
	for _, ask := range asks[:min(len(asks), members+askedPeers)] {
		list, err := a.getPeers(ctx, ask)
		list = slices.DeleteFunc(list, isFallback)
		if final(err) || errors.Is(err, driver.ErrSlow) {
			return nil, err // the next question would meet the same
		}
		if err != nil {
			last = err
			continue
		}
		if len(list) == 0 {
			continue
		}
		if !isFallback(ask) && !a.isLeaving(ask) && a.confirms(ctx, list, ask) {
			list = append(list, ask)
		}
		return slices.DeleteFunc(list, a.isLeaving), nil
	}
	if last != nil {
		return nil, last
	}
	if id, ok := a.onlyLiving(); ok && !a.isLeaving(id) {
		return []java.BlockManagerID{id}, nil
	}
	return nil, errNoPeer
}

// isFallback is true for the block manager that stands for the fallback storage among the living executors: it takes
// nothing by itself.
func isFallback(id java.BlockManagerID) bool { return id == java.FallbackBlockManager() }

// onlyLiving is the one executor that the driver's REST view still shows, when it shows no other: such an executor has
// no peers, so none can name it. It shows how it is meant when it takes uploads or refuses them.
func (a *application) onlyLiving() (java.BlockManagerID, bool) {
	if r, _ := a.activity.latest(); time.Since(r.began) > 2*readingTimeout {
		return java.BlockManagerID{}, false
	}
	ids := a.restIDs()
	if len(ids) != 1 {
		return java.BlockManagerID{}, false
	}
	return ids[0], true
}

// confirms asks with another executor whether the first one is still among the living: the answer to
// one's own question never contains oneself.
func (a *application) confirms(ctx context.Context, others []java.BlockManagerID, ask java.BlockManagerID) bool {
	for _, other := range others[:min(len(others), askedPeers)] {
		list, err := a.getPeers(ctx, other)
		if err == nil && len(list) > 0 {
			return slices.Contains(list, ask)
		}
	}
	return false
}

func (a *application) getPeers(ctx context.Context, ask java.BlockManagerID) ([]java.BlockManagerID, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	list, err := a.driver.Peers(ctx, ask)
	return list, gone(err)
}

// restIDs are the block managers in the driver's REST view, for applications whose executors here have gone.
func (a *application) restIDs() []java.BlockManagerID {
	r, _ := a.activity.latest()
	var ids []java.BlockManagerID
	for _, e := range r.executors {
		if id, ok := e.BlockManager(); ok && e.IsActive && !isFallback(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// findREST looks for the driver's REST server until it is found: it is never waited for.
func (a *application) findREST(ctx context.Context, host string) {
	for {
		rest, err := driver.FindREST(ctx, a.dialer, host, a.id, a.cfg.Spark.RESTPorts)
		if err == nil {
			a.mu.Lock()
			a.rest = rest
			a.mu.Unlock()
			return
		}
		if pause(ctx, refreshEvery) != nil {
			return
		}
	}
}

func targetOf(id java.BlockManagerID) migrate.Target {
	return migrate.Target{Executor: id.Executor, Host: id.Host, Port: id.Port}
}
