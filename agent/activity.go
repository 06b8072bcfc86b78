package agent

import (
	"context"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/driver"
)

// The driver's REST view of an executor lags behind by up to one live update period
// (spark.ui.liveUpdate.period, 100 ms by default): a reading proves that no task runs only when it
// began some periods after the driver had stopped handing out tasks, and when the next one agrees.
const (
	readingInterval = 150 * time.Millisecond
	readingSettle   = 250 * time.Millisecond
	readingTimeout  = 3 * time.Second
	readingPause    = time.Second // at most: a driver's first answers take it long, and say nothing about the next
)

// reading is one look at the driver's list of executors.
type reading struct {
	began     time.Time
	executors map[string]driver.ExecutorInfo
}

// activity looks at the driver's list of executors for all executors of an application, one request
// at a time and only while somebody wants to know. It spends little of the time in the driver, which has to
// hear of every copy meanwhile.
type activity struct {
	rest func() *driver.REST // nil while no REST server is known

	mu     sync.Mutex
	last   reading
	next   chan struct{} // closed when a new reading is there
	wanted int           // calls that wait for readings
	demand chan struct{} // for run: there is such a call
}

func newActivity(rest func() *driver.REST) *activity {
	return &activity{rest: rest, next: make(chan struct{}), demand: make(chan struct{}, 1)}
}

// run reads as long as readings are wanted, until ctx ends.
func (a *activity) run(ctx context.Context) {
	for ctx.Err() == nil {
		if !a.isWanted() {
			select {
			case <-ctx.Done():
			case <-a.demand:
			}
			continue
		}
		began := time.Now()
		a.read(ctx)
		_ = pause(ctx, min(max(readingInterval, 9*time.Since(began)), readingPause))
	}
}

// want asks for readings until the returned function is called.
func (a *activity) want() (enough func()) {
	a.mu.Lock()
	a.wanted++
	a.mu.Unlock()
	select {
	case a.demand <- struct{}{}:
	default:
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.wanted--
	}
}

// isWanted is true too before the first reading, which tells more than what runs.
func (a *activity) isWanted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wanted > 0 || a.last.executors == nil
}

// read looks once. A driver that does not answer leaves the last reading in place.
func (a *activity) read(ctx context.Context) {
	rest := a.rest()
	if rest == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readingTimeout)
	defer cancel()
	r := reading{began: time.Now(), executors: map[string]driver.ExecutorInfo{}}
	list, err := rest.Executors(ctx)
	if err != nil {
		return
	}
	for _, e := range list {
		r.executors[e.ID] = e
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = r
	close(a.next)
	a.next = make(chan struct{})
}

// latest is the newest reading (zero when there is none yet) and a channel that closes at the next.
func (a *activity) latest() (reading, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, a.next
}

// idle waits until two readings in a row, the first begun well after since, say that the executor runs
// no task (and, when withBlocks is set, holds no cached block any more). It returns ctx's error when
// that is not seen in time, which is always so where the driver has no REST server.
func (a *activity) idle(ctx context.Context, id string, since time.Time, withBlocks bool) error {
	defer a.want()()
	agreed := 0
	for {
		r, next := a.latest()
		if r.began.After(since.Add(readingSettle)) && quiet(r, id, withBlocks) {
			if agreed++; agreed >= 2 {
				return nil
			}
		} else {
			agreed = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
	}
}

// lost waits until a reading that began well after since no longer lists the executor; false when that is not
// seen in time.
func (a *activity) lost(ctx context.Context, id string, since time.Time) bool {
	defer a.want()()
	for {
		r, next := a.latest()
		if _, listed := r.executors[id]; !listed && r.began.After(since.Add(readingSettle)) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-next:
		}
	}
}

// quiet is also true for an executor that the driver no longer lists: it has lost it.
func quiet(r reading, id string, withBlocks bool) bool {
	e, listed := r.executors[id]
	return !listed || e.ActiveTasks == 0 && (!withBlocks || e.RDDBlocks == 0)
}
