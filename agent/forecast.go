package agent

import (
	"math"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
)

// forecastPatience is how long an application's first acknowledgement may take before that counts as no speed at all. It is as
// long as the engine's own memory of its speed.
const forecastPatience = 10 * time.Second

// forecast says how long the rest of a rescue will take. It remembers, for each application that has something left, when that
// was seen first, and whether it ever had a speed. Whoever asks is one goroutine.
type forecast map[string]*pace

type pace struct {
	since time.Time
	known bool
}

// seconds is the time that the slowest application needs at the speed of its last seconds: +Inf when one does not get on at all,
// NaN when one has only begun.
func (f forecast) seconds(now time.Time, apps []*application) float64 {
	worst := 0.0
	for _, a := range apps {
		worst = slower(worst, f.one(now, a.id, a.engine.Progress()))
	}
	return worst
}

// one is the time that one application needs.
func (f forecast) one(now time.Time, id string, p migrate.Progress) float64 {
	if p.Queued.Outputs+p.InFlight.Outputs == 0 {
		delete(f, id)
		return 0
	}
	if f[id] == nil {
		f[id] = &pace{since: now}
	}
	switch pace := f[id]; {
	case p.Left >= 0:
		pace.known = true
		return p.Left.Seconds()
	case pace.known, now.Sub(pace.since) >= forecastPatience:
		return math.Inf(1)
	}
	return math.NaN()
}

// slower is the longer time; what nobody knows is longer than any but no end.
func slower(a, b float64) float64 {
	if math.IsInf(a, 1) || math.IsInf(b, 1) {
		return math.Inf(1)
	}
	return max(a, b) // NaN if one of them is
}
