package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

const (
	// lookEvery is how often the agents that look out closely look at the driver's list of executors, lookSeldom how often
	// the others do, in case those all went at once.
	lookEvery  = 2 * time.Second
	lookSeldom = 2 * time.Minute
	// lookPerEntry stretches both for large applications: each entry of the list is some 2 KB of JSON that the driver
	// has to write. All close looks together take no more than one entry in this time, and all others neither.
	lookPerEntry = 5 * time.Millisecond
	// lookouts is on how many executors of an application agents look out closely at least; lookoutShare of them is one more.
	lookouts     = 3
	lookoutShare = 200
	// lookAgain is how soon the catalog is read again although the executors are the same: copies may have come, and
	// a claim may have expired.
	lookAgain = claimTime + 10*time.Second
	// lookTrouble and lookTroubleMax are the pauses after a driver or a storage did not answer.
	lookTrouble, lookTroubleMax = 5 * time.Second, 10 * time.Minute
	// failedMax is the longest pause before what could not be salvaged is tried again.
	failedMax = time.Hour
	// salvageLook bounds one look at the driver.
	salvageLook = 10 * time.Second
	// salvageMost is how many outputs one salvage adopts at most: the next one goes on.
	salvageMost = 20_000
)

// lookout watches, for the applications with an executor on this node, for executors that die without a rescue, and makes
// their copies count. One of an application's lookouts does it for one dead node: the one that gets the claim.
type lookout struct {
	*Agent

	watches sync.WaitGroup

	mu      sync.Mutex
	life    map[string]context.CancelFunc
	paused  bool
	current context.CancelFunc // ends the salvage that runs
}

func newLookout(a *Agent) *lookout { return &lookout{Agent: a, life: map[string]context.CancelFunc{}} }

// saw takes in what runs on this node now.
func (l *lookout) saw(ctx context.Context, list []executor.Executor) {
	if !l.cfg.Objects.Salvage || !l.cfg.Uses(config.DestinationObjects) {
		return
	}
	here := map[string]executor.Executor{}
	for _, e := range list {
		here[e.App] = e
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for app, e := range here {
		if l.life[app] == nil {
			watching, cancel := context.WithCancel(ctx)
			l.life[app] = cancel
			l.watches.Go(func() { l.watch(watching, e) })
		}
	}
	for app, cancel := range l.life {
		if _, ok := here[app]; !ok {
			cancel()
			delete(l.life, app)
		}
	}
}

// close waits for what saw has started, whose context has ended.
func (l *lookout) close() { l.watches.Wait() }

// rescuing stops salvages while this node is rescued itself: others have the time for it.
func (l *lookout) rescuing(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = on
	if on && l.current != nil {
		l.current()
	}
}

func (l *lookout) isPaused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused
}

// begin is false while this node is rescued itself, and while another salvage runs.
func (l *lookout) begin(cancel context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused || l.current != nil {
		return false
	}
	l.current = cancel
	return true
}

func (l *lookout) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = nil
}

// watch looks out for one application until ctx ends, or until it turns out that there is no object storage for it: the
// driver hears nothing more of it then.
func (l *lookout) watch(ctx context.Context, e executor.Executor) {
	w := l.forApp(e)
	defer w.close()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = lookTrouble, lookTroubleMax
	for {
		every, err := w.look(ctx)
		switch {
		case errors.Is(err, errNoObjects):
			w.log.Debug("no copies to look out for", zap.Error(err))
			return
		case err != nil:
			w.trouble(ctx, err)
			every = pauses.NextBackOff()
		default:
			pauses.Reset()
		}
		if pause(ctx, every) != nil {
			return
		}
	}
}

// appLookout is the lookout for one application. Only its own goroutine uses it.
type appLookout struct {
	*lookout
	executor executor.Executor
	log      *zap.Logger

	rest   *driver.REST
	copies *copies
	alive  []string // as the last look found it, sorted; nil before the first
	// confirms says that the next look comes early because the list had changed. Not each does: it may change all the time.
	confirms bool
	read     []string  // who lived when the catalog was last read
	readAt   time.Time // zero: it is to be read at once
	last     string    // the last trouble
	noted    time.Time // when the catalog was last told that the application lives
	note     string    // its key
	failed   map[catalog.Place]failed
	sights   map[catalog.Place]*sighting
}

// failed is a place whose salvage left something that it could not make count.
type failed struct {
	times int
	next  time.Time
}

func (l *lookout) forApp(e executor.Executor) *appLookout {
	return &appLookout{
		lookout: l, executor: e, log: l.log.With(zap.String("app", e.App)),
		failed: map[catalog.Place]failed{}, sights: map[catalog.Place]*sighting{},
	}
}

func (w *appLookout) close() {
	if w.rest != nil {
		w.rest.Close()
	}
	if w.copies != nil {
		w.copies.close()
	}
	w.rest, w.copies = nil, nil
}

// look looks once and says when to look again.
func (w *appLookout) look(ctx context.Context) (time.Duration, error) {
	if w.isPaused() {
		return lookEvery, nil
	}
	if err := w.openStorage(ctx); err != nil {
		return 0, err
	}
	alive, err := w.living(ctx)
	if err != nil {
		return 0, err
	}
	before := w.alive
	w.alive = alive
	close, every := w.turn(alive)
	switch {
	case !close:
		return every, nil
	case before == nil:
		return lookEvery, nil
	case w.confirms || slices.Equal(before, alive):
		w.confirms = false
	default: // who is not listed now has to be missing once more
		w.confirms = true
		every = lookEvery + time.Duration(len(alive))*lookPerEntry
	}
	// Whoever is in one of two lists lives: a driver's list is late when it has much to do.
	listed := either(before, alive)
	if slices.Equal(listed, w.read) && time.Since(w.readAt) < lookAgain {
		return every, nil
	}
	all, err := w.salvage(ctx, listed)
	if err != nil {
		return 0, err
	}
	w.read, w.readAt, w.last = listed, time.Now(), ""
	if !all {
		w.readAt = time.Time{}
	}
	return every, nil
}

// either is who is in one of two sorted lists, sorted.
func either(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func (w *appLookout) trouble(ctx context.Context, err error) {
	if text := err.Error(); ctx.Err() == nil && text != w.last {
		w.last = text
		w.log.Info("copies of dead executors can't be looked for", zap.Error(err))
	}
	w.close()
}

// openStorage finds out where copies of the application lie, once.
func (w *appLookout) openStorage(ctx context.Context) error {
	if w.copies != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, salvageLook)
	defer cancel()
	c, err := w.openCopies(ctx, w.executor, nil)
	if err != nil {
		return err
	}
	w.copies = c
	return nil
}

// errListIncomplete says that a driver's list of executors proves nothing: one that is known to live is not in it.
var errListIncomplete = errors.New("the driver does not list this node's executors")

// living lists the executors that the driver takes for alive, sorted.
func (w *appLookout) living(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, salvageLook)
	defer cancel()
	if w.rest == nil {
		rest, err := w.restOf(ctx, w.executor.App, w.executor.DriverURL)
		if err != nil {
			return nil, err
		}
		w.rest = rest
	}
	return aliveIDs(ctx, w.rest, w.here())
}

// restOf finds the REST server of an application's driver.
func (a *Agent) restOf(ctx context.Context, app, driverURL string) (*driver.REST, error) {
	host, _, err := driver.Address(driverURL)
	if err != nil {
		return nil, err
	}
	return driver.FindREST(ctx, a.dialer, host, app, a.cfg.Spark.RESTPorts)
}

// aliveIDs are the ids of the executors that a driver takes for alive, sorted. A list without any of those that are known to run,
// if there are such, is no answer: it is empty for a moment when the driver is new, or the driver has lost sight of a whole node.
func aliveIDs(ctx context.Context, rest *driver.REST, running []string) ([]string, error) {
	list, err := rest.Executors(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	slices.Sort(ids)
	if len(running) > 0 && !slices.ContainsFunc(running, func(id string) bool { return has(ids, id) }) {
		return nil, errListIncomplete
	}
	return ids, nil
}

func has(sorted []string, id string) bool {
	_, found := slices.BinarySearch(sorted, id)
	return found
}

// here are the executors of the application on this node.
func (w *appLookout) here() []string {
	w.Agent.mu.Lock()
	defer w.Agent.mu.Unlock()
	var ids []string
	for _, e := range w.seen {
		if e.App == w.executor.App {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// turn says whether an executor of this node is among those that look closely, and how often to look. All agents choose
// the same.
func (w *appLookout) turn(alive []string) (close bool, every time.Duration) {
	ranks := make([]uint64, len(alive))
	for i, id := range alive {
		ranks[i] = w.rank(id)
	}
	n := lookouts + len(alive)/lookoutShare
	list := time.Duration(len(alive)) * lookPerEntry
	for _, id := range w.here() {
		mine, before := w.rank(id), 0
		for _, r := range ranks {
			if r < mine {
				before++
			}
		}
		if before < n && has(alive, id) {
			return true, lookEvery + list*time.Duration(n)
		}
	}
	return false, lookSeldom + list*time.Duration(len(alive))
}

// rank puts an application's executors into an order that is the same for all agents, and another for each application.
func (w *appLookout) rank(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(w.executor.App + "\x00" + id))
	return h.Sum64()
}

// salvage reads the catalog and adopts what dead executors have left there. all is false when something is left to do soon.
func (w *appLookout) salvage(ctx context.Context, alive []string) (all bool, err error) {
	places, err := w.survey(ctx)
	if err != nil {
		return false, err
	}
	if len(places) > 0 {
		w.noteLife(ctx)
	}
	all = true
	dead := func(id string) bool { return !has(alive, id) }
	for _, p := range places {
		now := w.sights[p].situation(alive)
		if now == "" || now == w.sights[p].nothing {
			continue
		}
		done, nothing, err := w.salvagePlace(ctx, p, dead)
		if err != nil {
			return false, err
		}
		if nothing {
			w.sights[p].nothing = now
		}
		all = all && done
	}
	return all, nil
}

// noteLife tells those who clean up, and can't reach the driver, that the application lives.
func (w *appLookout) noteLife(ctx context.Context) {
	if time.Since(w.noted) < w.cfg.Objects.Keep/4 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, salvageLook)
	defer cancel()
	note, err := w.copies.catalog.Seen(ctx, catalog.Place{App: w.executor.App, Node: w.cfg.Node.Name}, w.note)
	if err != nil {
		w.log.Info("the catalog was not told that the application lives", zap.Error(err))
	}
	w.note, w.noted = note, time.Now()
}

// salvagePlace adopts what one node has left. Whoever gets the claim does it, and nobody waits for it. nothing says that there is
// nothing to salvage.
func (w *appLookout) salvagePlace(ctx context.Context, p catalog.Place, dead deadly) (done, nothing bool, err error) {
	if time.Now().Before(w.failed[p].next) {
		return true, false, nil
	}
	c := w.copies.catalog
	s := newSalvage(w.copies.app)
	ctx, cancel := context.WithTimeout(ctx, salvageTime)
	defer cancel()
	if err := s.add(ctx, c, p, dead); err != nil || len(s.outputs) == 0 {
		return err == nil, err == nil, err
	}
	if !w.begin(cancel) {
		return false, false, nil
	}
	defer w.end()
	ours, err := c.Claim(ctx, p, w.salvageClaim(), claimTime)
	if err != nil || !ours {
		return err == nil, false, err // others do it, or look again when their claim has expired
	}
	defer giveUpClaim(ctx, c, p, w.salvageClaim())
	defer holdOn(ctx, c, p, w.salvageClaim(), w.log)()
	deadline, _ := ctx.Deadline()
	rep, err := w.adopt(ctx, c, s, SalvageRequest{App: p.App, Deadline: deadline})
	w.logAdopted(p.App, rep, err)
	w.remember(p, rep)
	return len(s.outputs) < salvageMost, false, err
}

// remember puts off a place where something was lost, each time for longer: it may be for good.
func (w *appLookout) remember(p catalog.Place, rep *report.Report) {
	if rep == nil || rep.Interrupted {
		return
	}
	if _, _, lost := rep.Total(); lost.Outputs == 0 {
		delete(w.failed, p)
		return
	}
	f := w.failed[p]
	w.failed[p] = failed{times: f.times + 1, next: time.Now().Add(min(lookAgain<<min(f.times, 10), failedMax))}
}
