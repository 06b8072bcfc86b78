package migrate

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"
)

// Backoff is how long to wait after failures: Initial after the first one, doubling, at most Max. Delays
// are spread by a fifth, and never longer than a quarter of the time left before the deadline.
type Backoff struct {
	Initial time.Duration // default 200 ms
	Max     time.Duration // default 5 s
}

func (b Backoff) start() *backoff.ExponentialBackOff {
	x := &backoff.ExponentialBackOff{
		InitialInterval: b.Initial, MaxInterval: b.Max, Multiplier: 2, RandomizationFactor: 0.2,
	}
	x.Reset()
	return x
}

// Options configure an Engine. The zero value works.
type Options struct {
	// InFlight is how many outputs are copied to one destination at the same time; default 8.
	InFlight int
	// Slots is the same for a target for which it should be another number; 0 and a nil Slots mean InFlight.
	Slots func(t Target) int
	// Attempts is after how many failed tries an output is given up; default 6. Only failures that
	// are the output's own count: the destination acknowledged other outputs meanwhile, so it works. Refusals
	// do not count either, they only rule a destination out. An output is never given up while a
	// listed destination is left where it has not failed yet.
	Attempts int
	// Backoff applies to outputs that failed and to destinations that are left alone.
	Backoff Backoff
	// GiveUpAfter is after how many failures in a row (of any outputs) a destination is left alone for
	// a while; default 3. Afterwards it gets one output at a time until it acknowledges one.
	GiveUpAfter int
	// OrphansLive says that the outputs of executors that have gone are still in use, so that they are
	// not put after all the others.
	OrphansLive bool
	// Prefer says how gladly an output goes to a target: 0 is best, below zero is never. A higher class is used only
	// while no healthy destination of a lower one could take the output in time; and alongside those, the best outputs
	// first, when by their speed so far they will not be done with all that is queued before the deadline. Nil: all
	// are alike. It must be quick, always say the same, and neither call the engine nor take a lock that is held where the engine
	// is called. A failure of an output at a target counts like one class for the two.
	Prefer func(out *Output, t Target) int
	// Observer hears what happens to outputs; may be nil.
	Observer Observer
	// Log may be nil.
	Log *zap.Logger
}

func (o Options) withDefaults() Options {
	if o.InFlight <= 0 {
		o.InFlight = 8
	}
	if o.Attempts <= 0 {
		o.Attempts = 6
	}
	if o.GiveUpAfter <= 0 {
		o.GiveUpAfter = 3
	}
	if o.Backoff.Initial <= 0 {
		o.Backoff.Initial = 200 * time.Millisecond
	}
	if o.Backoff.Max <= 0 {
		o.Backoff.Max = 5 * time.Second
	}
	o.Backoff.Max = max(o.Backoff.Max, o.Backoff.Initial)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

func (o Options) slots(t Target) int {
	if o.Slots != nil {
		if n := o.Slots(t); n > 0 {
			return n
		}
	}
	return o.InFlight
}

// Observer hears what the engine does. All calls come one at a time from the goroutine of Engine.Run,
// in the order in which things happened, and none after Run has returned. It must be quick: no
// new output is begun meanwhile. It may call the engine's other methods, except Settled.
type Observer interface {
	// Saved says that a destination has acknowledged the output after so many tries, the last of
	// which took so long. Adopted outputs are not mentioned.
	Saved(out *Output, at Location, took time.Duration, tries int)
	// Retried says that a try failed and the output is queued again.
	Retried(out *Output, to Target, err error)
	// Unsaved says that an output was saved, but its destination has gone: it is copied again.
	Unsaved(out *Output, at Location)
	// Lost says that an output was given up; err is the last error, which may be nil.
	Lost(out *Output, reason Reason, err error)
}

// event is one call of the Observer that is yet to be made.
type event struct {
	kind  eventKind
	out   *Output
	at    Location // Retried: only the target
	took  time.Duration
	tries int
	why   Reason
	err   error
}

type eventKind uint8

const (
	eventSaved eventKind = iota
	eventRetried
	eventUnsaved
	eventLost
)

func (ev *event) tell(o Observer) {
	switch ev.kind {
	case eventSaved:
		o.Saved(ev.out, ev.at, ev.took, ev.tries)
	case eventRetried:
		o.Retried(ev.out, ev.at.Target, ev.err)
	case eventUnsaved:
		o.Unsaved(ev.out, ev.at)
	case eventLost:
		o.Lost(ev.out, ev.why, ev.err)
	}
}
