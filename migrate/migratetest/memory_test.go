package migratetest_test

import (
	"testing"

	"github.com/lifeboat/lifeboat/migrate/migratetest"
)

// TestMemory holds the suite against the destination that can't be wrong about anything but itself.
func TestMemory(t *testing.T) {
	migratetest.Conform(t, func(*testing.T) migratetest.Harness {
		m := migratetest.NewMemory(migratetest.Executor("2"))
		return migratetest.Harness{
			Destination: m,
			Stored:      m.Stored,
			Stall:       func() { m.Behave(migratetest.Stalls()) },
			Refuse:      func() { m.Behave(migratetest.Refuses()) },
			Break:       func() { m.Behave(migratetest.Fails()) },
			Vanish:      func() { m.Behave(migratetest.Vanishes()) },
			Heal:        func() { m.Behave() },
		}
	})
}
