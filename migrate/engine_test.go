package migrate_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

func TestSavesAll(t *testing.T) {
	run(t, time.Minute, migrate.Options{InFlight: 4}, func(l *lab) {
		fast, slow := memory("1", migratetest.Takes(10*ms, 0)), memory("2", migratetest.Takes(100*ms, 0))
		l.Add(outputs(1000, 10)...)
		l.Add(outputs(1000, 10)...) // known already
		l.SetDestinations(destinations(fast, slow))
		l.settled(nil)
		l.wantCounts(1000, 0)
		nf, ns := len(fast.Calls()), len(slow.Calls())
		if nf+ns != 1000 || nf < 8*ns || ns == 0 {
			t.Errorf("%d to the fast destination, %d to the slow one", nf, ns)
		}
		if _, most := fast.Busy(); most != 4 {
			t.Errorf("%d in flight, want 4", most)
		}
		if e := l.elapsed(); e > 2600*ms {
			t.Errorf("took %v", e)
		}
	})
}

func TestOrder(t *testing.T) {
	m := memory("1", migratetest.Takes(sec, 0))
	run(t, time.Minute, migrate.Options{InFlight: 1}, func(l *lab) {
		l.SetDestinations(destinations(m))
		var all []*migrate.Output
		for i, size := range []int64{600, 500, 400, 300, 200, 100} {
			all = append(all, migratetest.HollowOutput(int64(i), size))
		}
		l.Add(all...)
		time.Sleep(1500 * ms)                                                     // 5 is done, 4 is in flight
		l.SetCosts(map[int64]time.Duration{0: time.Hour, 1: sec, 2: sec, 3: sec}) // late
		time.Sleep(sec)                                                           // 0 is in flight
		l.Add(migratetest.HollowOutput(6, 1))
		l.settled(nil)
		got := l.Results()
		if got[0].Cost != time.Hour || got[4].Cost != 0 {
			t.Errorf("costs %v and %v", got[0].Cost, got[4].Cost)
		}
	})
	wantSent(t, m, 5, 4, 0, 6, 3, 2, 1)
}

// TestSlots: a destination can have a number of slots of its own; and what is neither saved nor lost is pending.
func TestSlots(t *testing.T) {
	url := migrate.Target{URL: "s3a://bucket"}
	store, peer := migratetest.NewMemory(url, migratetest.Takes(sec, 0)), memory("1", migratetest.Takes(sec, 0))
	slots := func(t migrate.Target) int {
		if t == url {
			return 2
		}
		return 0
	}
	run(t, time.Minute, migrate.Options{InFlight: 4, Slots: slots}, func(l *lab) {
		l.SetDestinations(destinations(store, peer))
		l.Add(outputs(20, 10)...)
		time.Sleep(1500 * ms)
		if n := len(l.Pending()); n != 14 {
			t.Errorf("%d outputs are pending, want 14", n)
		}
		l.settled(nil)
		if n := len(l.Pending()); n != 0 {
			t.Errorf("%d outputs are pending after all", n)
		}
	})
	for m, want := range map[*migratetest.Memory]int{store: 2, peer: 4} {
		if _, most := m.Busy(); most != want {
			t.Errorf("%d in flight to %v, want %d", most, m.Target(), want)
		}
	}
}

// TestSpreads: a queue shorter than the slots is spread over all destinations.
func TestSpreads(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		var ms []*migratetest.Memory
		for _, id := range []string{"1", "2", "3", "4"} {
			ms = append(ms, memory(id, migratetest.Takes(sec, 0)))
		}
		l.SetDestinations(destinations(ms...))
		l.Add(outputs(8, 10)...)
		l.settled(nil)
		for _, m := range ms {
			if n := len(m.Calls()); n != 2 {
				t.Errorf("%v got %d", m.Target(), n)
			}
		}
	})
}

func TestPrefer(t *testing.T) {
	o := migrate.Options{Prefer: func(out *migrate.Output, to migrate.Target) int {
		switch to.Executor {
		case "near":
			return 0
		case "far":
			return 1
		}
		return -1
	}}
	run(t, time.Minute, o, func(l *lab) {
		near, far, not := memory("near", migratetest.Takes(sec, 0)), memory("far"), memory("not")
		l.SetDestinations(destinations(far, near, not))
		l.Add(outputs(30, 10)...)
		l.settled(nil)
		if n := len(far.Calls()) + len(not.Calls()); n != 0 {
			t.Errorf("%d were not sent to the preferred destination", n)
		}
		near.Behave(migratetest.Fails())
		l.Add(migratetest.HollowOutput(100, 1), migratetest.HollowOutput(101, 1), migratetest.HollowOutput(102, 1))
		l.settled(nil)
		if n := len(far.Calls()); n != 3 {
			t.Errorf("%d were sent to the second choice, want 3", n)
		}
		l.Fail(near.Target())
		l.settled(nil)
		l.Fail(far.Target())
		l.settled(migrate.ErrNoDestination)
		wantSent(t, not)
	})
}

func TestCorrupt(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		m := memory("1", migratetest.Only(func(o *migrate.Output) bool { return o.ID.Map == 3 }, migratetest.Spoils()))
		l.SetDestinations(destinations(m))
		l.Add(outputs(10, 10)...)
		l.settled(nil)
		l.wantCounts(9, 1)
		r := l.Results()[3]
		if r.Reason != migrate.ReasonCorrupt || !errors.Is(r.Err, migratetest.ErrUnreadable) || r.Tries != 1 {
			t.Errorf("%+v", r)
		}
	})
}

func TestAdopt(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		a, b := memory("1"), memory("2")
		outs := outputs(4, 10)
		at := func(m *migratetest.Memory) migrate.Location { return migrate.Location{Target: m.Target()} }
		l.Adopt(migrate.Located{Output: outs[0], At: at(a)}) // before anything is listed
		l.Add(outs...)
		l.Adopt(migrate.Located{Output: outs[1], At: at(b)}, migrate.Located{Output: outs[2], At: at(memory("3"))})
		l.SetDestinations(destinations(a, b))
		l.Adopt(migrate.Located{Output: outs[3], At: at(b)}) // after
		l.settled(nil)
		l.wantCounts(4, 0)
		if n := len(a.Calls()) + len(b.Calls()); n != 1 {
			t.Errorf("%d were sent, want only the one whose destination is not listed", n)
		}
		if r := l.Results()[0]; r.Location != at(a) || !r.SavedAt.IsZero() || r.Tries != 0 {
			t.Errorf("%+v", r)
		}
		l.rec.state[outs[0].ID] = migrate.Saved // as it was told in the earlier run
		l.SetDestinations(destinations(b))
		l.settled(nil)
		if !b.Has(outs[0].ID) {
			t.Error("not copied although its destination went away")
		}
	})
}

func TestAnnounce(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		a, b := memory("1"), memory("2")
		l.SetDestinations(destinations(a, b))
		l.Add(outputs(300, 10)...)
		l.settled(nil)
		even := func(r migrate.Result) bool { return r.Output.ID.Map%2 == 0 }
		if err := l.Announce(l.t.Context(), even); err != nil {
			t.Error(err)
		}
		n := 0
		for _, m := range []*migratetest.Memory{a, b} {
			for id, times := range m.Announced() {
				n++
				if times != 1 || id.Map%2 != 0 || !m.Has(id) {
					t.Errorf("%v announced %d times at %v", id, times, m.Target())
				}
			}
		}
		if n != 150 {
			t.Errorf("%d announced, want 150", n)
		}
		over, cancel := context.WithCancel(l.t.Context())
		cancel()
		if err := l.Announce(over, nil); err == nil {
			t.Error("announced although the context was over")
		}
	})
}

// goneAnnouncer has gone when it is asked to announce.
type goneAnnouncer struct{ *migratetest.Memory }

func (goneAnnouncer) Announce(context.Context, []migrate.Located) error {
	return &migrate.Error{Op: "announce", Kind: migrate.Gone, Err: migratetest.ErrGone}
}

func TestAnnounceGone(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		a, b := goneAnnouncer{memory("1")}, memory("2")
		l.SetDestinations([]migrate.Destination{a})
		l.Add(outputs(3, 10)...)
		l.settled(nil)
		l.SetDestinations([]migrate.Destination{a, b})
		if err := l.Announce(l.t.Context(), nil); migrate.KindOf(err) != migrate.Gone {
			t.Errorf("error %v", err)
		}
		l.settled(nil)
		if n := len(b.Calls()); n != 3 {
			t.Errorf("%d copied again, want 3", n)
		}
	})
}

func TestProgress(t *testing.T) {
	run(t, time.Minute, migrate.Options{InFlight: 2}, func(l *lab) {
		l.Add(outputs(20, 1000)...)
		if p := l.Progress(); p.Left >= 0 || p.Queued != (migrate.Count{Outputs: 20, Bytes: 20_000}) {
			t.Errorf("before: %+v", p)
		}
		l.SetDestinations(destinations(memory("1", migratetest.Takes(sec, 0))))
		time.Sleep(5*sec + 500*ms)
		p := l.Progress()
		if p.Saved.Outputs != 10 || p.InFlight.Outputs != 2 || p.Queued.Outputs != 8 || p.Found.Bytes != 20_000 {
			t.Errorf("in the middle: %+v", p)
		}
		if p.Left < 3*sec || p.Left > 7*sec || p.BytesPerSecond < 1500 || p.BytesPerSecond > 2500 {
			t.Errorf("estimates %v at %v bytes/s", p.Left, p.BytesPerSecond)
		}
		l.settled(nil)
		if p := l.Progress(); p.Left != 0 {
			t.Errorf("%v left at the end", p.Left)
		}
	})
}

func TestSettled(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		l.settled(nil)
		l.Add(outputs(3, 10)...)
		l.settled(migrate.ErrNoDestination)
		short, cancel := context.WithTimeout(l.t.Context(), ms)
		defer cancel()
		m := memory("1", migratetest.Takes(sec, 0))
		l.SetDestinations(destinations(m))
		if err := l.Settled(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settled: %v", err)
		}
		l.settled(nil)
		if l.rec.saved != 3 {
			t.Errorf("the observer has heard of %d", l.rec.saved)
		}
	})
}

func TestOnce(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		l.Add(outputs(2, 10)...)
		synctest.Wait()
		if err := l.Run(l.t.Context()); !errors.Is(err, migrate.ErrRanAlready) {
			t.Errorf("second run: %v", err)
		}
		m := memory("1")
		l.SetDestinations(destinations(m))
		l.settled(nil)
		l.stop()
		// What becomes known afterwards is in the results, but nothing is done about it.
		l.Add(migratetest.HollowOutput(7, 1))
		l.Fail(m.Target())
		l.settled(nil)
		l.wantCounts(0, 3)
	})
}

// TestDeadContext: the way to give up everything that was found.
func TestDeadContext(t *testing.T) {
	rec := newRecorder(t)
	e := migrate.NewEngine(migrate.Options{Observer: rec})
	m := memory("1")
	e.Add(outputs(3, 10)...)
	e.Adopt(migrate.Located{Output: migratetest.HollowOutput(9, 9), At: migrate.Location{Target: m.Target()}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if rec.reasons[migrate.ReasonNoDestination] != 4 {
		t.Errorf("lost by %v", rec.reasons)
	}
}
