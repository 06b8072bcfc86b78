package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// objectLayout is Spark's own, which executors read from.
func objectLayout(id migrate.OutputID) (data, index string) {
	return object.DataKey(id), object.IndexKey(id)
}

// openCopies finds where copies of an executor's application go: its driver says.
func (a *Agent) openCopies(ctx context.Context, e executor.Executor, limit object.Limiter) (*copies, error) {
	props, err := a.properties(ctx, e)
	if err != nil {
		return nil, err
	}
	s, err := openObjects(ctx, a.cfg, props, a.log.With(zap.String("app", e.App)))
	if err != nil {
		return nil, err
	}
	a.storages.saw(s.objectPlace, e.App, e.DriverURL)
	return &copies{
		dest: s.destination(e.App, nil, nil, limit), catalog: catalog.New(s.bucket), layout: objectLayout,
		app:   catalog.Application{ID: e.App, Driver: e.DriverURL, Spark: e.Spark, Scala: e.Scala},
		costs: func(ctx context.Context) map[int64]time.Duration { return a.taskCosts(ctx, e) },
		close: s.close,
	}, nil
}

// storages are the object storages that applications on this node use, and the drivers that were spoken to from here.
type storages struct {
	now func() time.Time

	mu      sync.Mutex
	byURL   map[string]objectPlace
	drivers map[string]spoken // by application and driver
}

// spoken is a driver that was spoken to from here.
type spoken struct {
	last    time.Time
	refused time.Time // when it was first found to be gone since; zero: never
}

const (
	// maxStorages and maxDrivers bound what is remembered; the oldest are forgotten first, and then only the time to live counts.
	maxStorages, maxDrivers = 100, 1000
	// refusedFor is for how long a driver has to be gone before its copies are removed.
	refusedFor = 10 * time.Minute
)

func newStorages() *storages {
	return &storages{now: time.Now, byURL: map[string]objectPlace{}, drivers: map[string]spoken{}}
}

func (s *storages) saw(p objectPlace, app, driverURL string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.byURL[p.url]; known || len(s.byURL) < maxStorages {
		s.byURL[p.url] = p
	}
	key := app + " " + driverURL
	if _, known := s.drivers[key]; !known && len(s.drivers) >= maxDrivers {
		delete(s.drivers, s.oldest())
	}
	s.drivers[key] = spoken{last: s.now()}
}

func (s *storages) oldest() string {
	oldest, at := "", time.Time{}
	for key, d := range s.drivers {
		if oldest == "" || d.last.Before(at) {
			oldest, at = key, d.last
		}
	}
	return oldest
}

func (s *storages) places() []objectPlace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.byURL))
}

// gone is asked about a driver that refuses: it has ended if this agent has spoken with it, and has found it so for a while. One
// refusal may come from a network that changes.
func (s *storages) gone(app catalog.Application) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := app.ID + " " + app.Driver
	d, known := s.drivers[key]
	if !known {
		return false
	}
	if d.refused.IsZero() {
		d.refused = s.now()
		s.drivers[key] = d
	}
	return s.now().Sub(d.refused) >= refusedFor
}

// answered forgets that a driver had refused.
func (s *storages) answered(app catalog.Application) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := app.ID + " " + app.Driver
	if d, known := s.drivers[key]; known {
		d.refused = time.Time{}
		s.drivers[key] = d
	}
}

// properties asks an executor's driver for the settings of its application.
func (a *Agent) properties(ctx context.Context, e executor.Executor) (map[string]string, error) {
	d, _, ok := java.ForVersion(e.Spark, e.Scala)
	if !ok {
		return nil, fmt.Errorf("spark version %q (Scala %q) is not supported", e.Spark, e.Scala)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*rpcTimeout)
	defer cancel()
	c, err := driver.Dial(ctx, a.dialer, e.DriverURL, d, wire.Options{Stall: rpcTimeout})
	if err != nil {
		return nil, gone(err)
	}
	defer c.Close()
	props, err := c.Properties(ctx, e.ResourceProfile)
	if err != nil {
		return nil, gone(err)
	}
	if id := props["spark.app.id"]; id != "" && id != e.App {
		return nil, fmt.Errorf("%w (the driver of %s has its address)", errDriverGone, id)
	}
	return props, nil
}

// costsLimit bounds what every node's mirror asks for: some 2 KB for each task, the longest of the newest stages.
func costsLimit() driver.TaskLimit {
	return driver.TaskLimit{Stages: 2, Tasks: 500, Time: 3 * time.Second}
}

const costsTime = 10 * time.Second

// taskCosts asks a driver what its outputs would cost to make again; nil when it does not say.
func (a *Agent) taskCosts(ctx context.Context, e executor.Executor) map[int64]time.Duration {
	ctx, cancel := context.WithTimeout(ctx, costsTime)
	defer cancel()
	rest, err := a.restOf(ctx, e.App, e.DriverURL)
	if err != nil {
		return nil
	}
	defer rest.Close()
	tasks, err := rest.TaskCosts(ctx, costsLimit())
	if err != nil {
		a.log.Debug("task list not available", zap.Error(err))
	}
	costs := make(map[int64]time.Duration, len(tasks))
	for id, t := range tasks {
		costs[id] = t.Duration
	}
	return costs
}

// newBandwidth is what all copies ahead of this node share, in MiB per second.
func newBandwidth(mib int) *rate.Limiter {
	const burst = 1 << 20
	return rate.NewLimiter(rate.Limit(mib<<20), burst)
}
