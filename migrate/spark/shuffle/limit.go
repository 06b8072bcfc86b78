package shuffle

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// fallbackDescriptors is assumed when the limit of the process can't be read.
const fallbackDescriptors = 1024

// Limit caps how many files are pinned at once by all stores that share it. Beyond it outputs are
// still found; their files are then opened for each use and are lost with their executor.
type Limit struct {
	highest int64
	used    atomic.Int64
	reached atomic.Bool
}

// NewLimit makes a limit of so many descriptors. Zero or less: half of what the process may have,
// after its soft limit (RLIMIT_NOFILE) has been raised to the hard one.
func NewLimit(descriptors int) *Limit {
	if descriptors <= 0 {
		descriptors = raiseDescriptors() / 2
	}
	return &Limit{highest: int64(descriptors)}
}

// NoPins makes a limit of none, for a reader that may not keep the disk space of what Spark removes.
func NoPins() *Limit { return &Limit{highest: -1} }

// Highest is the cap.
func (l *Limit) Highest() int { return int(l.highest) }

// Used is how many descriptors are pinned now.
func (l *Limit) Used() int { return int(l.used.Load()) }

// Reached is true once the cap has kept a file from being pinned.
func (l *Limit) Reached() bool { return l.reached.Load() }

func (l *Limit) take(n int64) bool {
	if l.highest < 0 {
		return false
	}
	if l.used.Add(n) <= l.highest {
		return true
	}
	l.used.Add(-n)
	l.reached.Store(true)
	return false
}

func (l *Limit) give(n int64) { l.used.Add(-n) }

func raiseDescriptors() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fallbackDescriptors
	}
	if r.Cur < r.Max {
		raised := unix.Rlimit{Cur: r.Max, Max: r.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			r = raised
		}
	}
	return int(min(r.Cur, 1<<20)) // infinity included
}
