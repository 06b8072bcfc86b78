package gcp

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/gcp/gcptest"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
	"github.com/lifeboat/lifeboat/providers/providertest"
)

const (
	testTimeout = 100 * time.Millisecond
	testHold    = 20 * time.Millisecond
)

// faults that Google's server or the way to it can have: it has no credentials, and a 404 where the item
// has to be is a failure, not an answer.
var faults = []providertest.Fault{
	providertest.Unauthorized, providertest.TooMany, providertest.Internal, providertest.Unavailable, providertest.Slow, providertest.BlackHole,
	providertest.Malformed, providertest.Truncated, providertest.Huge, providertest.Redirect, providertest.Reset,
}

// rig is what the rigs of both sources share.
type rig struct {
	t    *testing.T
	fake *gcptest.Server
}

func (r *rig) SetFault(f providertest.Fault) {
	switch f {
	case providertest.None:
		r.fake.Faults()
	case providertest.Slow:
		r.fake.Faults(metadatatest.Fault{Kind: metadatatest.Slow, Delay: testTimeout / 10})
	default:
		// The words are the same.
		r.fake.Faults(metadatatest.Fault{Kind: metadatatest.Kind(f)})
	}
}

func (r *rig) SetClock(ahead time.Duration) { r.fake.Skew(ahead) }

// preemptedRig is a spot VM.
type preemptedRig struct {
	rig
	machine int
}

func (r *preemptedRig) Announce(time.Time)  { r.fake.Preempt() }
func (r *preemptedRig) Withdraw()           { r.fake.Reboot() }
func (r *preemptedRig) Lead() time.Duration { return time.Minute }

func (r *preemptedRig) Replace() {
	r.machine++
	r.fake.Reboot()
}

func (r *preemptedRig) Source(reg prometheus.Registerer) providers.Source {
	s := newPreempted(r.t, r.fake, Options{Metrics: reg, Lead: r.Lead()})
	s.boot += strconv.Itoa(r.machine)
	return s
}

// eventRig is a VM whose maintenance-event is watched.
type eventRig struct{ rig }

func (r *eventRig) Announce(time.Time)  { r.fake.Event(gcptest.Terminate) }
func (r *eventRig) Withdraw()           { r.fake.Event(gcptest.NoEvent) }
func (r *eventRig) Lead() time.Duration { return time.Minute }

func (r *eventRig) Source(reg prometheus.Registerer) providers.Source {
	return newMaintenance(r.t, r.fake, Options{Metrics: reg, Lead: r.Lead()})
}

// windowRig is a VM with a maintenance schedule.
type windowRig struct{ rig }

func (r *windowRig) Announce(d time.Time) { r.fake.Schedule(d, d.Add(time.Hour), "PENDING") }
func (r *windowRig) Withdraw()            { r.fake.ScheduleDocument("") }

func (r *windowRig) AnnounceExtended(d time.Time) {
	r.fake.ScheduleDocument(`{"shape": ["x", {}], "window_start_time": "` + d.UTC().Format(time.RFC3339) + `", "can_reschedule": {}, "maintenance_reasons": 7}`)
}

func (r *windowRig) AnnounceUnknown(d time.Time) { r.fake.Schedule(d, d.Add(time.Hour), "PONDERING") }

func (r *windowRig) Source(reg prometheus.Registerer) providers.Source {
	return newMaintenance(r.t, r.fake, Options{Metrics: reg, Hold: -1}) // the schedule is read by plain polls
}

func startFake(t *testing.T) *gcptest.Server {
	t.Helper()
	fake, err := gcptest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fake.Close() })
	fake.Behave(gcptest.Manner{Second: testHold}) // which is what timeout_sec=1 means to the fake
	return fake
}

// quick are options of a quick loop at the fake.
func quick(fake *gcptest.Server, o Options) Options {
	o.Endpoint = fake.URL()
	o.Interval = 200 * time.Microsecond
	if o.Timeout == 0 {
		o.Timeout = testTimeout
	}
	if o.Hold == 0 {
		o.Hold = testHold
	}
	return o
}

func newPreempted(t *testing.T, fake *gcptest.Server, o Options) *Preempted {
	t.Helper()
	s, err := NewPreempted(quick(fake, o))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newMaintenance(t *testing.T, fake *gcptest.Server, o Options) *Maintenance {
	t.Helper()
	m, err := NewMaintenance(quick(fake, o))
	if err != nil {
		t.Fatal(err)
	}
	m.every = 0
	return m
}

func TestPreemptedConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{Faults: faults, New: func(t *testing.T) providertest.Rig {
		return &preemptedRig{rig: rig{t, startFake(t)}}
	}})
}

func TestEventConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{Faults: faults, Withdraws: true, New: func(t *testing.T) providertest.Rig {
		return &eventRig{rig{t, startFake(t)}}
	}})
}

func TestWindowConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{Faults: faults, Withdraws: true, New: func(t *testing.T) providertest.Rig {
		return &windowRig{rig{t, startFake(t)}}
	}})
}
