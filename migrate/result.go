package migrate

import "time"

// State is where an output stands.
type State uint8

// The states of an output. Only Lost is final; a Saved output is queued again when its destination goes.
const (
	Queued State = iota
	InFlight
	Saved
	Lost
	states
)

// String is the label used in metrics and reports.
func (s State) String() string {
	return [...]string{"queued", "in flight", "saved", "lost"}[s]
}

// Reason says why an output was lost.
type Reason string

// The reasons.
const (
	// ReasonDeadline: the time was over, or would have been before the output was acknowledged.
	ReasonDeadline Reason = "deadline"
	// ReasonNoDestination: no destination was left that would have taken it.
	ReasonNoDestination Reason = "no destination"
	// ReasonAttempts: it failed too often where others succeeded.
	ReasonAttempts Reason = "attempts"
	// ReasonCorrupt: it could not be read as it was verified.
	ReasonCorrupt Reason = "corrupt"
)

// Result is what became of one output.
type Result struct {
	Output   *Output
	State    State
	Location Location      // where it is; zero unless Saved
	SavedAt  time.Time     // when that was acknowledged; zero unless Saved, and for an adopted output
	Tries    int           // copies begun, 0 for an adopted output
	Reason   Reason        // "" unless Lost
	Err      error         // of the last failed try; nil when none failed
	Cost     time.Duration // task time to make it again; 0 when it is not known
}

// Count is a number of outputs and their bytes.
type Count struct {
	Outputs int
	Bytes   int64
}

func (c *Count) add(n int, bytes int64) {
	c.Outputs += n
	c.Bytes += int64(n) * bytes
}

// Progress is how far a rescue is. Found is the sum of the four after it.
type Progress struct {
	Found, Saved, Lost, Queued, InFlight Count

	Retries int // failed tries after which an output was queued again

	OutputsPerSecond, BytesPerSecond float64 // acknowledged over the last ten seconds

	// Left is how long the rest would take at that speed: 0 when nothing is left, negative when
	// nothing was acknowledged lately.
	Left time.Duration
}

// meter counts what was saved in each of the last seconds.
type meter struct {
	start   time.Time
	seconds [10]struct {
		second int64
		count  Count
	}
}

func (m *meter) add(now time.Time, bytes int64) {
	if m.start.IsZero() {
		m.start = now
	}
	second := now.Unix()
	s := &m.seconds[second%int64(len(m.seconds))]
	if s.second != second {
		s.second, s.count = second, Count{}
	}
	s.count.add(1, bytes)
}

// rate is the mean per second, over the time since the start while that is shorter than the meter.
func (m *meter) rate(now time.Time) (outputs, bytes float64) {
	window := int64(len(m.seconds))
	var sum Count
	for _, s := range m.seconds {
		if s.second > now.Unix()-window {
			sum.Outputs += s.count.Outputs
			sum.Bytes += s.count.Bytes
		}
	}
	over := min(max(now.Sub(m.start).Seconds(), 1), float64(window))
	return float64(sum.Outputs) / over, float64(sum.Bytes) / over
}
