package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// TestStoppedDriver: while Spark's driver is stopped no executor answers, and all destinations fail at
// once. Nothing is lost by that, whether it shows as a stall or as an error at once, and the outage is not
// filled with tries.
func TestStoppedDriver(t *testing.T) {
	faults := map[string]func(end time.Time) migratetest.Behaviour{
		"stalls": func(end time.Time) migratetest.Behaviour { return migratetest.StallsUntil(end, 3*sec) },
		"fails":  func(time.Time) migratetest.Behaviour { return migratetest.Fails() },
	}
	for name, fault := range faults {
		for _, shape := range []struct{ places, outputs int }{{1, 1}, {1, 500}, {3, 3}, {3, 2000}} {
			t.Run(fmt.Sprintf("%s/%d to %d", name, shape.outputs, shape.places), func(t *testing.T) {
				run(t, 100*sec, migrate.Options{Attempts: 2}, func(l *lab) {
					from, to := l.start.Add(200*ms), l.start.Add(8200*ms)
					var ms []*migratetest.Memory
					for i := range shape.places {
						ms = append(ms, memory(fmt.Sprint(i),
							migratetest.During(from, to, fault(to)), migratetest.Takes(20*time.Millisecond, 0)))
					}
					l.SetDestinations(destinations(ms...))
					l.Add(outputs(shape.outputs/2, 10)...)
					time.Sleep(500 * time.Millisecond)
					l.Add(outputs(shape.outputs, 10)...)
					l.settled(nil)
					l.wantCounts(shape.outputs, 0)
					if e := l.elapsed(); e > 20*sec {
						t.Errorf("took %v", e)
					}
					if n := l.rec.retried; n > 30*shape.places {
						t.Errorf("%d failed tries in one outage of %d destinations", n, shape.places)
					}
				})
			})
		}
	}
}

// TestStoppedPlace: what was on its way to a destination that has stopped waits for one stall, and then goes to the
// other one, however idle the stopped one looks.
func TestStoppedPlace(t *testing.T) {
	run(t, time.Hour, migrate.Options{InFlight: 1}, func(l *lab) {
		stopped := memory("1", migratetest.StallsUntil(l.start.Add(time.Hour), 4*sec))
		good := memory("2", migratetest.Takes(10*ms, 0))
		l.SetDestinations(destinations(stopped, good))
		l.Add(outputs(2, 10)...)
		l.settled(nil)
		if e := l.elapsed(); e > 5*sec {
			t.Errorf("took %v, a stall is 4 s", e)
		}
	})
}

// TestDoubt: what a destination had acknowledged that no longer answers is copied to another one; where there is no
// other, or that one does not take it, the acknowledgement counts.
func TestDoubt(t *testing.T) {
	half := func(l *lab, other *migratetest.Memory) *migratetest.Memory {
		silent := memory("1", migratetest.Takes(10*ms, 0))
		l.SetDestinations(destinations(silent))
		l.Add(outputs(20, 10)...)
		l.settled(nil)
		l.SetDestinations(destinations(silent, other))
		return silent
	}
	at := func(l *lab, m *migratetest.Memory) (n int) {
		for _, r := range l.Results() {
			if r.State == migrate.Saved && r.Location.Target == m.Target() {
				n++
			}
		}
		return n
	}
	t.Run("another takes them", func(t *testing.T) {
		run(t, time.Minute, migrate.Options{}, func(l *lab) {
			other := memory("2", migratetest.Takes(10*ms, 0))
			silent := half(l, other)
			if n := l.Doubt(silent.Target()); n != 20 {
				t.Errorf("%d queued again, want 20", n)
			}
			l.settled(nil)
			l.wantCounts(20, 0)
			if n := at(l, other); n != 20 {
				t.Errorf("%d lie at the other, want 20", n)
			}
		})
	})
	t.Run("another does not answer", func(t *testing.T) {
		run(t, time.Minute, migrate.Options{}, func(l *lab) {
			silent := half(l, memory("2", migratetest.Only(func(o *migrate.Output) bool { return o.ID.Map >= 5 }, migratetest.Stalls())))
			l.Doubt(silent.Target())
			time.Sleep(30 * sec)
			l.stop()
			l.wantCounts(20, 0)
			if n := at(l, silent); n != 15 {
				t.Errorf("%d lie at the first, want 15", n)
			}
		})
	})
	t.Run("there is no other", func(t *testing.T) {
		run(t, time.Minute, migrate.Options{}, func(l *lab) {
			gone := memory("2")
			silent := half(l, gone)
			l.Fail(gone.Target())
			if n := l.Doubt(silent.Target()); n != 0 {
				t.Errorf("%d queued again, want none", n)
			}
			l.wantCounts(20, 0)
		})
	})
	t.Run("it has gone after all", func(t *testing.T) {
		run(t, time.Minute, migrate.Options{}, func(l *lab) {
			silent := half(l, memory("2", migratetest.Stalls()))
			l.Doubt(silent.Target())
			l.Fail(silent.Target())
			time.Sleep(30 * sec)
			l.stop()
			l.wantCounts(0, 20)
		})
	})
}

// TestPoison: an output that fails everywhere is given up, and costs the others nothing.
func TestPoison(t *testing.T) {
	poison := migratetest.Only(func(o *migrate.Output) bool { return o.ID.Map == 0 }, migratetest.Fails())
	run(t, time.Minute, migrate.Options{InFlight: 2, Attempts: 4}, func(l *lab) {
		a, b := memory("1", poison, migratetest.Takes(50*ms, 0)), memory("2", poison, migratetest.Takes(50*ms, 0))
		l.SetDestinations(destinations(a, b))
		l.Add(outputs(400, 10)...)
		l.settled(nil)
		l.wantCounts(399, 1)
		r := l.Results()[0]
		if r.Reason != migrate.ReasonAttempts || !errors.Is(r.Err, migratetest.ErrFlaky) || r.Tries < 4 || r.Tries > 8 {
			t.Errorf("%+v", r)
		}
	})
}

// TestPoisonElsewhere: an output that fails at one destination goes to the other one, whatever Attempts is.
func TestPoisonElsewhere(t *testing.T) {
	run(t, time.Minute, migrate.Options{InFlight: 2, Attempts: 1}, func(l *lab) {
		poison := migratetest.Only(func(o *migrate.Output) bool { return o.ID.Map < 10 }, migratetest.Fails())
		bad, good := memory("1", poison, migratetest.Takes(10*ms, 0)), memory("2", migratetest.Takes(sec, 0))
		l.SetDestinations(destinations(bad, good))
		l.Add(outputs(200, 10)...)
		l.settled(nil)
		l.wantCounts(200, 0)
	})
}

// TestFlaky: the only destination fails half of the time.
func TestFlaky(t *testing.T) {
	run(t, 2*time.Minute, migrate.Options{Attempts: 20}, func(l *lab) {
		m := memory("1", migratetest.Takes(10*ms, 0), migratetest.Sometimes(0.5, 7, migratetest.Fails()))
		l.SetDestinations(destinations(m))
		l.Add(outputs(500, 10)...)
		l.settled(nil)
		l.wantCounts(500, 0)
	})
}

// TestLeftAlone: a destination that fails is probed less and less, and used again when it is back.
func TestLeftAlone(t *testing.T) {
	run(t, time.Hour, migrate.Options{Backoff: migrate.Backoff{Initial: sec, Max: 16 * sec}}, func(l *lab) {
		good := memory("1", migratetest.Takes(sec, 0))
		bad := memory("2", migratetest.During(l.start, l.start.Add(100*sec), migratetest.Fails()), migratetest.Takes(sec, 0))
		l.SetDestinations(destinations(good, bad))
		l.Add(outputs(2000, 10)...)
		time.Sleep(99 * sec)
		if n := len(bad.Calls()); n < 8 || n > 20 { // 8 at once, then one after 1, 2, 4, 8, 16, 16 … seconds
			t.Errorf("%d tries in an outage of 99 s", n)
		}
		if n := l.Progress().Saved.Outputs; n < 98*8 {
			t.Errorf("%d saved at the other destination meanwhile", n)
		}
		l.settled(nil)
		l.wantCounts(2000, 0)
		if n := len(bad.Calls()); n < 300 {
			t.Errorf("%d tries altogether, so it was not used after the outage", n)
		}
	})
}

func TestRefusals(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		big := func(o *migrate.Output) bool { return o.Bytes() > 100 }
		full, roomy := memory("1", migratetest.Only(big, migratetest.Refuses())), memory("2", migratetest.Takes(ms, 0))
		l.SetDestinations(destinations(full, roomy))
		for i := range 200 {
			l.Add(migratetest.HollowOutput(int64(i), int64(i)))
		}
		l.settled(nil)
		l.wantCounts(200, 0)
		asked := map[int64]int{}
		for _, id := range sent(full) {
			if asked[id]++; asked[id] > 1 {
				t.Errorf("output %d was offered again after it was refused", id)
			}
		}
	})
}

// TestRefusesAll: Settled does not wait for the deadline when every destination refuses everything, few
// outputs are wasted on finding out, and a destination that comes later is used.
func TestRefusesAll(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		a, b := memory("1", migratetest.Refuses()), memory("2", migratetest.Refuses())
		l.SetDestinations(destinations(a, b))
		l.Add(outputs(1000, 10)...)
		l.settled(migrate.ErrNoDestination)
		if e := l.elapsed(); e > 2*sec {
			t.Errorf("took %v to find out", e)
		}
		if n := len(a.Calls()) + len(b.Calls()); n > 30 {
			t.Errorf("%d offers to destinations that refuse everything", n)
		}
		c := memory("3", migratetest.Takes(ms, 0))
		l.SetDestinations(destinations(a, b, c))
		l.settled(nil)
		l.wantCounts(1000, 0)
	})
}

// TestAllRefused: each of few outputs was refused by each destination.
func TestAllRefused(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		l.SetDestinations(destinations(memory("1", migratetest.Refuses()), memory("2", migratetest.Refuses())))
		l.Add(outputs(1, 10)...)
		l.settled(migrate.ErrNoDestination)
		l.stop()
		if l.rec.reasons[migrate.ReasonNoDestination] != 1 {
			t.Errorf("lost by %v", l.rec.reasons)
		}
	})
}

func TestGone(t *testing.T) {
	for name, goes := range map[string]func(l *lab, a, b *migratetest.Memory){
		"error":    func(_ *lab, a, _ *migratetest.Memory) { a.Behave(migratetest.Vanishes()) },
		"told":     func(l *lab, a, _ *migratetest.Memory) { l.Fail(a.Target()) },
		"unlisted": func(l *lab, _, b *migratetest.Memory) { l.SetDestinations(destinations(b)) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, time.Minute, migrate.Options{InFlight: 4}, func(l *lab) {
				a, b := memory("1", migratetest.Takes(sec, 0)), memory("2", migratetest.Takes(sec, 0))
				l.SetDestinations(destinations(a, b))
				l.Add(outputs(40, 10)...)
				time.Sleep(2500 * ms)
				goes(l, a, b)
				l.settled(nil)
				l.wantCounts(40, 0)
				if l.rec.unsaved < 8 || l.rec.unsaved > 12 {
					t.Errorf("%d unsaved", l.rec.unsaved)
				}
				for _, r := range l.Results() {
					if r.Location.Target != b.Target() || !b.Has(r.Output.ID) {
						t.Errorf("%v: saved at %v", r.Output.ID, r.Location.Target)
					}
				}
			})
		})
	}
}

// TestGoneForGood: the driver may list a dead executor for a while.
func TestGoneForGood(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		a := memory("1", migratetest.Stalls())
		l.SetDestinations(destinations(a))
		l.Add(outputs(1, 10)...)
		synctest.Wait()
		l.Fail(a.Target())
		if !l.Gone(a.Target()) || l.Gone(migratetest.Executor("none")) {
			t.Error("it is not known who has gone")
		}
		synctest.Wait()
		if now, _ := a.Busy(); now != 0 {
			t.Error("a copy to a destination that has gone goes on")
		}
		l.SetDestinations(destinations(a))
		l.settled(migrate.ErrNoDestination)
		if n := len(a.Calls()); n != 1 {
			t.Errorf("%d tries", n)
		}
	})
}

// TestUnlistedAndBack: a copy that was under way meanwhile counts, and what was acknowledged before is sent again.
func TestUnlistedAndBack(t *testing.T) {
	run(t, time.Minute, migrate.Options{InFlight: 1}, func(l *lab) {
		a := memory("1", migratetest.Takes(sec, 0))
		l.SetDestinations(destinations(a))
		l.Add(outputs(2, 10)...)
		time.Sleep(1500 * ms)
		l.SetDestinations(nil)
		time.Sleep(100 * ms)
		l.SetDestinations(destinations(a))
		l.settled(nil)
		l.wantCounts(2, 0)
		wantSent(t, a, 0, 1, 0)
	})
}

func TestDeadline(t *testing.T) {
	run(t, 10*sec, migrate.Options{InFlight: 2}, func(l *lab) {
		a, b := memory("1", migratetest.Takes(400*ms, 0)), memory("2", migratetest.Stalls())
		l.SetDestinations(destinations(a, b))
		l.Add(outputs(1000, 10)...)
		err := <-l.done
		if !errors.Is(err, context.DeadlineExceeded) || l.elapsed() != 10*sec {
			t.Errorf("%v after %v", err, l.elapsed())
		}
		l.done <- err
		for _, m := range []*migratetest.Memory{a, b} {
			if now, _ := m.Busy(); now != 0 {
				t.Errorf("%d in flight at %v", now, m.Target())
			}
		}
		if l.rec.saved < 46 || l.rec.reasons[migrate.ReasonDeadline] != 1000-l.rec.saved {
			t.Errorf("%d saved, lost by %v", l.rec.saved, l.rec.reasons)
		}
	})
}

// TestNotBegunInVain: once a destination's speed is known, it gets nothing that it can't finish, but the next that
// fits instead; and when nothing fits any more, Settled says so.
func TestNotBegunInVain(t *testing.T) {
	var late atomic.Int32
	run(t, 20*sec, migrate.Options{InFlight: 2}, func(l *lab) {
		end := l.start.Add(20 * sec)
		const speed = 1e6
		watch := func(_ context.Context, c migratetest.Call) error {
			takes := 100*ms + time.Duration(float64(c.Output.Bytes())/speed*float64(sec))
			if time.Now().Add(takes).After(end.Add(20 * ms)) {
				late.Add(1)
			}
			return nil
		}
		m := memory("1", watch, migratetest.Takes(100*ms, speed))
		costs := map[int64]time.Duration{}
		for i := range int64(200) {
			size := 1e4 + 4e3*(i*7919%97) // up to 400 kB
			l.Add(migratetest.HollowOutput(i, size))
			costs[i] = time.Duration(size * size) // large ones are worth more per byte
		}
		l.SetCosts(costs)
		l.SetDestinations(destinations(m))
		l.settled(migrate.ErrTooLate)
		if e := l.elapsed(); e < 19*sec || e > 20*sec {
			t.Errorf("nothing fitted any more after %v", e)
		}
		first, last := m.Calls()[0].Output, m.Calls()[len(m.Calls())-1].Output
		if first.Bytes() < 3e5 || last.Bytes() > 3e5 {
			t.Errorf("first sent %d bytes, last %d", first.Bytes(), last.Bytes())
		}
		l.stop()
		if n := l.rec.reasons[migrate.ReasonDeadline]; n != 200-l.rec.saved || n == 0 {
			t.Errorf("%d saved, lost by %v", l.rec.saved, l.rec.reasons)
		}
	})
	if n := late.Load(); n > 0 {
		t.Errorf("%d begun too late", n)
	}
}

// nearer is a context whose deadline comes nearer than the moment of its end.
type nearer struct {
	context.Context
	at atomic.Pointer[time.Time]
}

func (n *nearer) Deadline() (time.Time, bool) {
	if at := n.at.Load(); at != nil {
		return *at, true
	}
	return n.Context.Deadline()
}

func TestDeadlineThatComesNearer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		moving := &nearer{Context: ctx}
		e := migrate.NewEngine(migrate.Options{InFlight: 1})
		m := memory("1", migratetest.Takes(sec, 0))
		e.SetDestinations(destinations(m))
		e.Add(outputs(100, 10)...)
		go func() { _ = e.Run(moving) }()
		time.Sleep(10*sec + 500*ms)
		at := time.Now().Add(5 * sec)
		moving.at.Store(&at)
		if err := e.Settled(ctx); !errors.Is(err, migrate.ErrTooLate) {
			t.Errorf("settled: %v", err)
		}
		if now, begun := time.Now(), len(sent(m)); now.After(at) || begun < 14 || begun > 16 {
			t.Errorf("%d begun, the last was over %v before the deadline", begun, at.Sub(now))
		}
	})
}
