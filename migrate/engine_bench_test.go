package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// instant is a destination that costs nothing, so that only the engine is measured.
type instant struct{ target migrate.Target }

func (d instant) Target() migrate.Target { return d.target }

func (d instant) Put(context.Context, *migrate.Output) (migrate.Location, error) {
	return migrate.Location{Target: d.target, Announced: true}, nil
}

// BenchmarkEngine copies 100,000 outputs to 50 destinations, with costs that come late. heap-B/output is what the
// engine holds on to for each.
func BenchmarkEngine(b *testing.B) {
	const n, places = 100_000, 50
	outs := make([]*migrate.Output, n)
	costs := map[int64]time.Duration{}
	for i := range outs {
		outs[i] = migratetest.HollowOutput(int64(i), int64(1+i*7919%n))
		costs[int64(i)] = time.Duration(i*104729%n) * time.Millisecond
	}
	var ds []migrate.Destination
	for i := range places {
		ds = append(ds, instant{migratetest.Executor(fmt.Sprint(i))})
	}
	for b.Loop() {
		before := heap()
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		e := migrate.NewEngine(migrate.Options{})
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		e.Add(outs...)
		start := time.Now()
		e.SetCosts(costs)
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "reorder-ms")
		b.ReportMetric(float64(heap()-before)/n, "heap-B/output")
		start = time.Now()
		e.SetDestinations(ds)
		if err := e.Settled(ctx); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(n/time.Since(start).Seconds(), "outputs/s")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
		if p := e.Progress(); p.Saved.Outputs != n {
			b.Fatalf("%+v", p)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
