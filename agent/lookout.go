package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

const (
	// lookouts is on how many executors of an application agents look out for it closely. The others look now and
	// then, in case these all went at once.
	lookouts = 3
	// lookEvery is how often those look at the driver's list of executors, lookSeldom how often the others do.
	lookEvery  = 2 * time.Second
	lookSeldom = 2 * time.Minute
	// lookPerExecutor stretches both for large applications, whose list is long.
	lookPerExecutor = 10 * time.Millisecond
	// lookAgain is how soon the catalog is read again although the executors are the same: copies may have come, and
	// a claim may have expired.
	lookAgain = claimTime + 10*time.Second
	// salvageLook bounds one look.
	salvageLook = 10 * time.Second
)

// lookout watches, for the applications with an executor on this node, for executors that die without a rescue, and makes
// their copies count. One of an application's lookouts does it for one dead node: the one that gets the claim.
type lookout struct {
	*Agent

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
			go l.watch(watching, e)
		}
	}
	for app, cancel := range l.life {
		if _, ok := here[app]; !ok {
			cancel()
			delete(l.life, app)
		}
	}
}

// rescuing stops salvages while this node is rescued itself: others have the time for it.
func (l *lookout) rescuing(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = on
	if on && l.current != nil {
		l.current()
	}
}

// watch looks out for one application until ctx ends.
func (l *lookout) watch(ctx context.Context, e executor.Executor) {
	w := &appLookout{lookout: l, executor: e, log: l.log.With(zap.String("app", e.App))}
	defer w.close()
	for {
		every := w.look(ctx)
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
	alive  []string // as last seen, sorted
	read   time.Time
	last   string // the last trouble
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
func (w *appLookout) look(ctx context.Context) time.Duration {
	within, cancel := context.WithTimeout(ctx, salvageLook)
	defer cancel()
	alive, err := w.living(within)
	if err != nil {
		w.trouble(ctx, err)
		return lookSeldom / 4
	}
	every := time.Duration(len(alive)) * lookPerExecutor
	if !w.chosen(alive) {
		return every + lookSeldom
	}
	if slices.Equal(alive, w.alive) && time.Since(w.read) < lookAgain {
		return every + lookEvery
	}
	if err := w.salvage(ctx, alive); err != nil {
		w.trouble(ctx, err)
		return lookSeldom / 4
	}
	w.alive, w.read, w.last = alive, time.Now(), ""
	return every + lookEvery
}

func (w *appLookout) trouble(ctx context.Context, err error) {
	if text := err.Error(); ctx.Err() == nil && text != w.last {
		w.last = text
		w.log.Info("copies of dead executors can't be looked for", zap.Error(err))
	}
	w.close()
}

// living lists the executors that the driver takes for alive.
func (w *appLookout) living(ctx context.Context) ([]string, error) {
	if w.rest == nil {
		host, _, err := driver.Address(w.executor.DriverURL)
		if err != nil {
			return nil, err
		}
		if w.rest, err = driver.FindREST(ctx, w.dialer, host, w.executor.App, w.cfg.Spark.RESTPorts); err != nil {
			w.rest = nil
			return nil, err
		}
	}
	list, err := w.rest.Executors(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	slices.Sort(ids)
	return ids, nil
}

// chosen says whether an executor of this node is among those that look closely: all agents choose the same.
func (w *appLookout) chosen(alive []string) bool {
	rank := func(id string) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(w.executor.App + "\x00" + id))
		return h.Sum64()
	}
	byRank := slices.SortedFunc(slices.Values(alive), func(x, y string) int {
		if rank(x) < rank(y) {
			return -1
		}
		return 1
	})
	closest := byRank[:min(lookouts, len(byRank))]
	w.Agent.mu.Lock()
	defer w.Agent.mu.Unlock()
	return slices.ContainsFunc(w.seen, func(e executor.Executor) bool {
		return e.App == w.executor.App && slices.Contains(closest, e.ID)
	})
}

// salvage reads the catalog and adopts what dead executors have left there.
func (w *appLookout) salvage(ctx context.Context, alive []string) error {
	if w.copies == nil {
		within, cancel := context.WithTimeout(ctx, salvageLook)
		defer cancel()
		c, err := w.openCopies(within, w.executor, nil)
		if errors.Is(err, errNoObjects) {
			return nil
		}
		if err != nil {
			return err
		}
		w.copies = c
	}
	dead := func(id string) bool { _, found := slices.BinarySearch(alive, id); return !found }
	places, err := w.copies.catalog.Places(ctx, w.executor.App)
	if err != nil {
		return err
	}
	for _, p := range places {
		if err := w.salvagePlace(ctx, p, dead); err != nil {
			return err
		}
	}
	return nil
}

// salvagePlace adopts what one node has left. Whoever gets the claim does it, and nobody waits for it.
func (w *appLookout) salvagePlace(ctx context.Context, p catalog.Place, dead deadly) error {
	c := w.copies.catalog
	s := newSalvage(w.copies.app)
	ctx, cancel := context.WithTimeout(ctx, salvageTime)
	defer cancel()
	if err := s.add(ctx, c, p, dead); err != nil || len(s.outputs) == 0 {
		return err
	}
	ours, err := c.Claim(ctx, p, w.cfg.Node.Name, claimTime)
	if err != nil || !ours {
		return err
	}
	if !w.begin(cancel) {
		return nil
	}
	defer w.end()
	renew := time.AfterFunc(claimTime/2, func() { _, _ = c.Claim(ctx, p, w.cfg.Node.Name, claimTime) })
	defer renew.Stop()
	deadline, _ := ctx.Deadline()
	rep, err := w.adopt(ctx, c, s, SalvageRequest{App: p.App, Deadline: deadline})
	w.logAdopted(p.App, rep, err)
	return err
}

// begin is false while this node is rescued itself.
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
