package migrate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// script is one random rescue: destinations that go wrong in random ways, one of them perhaps healthy, and
// a caller who changes things all the time.
type script struct {
	*lab
	r       *rand.Rand
	healthy bool // the first destination is never anything but slow
	ms      []*migratetest.Memory
	costs   map[int64]time.Duration
	next    int64
	dropped map[migrate.Target]time.Time // when a destination was last not listed, or failed
	adopted map[migrate.OutputID]migrate.Target
	ended   map[migrate.Target]bool // failed, or vanished by itself
	doubted map[migrate.Target]bool
}

const scriptTime = 100 * sec

// TestRandomScripts: whatever goes wrong, every output ends once, as saved where it still lies or as lost for a
// reason that is true, and with one healthy destination and enough time nothing is lost but what can't be read.
func TestRandomScripts(t *testing.T) {
	n := uint64(150)
	if testing.Short() {
		n = 30
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runScript(t, seed) })
	}
}

// FuzzScripts is TestRandomScripts for as long as wanted.
func FuzzScripts(f *testing.F) {
	f.Add(uint64(1000))
	f.Fuzz(runScript)
}

func runScript(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	o := migrate.Options{
		InFlight: 1 + r.IntN(8), Attempts: 1 + r.IntN(6), GiveUpAfter: 1 + r.IntN(4),
		Backoff: migrate.Backoff{Initial: time.Duration(1+r.IntN(500)) * ms, Max: time.Duration(1+r.IntN(5)) * sec},
	}
	if r.IntN(2) == 0 {
		o.Prefer = func(_ *migrate.Output, to migrate.Target) int { return to.Port % 3 }
	}
	run(t, scriptTime, o, func(l *lab) {
		s := &script{
			lab: l, r: r, healthy: r.IntN(3) > 0, costs: map[int64]time.Duration{},
			dropped: map[migrate.Target]time.Time{}, adopted: map[migrate.OutputID]migrate.Target{}, ended: map[migrate.Target]bool{},
			doubted: map[migrate.Target]bool{},
		}
		for i := range 1 + r.IntN(6) {
			s.ms = append(s.ms, s.destination(i))
		}
		s.list()
		for range 30 {
			s.act()
			if r.IntN(3) > 0 {
				time.Sleep(time.Duration(r.IntN(int(sec))))
			}
		}
		s.finish()
		s.check()
	})
}

// destination makes up one destination and its faults.
func (s *script) destination(i int) *migratetest.Memory {
	m := memory(fmt.Sprint(i))
	behave := []migratetest.Behaviour{
		migratetest.Only(func(o *migrate.Output) bool { return spoilt(o.ID.Map) }, migratetest.Spoils()),
	}
	for i > 0 || !s.healthy {
		behave = append(behave, s.fault(m))
		if s.r.IntN(2) == 0 {
			break
		}
	}
	takes := migratetest.Takes(time.Duration(s.r.IntN(100))*ms, 4e6*(1+9*s.r.Float64()))
	m.Behave(append(behave, takes)...)
	return m
}

func (s *script) fault(m *migratetest.Memory) migratetest.Behaviour {
	from := s.start.Add(time.Duration(s.r.IntN(int(20 * sec))))
	to := from.Add(time.Duration(s.r.IntN(int(15 * sec))))
	share := s.r.Float64()
	switch s.r.IntN(8) {
	case 0:
		return migratetest.Sometimes(share, s.r.Uint64(), migratetest.Fails())
	case 1:
		return migratetest.Sometimes(share, s.r.Uint64(), migratetest.Refuses())
	case 2:
		return migratetest.During(from, to, migratetest.Fails())
	case 3:
		return migratetest.During(from, to, migratetest.Refuses())
	case 4:
		return migratetest.During(from, to, migratetest.StallsUntil(to, time.Duration(1+s.r.IntN(5))*sec))
	case 5:
		return migratetest.Calls(s.r.IntN(50), 1<<30, migratetest.Fails())
	case 6: // it has gone by then, whoever asks
		return migratetest.During(from, from.Add(time.Hour), func(context.Context, migratetest.Call) error {
			return s.vanish(m)
		})
	default:
		limit := int64(s.r.IntN(1e6))
		return migratetest.Only(func(o *migrate.Output) bool { return o.Bytes() > limit }, migratetest.Refuses())
	}
}

func (s *script) vanish(m *migratetest.Memory) error {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	s.ended[m.Target()] = true
	return migratetest.Vanishes()(context.Background(), migratetest.Call{})
}

// act is one thing that the agent may do in the middle of a rescue.
func (s *script) act() {
	switch s.r.IntN(9) {
	case 0, 1, 2:
		for range s.r.IntN(30) {
			s.Add(s.output())
		}
	case 3:
		for range s.r.IntN(20) {
			s.costs[s.r.Int64N(300)] = time.Duration(s.r.IntN(int(time.Minute)))
		}
		s.SetCosts(s.costs)
	case 4, 5:
		s.list()
	case 6:
		out, to := s.output(), s.ms[s.r.IntN(len(s.ms))].Target()
		s.adopted[out.ID] = to
		s.rec.mu.Lock()
		s.rec.state[out.ID] = migrate.Saved
		s.rec.mu.Unlock()
		s.adopt(out, to)
	case 7:
		if i := s.r.IntN(len(s.ms)); i > 0 && s.r.IntN(4) == 0 {
			s.fail(s.ms[i].Target())
		}
	case 8:
		to := s.ms[s.r.IntN(len(s.ms))].Target()
		s.doubted[to] = true
		s.Doubt(to)
	}
}

// adopt tells the engine, and puts the observer right when it does not count as saved after all.
func (s *script) adopt(out *migrate.Output, to migrate.Target) {
	unsure := func(yes bool) {
		s.rec.mu.Lock()
		defer s.rec.mu.Unlock()
		s.rec.unsure[out.ID] = yes
	}
	unsure(true) // it may be sent at once
	s.Adopt(migrate.Located{Output: out, At: migrate.Location{Target: to}})
	all := s.Results()
	if last := all[len(all)-1]; last.State == migrate.Saved {
		unsure(false)
	} else {
		// Its destination is not listed: it is now one like any other, unless that is listed first. The
		// observer can't tell, so such outputs are left out: nothing about them is certain.
		delete(s.adopted, out.ID)
	}
	synctest.Wait()
}

func (s *script) output() *migrate.Output {
	id := s.next
	s.next++
	return migratetest.HollowOutput(id, 1+s.r.Int64N(1e6))
}

// spoilt says that an output can't be read.
func spoilt(id int64) bool { return id%37 == 11 }

// list lists some of the destinations; the first always.
func (s *script) list() {
	now, leaving := []*migratetest.Memory{s.ms[0]}, []*migratetest.Memory{}
	for _, m := range s.ms[1:] {
		switch s.r.IntN(6) {
		case 0:
			s.dropped[m.Target()] = time.Now()
		case 1:
			leaving = append(leaving, m)
			s.doubted[m.Target()] = true
		default:
			now = append(now, m)
		}
	}
	s.SetDestinations(destinations(now...), destinations(leaving...)...)
	synctest.Wait()
}

func (s *script) fail(t migrate.Target) {
	s.rec.mu.Lock()
	s.ended[t] = true
	s.rec.mu.Unlock()
	s.Fail(t)
}

// finish lets the rescue settle or run into its deadline.
func (s *script) finish() {
	ctx, cancel := context.WithDeadline(s.t.Context(), s.start.Add(scriptTime))
	defer cancel()
	err := s.Settled(ctx)
	if s.healthy && err != nil && ctx.Err() == nil {
		s.t.Errorf("settled with %v although a destination is healthy", err)
	}
	s.stop()
	if e := s.elapsed(); e > scriptTime {
		s.t.Errorf("stopped after %v", e)
	}
}

func (s *script) check() {
	at := map[migrate.Target]*migratetest.Memory{}
	for _, m := range s.ms {
		at[m.Target()] = m
		if now, _ := m.Busy(); now != 0 {
			s.t.Errorf("%d in flight to %v", now, m.Target())
		}
	}
	for _, r := range s.Results() {
		id, to := r.Output.ID, r.Location.Target
		switch {
		case r.State == migrate.Saved && r.Tries > 0:
			believed := s.doubted[to] && (s.adopted[id] == to || s.rec.unsure[id])
			if s.ended[to] || !believed && (!at[to].Has(id) || r.SavedAt.Before(s.dropped[to])) {
				s.t.Errorf("%v: not at %v any more", id, to)
			}
		case r.State == migrate.Lost:
			if spoilt(id.Map) != (r.Reason == migrate.ReasonCorrupt) && (s.healthy || !spoilt(id.Map)) {
				s.t.Errorf("%v: lost by %s, can be read: %v", id, r.Reason, !spoilt(id.Map))
			} else if s.healthy && r.Reason != migrate.ReasonCorrupt {
				s.t.Errorf("%v: lost (%s, %v) although a destination is healthy", id, r.Reason, r.Err)
			}
		}
	}
	for id, to := range s.adopted {
		if s.dropped[to].IsZero() && !s.ended[to] && !s.doubted[to] && len(s.calls(id)) > 0 {
			s.t.Errorf("%v: adopted at %v, and sent again", id, to)
		}
	}
}

func (s *script) calls(id migrate.OutputID) []migratetest.Call {
	var calls []migratetest.Call
	for _, m := range s.ms {
		for _, c := range m.Calls() {
			if c.Output.ID == id {
				calls = append(calls, c)
			}
		}
	}
	return calls
}
