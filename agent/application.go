package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/peer"
	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// member is an executor that leaves with this node.
type member struct {
	executor.Executor
	process *executor.Process
	// late says that it was started here after the rescue had begun: it is told, but not ended as long as the
	// master would start the next one in its place.
	late bool

	mu        sync.Mutex
	pod       kube.Pod            // as it was seen last; empty where there is none
	self      java.BlockManagerID // zero until its block manager's port is known
	folders   map[string]bool     // its blockmgr-* folders; nil until it has named them
	trigger   string
	asked     bool // its driver may have been told
	told      bool // its driver has answered
	toldAt    time.Time
	idleAt    time.Time // when the driver was seen to know that its last task had ended
	rddBlocks int       // cached blocks that only Spark's own migration could have saved; -1 unknown
	ended     bool
	endedAt   time.Time
	endedHow  string
}

// application is the rescue of one application's map outputs on this node: pin, find a usable
// destination, tell the driver, copy and follow, end the executors.
type application struct {
	*rescue
	id  string
	log *zap.Logger

	scanning   sync.Mutex
	checking   sync.Mutex // peers are asked by one release at a time
	announcing sync.Mutex // the same for announcements
	listing    sync.Mutex // the engine gets one list of destinations at a time
	patience   allowance  // for the API server

	mu        sync.Mutex
	members   []*member
	store     *shuffle.Store    // nil until the files are pinned, or when they can't be
	releases  []func()          // say that files which were pinned ahead are no longer this rescue's
	skipped   []shuffle.Skipped // by the last scan
	peers     map[migrate.Target]*peer.Peer
	willing   []migrate.Destination     // those of them that the engine may use
	leaving   []migrate.Destination     // the others: their nodes go too
	stored    *storedSet                // what lay in object storage before; from the beginning of run
	objects   *catalogued               // nil until object storage is in use
	noObjects error                     // why it is not
	silent    map[migrate.Target]bool   // did not answer when they were to be used
	doomed    map[migrate.Target]string // why they are not used: their nodes go too
	asks      []java.BlockManagerID     // who GetPeers can be asked with, best first
	rest      *driver.REST
	tasks     map[int64]driver.Task
	failure   error
	notes     []string
	took      map[string]float64 // seconds by phase
	doing     string             // the phase it is in
	lastSaved time.Time
	anySaved  bool
	anyLost   bool                          // an output that could be read was given up
	unread    error                         // why there may be outputs that nobody knows of
	unopened  error                         // the part of it that was known before the first look
	fresh     atomic.Bool                   // an output was saved within seconds of its commit
	storage   atomic.Pointer[objectStorage] // nil until it is open

	driver   *driver.Client
	dialect  java.Dialect
	proved   bool // the dialect needs no probe (any more)
	props    map[string]string
	engine   *migrate.Engine
	activity *activity
	helpers  sync.WaitGroup // that end when run does

	left         *knownApp           // set for an application whose executors here have gone, but not their folders
	leftRoots    []shuffle.Root      // where those folders are
	staying      []executor.Executor // executors of this application on this node that do not leave
	foreign      map[string]bool     // folders of those
	arrivals     chan executor.Executor
	dialed       chan struct{} // closed when the driver has answered
	pinned       chan struct{} // closed when the files are pinned, or can't be
	objectsReady chan struct{} // closed when object storage is in use
	told         chan struct{} // closed when the driver knows of every executor that leaves
	finished     chan struct{} // closed when run has returned
	announced    map[migrate.OutputID]migrate.Target
}

func newApplication(r *rescue, id string) *application {
	a := &application{
		rescue: r, id: id, log: r.log.With(zap.String("app", id)),
		foreign: map[string]bool{}, arrivals: make(chan executor.Executor, 16),
		dialed: make(chan struct{}), pinned: make(chan struct{}), objectsReady: make(chan struct{}),
		told: make(chan struct{}), finished: make(chan struct{}), announced: map[migrate.OutputID]migrate.Target{},
		stored: newStoredSet(), took: map[string]float64{}, peers: map[migrate.Target]*peer.Peer{}, silent: map[migrate.Target]bool{},
		doomed: map[migrate.Target]string{}, patience: allowance{left: kubernetes.Patience},
	}
	a.activity = newActivity(a.restServer)
	a.engine = migrate.NewEngine(migrate.Options{
		InFlight: r.cfg.Migrate.InFlight, Slots: a.slots, Attempts: r.cfg.Migrate.Attempts,
		Backoff:  migrate.Backoff{Initial: r.cfg.Migrate.Backoff.Initial, Max: r.cfg.Migrate.Backoff.Max},
		Observer: &observer{app: a}, Prefer: a.prefer, Log: a.log,
	})
	return a
}

// run does the whole rescue of the application. Everything that went wrong is in the report.
func (a *application) run(ctx context.Context, copying *movable) {
	defer a.close()
	defer a.helpers.Wait()
	defer a.kube.Forget(a.id)
	background, stop := context.WithCancel(ctx)
	defer stop()
	defer a.holdMirror()()
	a.helpers.Go(func() { a.activity.run(background) })
	a.helpers.Go(func() { a.findObjects(background) })
	if err := a.prepare(ctx, copying); err != nil {
		a.abandon(err)
		a.markLeft(ctx)
		a.endTold(ctx, copying)
		return
	}
	if a.dryRun {
		a.noteDestinations()
		return
	}
	a.sayBegan()
	a.syncVolumes(background)
	if err := a.tell(copying, a.snapshot()); err != nil {
		a.abandon(fmt.Errorf("the driver could not be told: %w", err))
		a.endTold(ctx, copying)
		return
	}
	close(a.told)
	began := time.Now()
	a.enter(phaseCopy)
	a.copyAndRelease(ctx, copying)
	a.timeCopy(began)
	if len(a.snapshot()) > 0 && a.restServer() == nil {
		a.note("the driver's REST server was not found: executors are ended only at the deadline")
	}
}

// errNoTime: telling anybody would end work for nothing.
var errNoTime = errors.New("no time was left when everything was ready")

// prepare pins the files and finds a destination, side by side. Nobody is told anything here, so it is
// the last moment to find out that nothing can be saved.
func (a *application) prepare(ctx context.Context, copying *movable) error {
	reaching, giveUp := context.WithCancel(copying)
	defer giveUp()
	var pinned error
	go func() {
		defer close(a.pinned)
		defer a.phase(phasePin)()
		a.locateStaying(ctx)
		if pinned = a.pin(ctx); pinned != nil {
			giveUp()
		}
	}()
	if a.left != nil {
		<-a.pinned // most folders of applications that have left are empty, or no more
		if pinned != nil {
			return pinned
		}
	}
	err := a.reach(reaching, copying)
	<-a.pinned
	switch {
	case pinned != nil:
		return pinned
	case err == nil && copying.Err() != nil:
		return errNoTime
	case err == nil, errors.Is(err, errDriverGone), errors.Is(err, errDriverHere):
		return err
	}
	return fmt.Errorf("no usable destination: %w", err)
}

// timeCopy splits the time since the driver was told at the last acknowledgement: copying before it, ending
// after it.
func (a *application) timeCopy(began time.Time) {
	a.mu.Lock()
	last := a.lastSaved
	a.mu.Unlock()
	if last.Before(began) {
		last = began
	}
	a.passed(phaseCopy, last.Sub(began))
	a.passed(phaseEnd, time.Since(last))
}

// fail notes why the rescue of the application could not go on.
func (a *application) fail(err error) {
	a.mu.Lock()
	a.failure = err
	a.mu.Unlock()
	a.log.Warn("application not rescued", zap.Error(err))
}

// abandon reports everything as lost. Nobody was told, or nobody could be, so nothing is ended.
func (a *application) abandon(err error) {
	a.fail(err)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = a.engine.Run(over)
}

// endTold ends executors at the deadline whose driver may have been told, by an earlier run of the agent or without an
// answer, where nothing more can be done for them: they get no tasks, and the driver has to see them leave. On a
// node that lives longer than its notice that has to be certain.
func (a *application) endTold(ctx context.Context, copying *movable) {
	if a.driverless() {
		return
	}
	var ends errgroup.Group
	for _, m := range a.snapshot() {
		before := a.resume.entry(a.id, m.ID)
		if !before.At.IsZero() {
			m.mark(before.Trigger, before.At)
		}
		if !m.wasAsked() && (a.leftover || before.Trigger == "") {
			continue
		}
		ends.Go(func() error {
			<-copying.Done()
			if ctx.Err() == nil {
				m.ask()
				a.end(ctx, m)
			}
			return nil
		})
	}
	_ = ends.Wait()
}

// copyAndRelease runs everything that goes on side by side once the driver knows: the copy engine, the
// watch for new commits, the list of peers, and the end of each executor. It returns when all
// executors have gone and nothing is left to copy, or at the deadline.
func (a *application) copyAndRelease(ctx context.Context, copying *movable) {
	copyCtx, cancel := a.untilKilled(copying)
	defer cancel()
	var work, releases, late errgroup.Group
	left, learned := make(chan struct{}), make(chan struct{})
	work.Go(func() error { defer close(learned); a.learnCosts(copyCtx, left); return nil })
	work.Go(func() error { a.awaitFirstCosts(copyCtx, learned); return a.engine.Run(copyCtx) })
	work.Go(func() error { a.follow(copyCtx); return nil })
	work.Go(func() error { a.refreshPeers(copyCtx, cancel); return nil })
	work.Go(func() error { a.keepAnnouncing(copyCtx); return nil })
	clear := make(chan struct{})
	late.Go(func() error { a.adoptLate(ctx, copyCtx, clear); return nil })
	for _, m := range a.snapshot() {
		releases.Go(func() error { a.release(ctx, copyCtx, m); return nil })
	}
	_ = releases.Wait()
	close(left)
	a.guard(copyCtx)
	close(clear)
	_ = late.Wait()
	a.settleRest(copyCtx)
	a.awaitCosts(copyCtx, learned)
	cancel()
	_ = work.Wait()
	a.announceMoved(ctx)
	a.settleCatalog(ctx)
}

// settleRest copies what the executors committed while they ended, and what folders without an
// executor hold.
func (a *application) settleRest(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	a.scan(ctx)
	err := a.settled(ctx)
	if err == nil {
		err = a.holdersAnswer(ctx)
	}
	if err != nil {
		a.log.Info("not everything was safe before the deadline", zap.Error(err))
	}
}

// settled waits until nothing is left to copy. Without any destination it waits for one to come back.
func (a *application) settled(ctx context.Context) error {
	for {
		err := a.engine.Settled(ctx)
		if !errors.Is(err, migrate.ErrNoDestination) && !errors.Is(err, migrate.ErrTooLate) || a.replacement() != nil {
			return err
		}
		if pause(ctx, retryPause/2) != nil {
			return err
		}
	}
}

// guard stays until no executor of this application can turn up here any more.
func (a *application) guard(ctx context.Context) {
	if len(a.snapshot()) == 0 {
		return
	}
	select {
	case <-a.gate.watched.c:
	case <-ctx.Done():
	}
}

func (a *application) note(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes = append(a.notes, text)
}

func (a *application) snapshot() []*member {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*member(nil), a.members...)
}

func (a *application) restServer() *driver.REST {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rest
}

// close lets go of every descriptor and connection.
func (a *application) close() {
	recast := a.isRecast()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.letGo(recast)
	for _, p := range a.peers {
		p.Close()
	}
	if s := a.storage.Load(); s != nil {
		s.close()
	}
	for _, m := range a.members {
		m.process.Close()
	}
	if a.driver != nil {
		a.driver.Close()
	}
	if a.rest != nil {
		a.rest.Close()
	}
}

// pause waits unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
