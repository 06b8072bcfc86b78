package migrate_test

import (
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// TestLeaving: what lies at a destination that lives, but not for long, is copied once more where another one takes it; and
// counts where that is not so.
func TestLeaving(t *testing.T) {
	full := func(l *lab, behave ...migratetest.Behaviour) *migratetest.Memory {
		m := memory("1", append(behave, migratetest.Takes(10*ms, 0))...)
		l.SetDestinations(destinations(m))
		l.Add(outputs(20, 10)...)
		l.settled(nil)
		return m
	}
	leave := func(l *lab, want int, others []*migratetest.Memory, leaving ...*migratetest.Memory) {
		l.t.Helper()
		if n := l.SetDestinations(destinations(others...), destinations(leaving...)...); n != want {
			l.t.Errorf("%d queued again, want %d", n, want)
		}
	}
	for name, tt := range map[string]struct {
		others []*migratetest.Memory
		again  int // queued again at first
		copies int // at another one in the end
		limit  time.Duration
	}{
		"another takes them":        {[]*migratetest.Memory{memory("2", migratetest.Takes(sec, 0))}, 20, 20, 5 * sec},
		"there is no other":         {nil, 0, 0, sec},
		"another refuses":           {[]*migratetest.Memory{memory("2", migratetest.Refuses())}, 20, 0, 5 * sec},
		"another refuses some":      {[]*migratetest.Memory{memory("2", migratetest.Calls(0, 2, migratetest.Refuses()))}, 20, 18, 5 * sec},
		"they can't be read":        {[]*migratetest.Memory{memory("2", migratetest.Spoils())}, 20, 0, sec},
		"another always fails once": {[]*migratetest.Memory{memory("2", migratetest.Calls(0, 1, migratetest.Fails()))}, 20, 20, 5 * sec},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, time.Hour, migrate.Options{}, func(l *lab) {
				first := full(l)
				leave(l, tt.again, tt.others, first)
				l.settled(nil)
				l.wantCounts(20, 0)
				copies := 0
				for _, r := range l.Results() {
					if r.Location.Target != first.Target() {
						copies++
					}
				}
				if copies != tt.copies || len(sent(first)) != 20 || l.elapsed() > tt.limit {
					t.Errorf("%d copied again, %d sent to the first, after %v", copies, len(sent(first)), l.elapsed())
				}
				leave(l, 0, tt.others, first) // what was tried in vain is not tried for ever
				l.wantCounts(20, 0)
			})
		})
	}
	t.Run("all leave, one after the other", func(t *testing.T) {
		run(t, time.Hour, migrate.Options{InFlight: 2}, func(l *lab) {
			first, second := full(l), memory("2", migratetest.Takes(sec, 0))
			leave(l, 20, []*migratetest.Memory{second}, first)
			time.Sleep(1500 * ms)
			leave(l, 0, nil, first, second)
			l.settled(nil)
			l.wantCounts(20, 0)
			if n := len(sent(second)); n != 4 {
				t.Errorf("%d sent to one that leaves, want those on their way", n)
			}
			third := memory("3")
			leave(l, 20, []*migratetest.Memory{third}, first, second)
			l.settled(nil)
			if n := len(sent(third)); n != 20 {
				t.Errorf("%d sent to one that came later", n)
			}
		})
	})
	t.Run("it is listed no longer", func(t *testing.T) {
		run(t, time.Minute, migrate.Options{}, func(l *lab) {
			first := full(l)
			leave(l, 0, nil, first)
			l.Add(migratetest.HollowOutput(100, 10))
			l.settled(migrate.ErrNoDestination)
			l.wantCounts(20, 0)
			leave(l, 0, nil)
			l.settled(migrate.ErrNoDestination)
			l.wantCounts(0, 0)
		})
	})
	t.Run("it stays after all", func(t *testing.T) {
		run(t, time.Minute, migrate.Options{}, func(l *lab) {
			first := full(l)
			leave(l, 0, nil, first)
			l.Add(migratetest.HollowOutput(100, 10))
			leave(l, 0, []*migratetest.Memory{first})
			l.settled(nil)
			l.wantCounts(21, 0)
		})
	})
}

// TestListedAfterTheEnd: what is saved when Run returns stays saved.
func TestListedAfterTheEnd(t *testing.T) {
	run(t, time.Minute, migrate.Options{}, func(l *lab) {
		l.SetDestinations(destinations(memory("1")))
		l.Add(outputs(5, 10)...)
		l.settled(nil)
		l.stop()
		l.SetDestinations(nil)
		l.wantCounts(5, 0)
	})
}
