package azure

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/azure/azuretest"
	"github.com/lifeboat/lifeboat/providers/providertest"
)

const testTimeout = 100 * time.Millisecond

// Faults that only this service has, in the suite's words.
const (
	gone      providertest.Fault = "gone"       // 410
	noService providertest.Fault = "no-service" // 404 is no answer to a question for events
)

// rig is the fake metadata service behind the conformance suite.
type rig struct {
	t    *testing.T
	fake *azuretest.Server
}

func newRig(t *testing.T) providertest.Rig {
	t.Helper()
	return &rig{t: t, fake: startFake(t)}
}

func (r *rig) Announce(deadline time.Time) { r.fake.Replace(azuretest.Event{NotBefore: deadline}) }

func (r *rig) AnnounceAll(deadlines ...time.Time) {
	var events []azuretest.Event
	for _, d := range deadlines {
		// One that is shown again is the same event.
		events = append(events, azuretest.Event{ID: d.Format("150405"), NotBefore: d})
	}
	r.fake.Replace(events...)
}

func (r *rig) AnnounceExtended(deadline time.Time) {
	r.fake.Replace(azuretest.Event{NotBefore: deadline, Extra: map[string]any{"Mood": []string{"calm"}, "Resource": map[string]any{}}})
}

func (r *rig) AnnounceUnknown(deadline time.Time) {
	r.fake.Replace(azuretest.Event{Type: "Levitate", NotBefore: deadline})
}

func (r *rig) AnnounceElsewhere(deadline time.Time) {
	r.fake.Schedule(azuretest.Event{Resources: []string{"workers_4", "workers_33"}, NotBefore: deadline})
}

func (r *rig) SetClock(ahead time.Duration) { r.fake.Skew(ahead) }

func (r *rig) Withdraw() { r.fake.Replace() }

func (r *rig) SetFault(f providertest.Fault) {
	if f == noService {
		f = providertest.NotFound
	}
	r.fake.Set(string(f), testTimeout/10)
}

func (r *rig) Source(reg prometheus.Registerer) providers.Source {
	return newEvents(r.t, r.fake, Options{Metrics: reg})
}

func startFake(t *testing.T) *azuretest.Server {
	t.Helper()
	fake, err := azuretest.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fake.Close() })
	return fake
}

// newEvents makes a source with a quick loop.
func newEvents(t *testing.T, fake *azuretest.Server, o Options) *Events {
	t.Helper()
	o.Endpoint = fake.URL()
	if o.Interval == 0 {
		o.Interval = 200 * time.Microsecond
	}
	if o.Timeout == 0 {
		o.Timeout = testTimeout
	}
	if o.FirstTimeout == 0 {
		o.FirstTimeout = testTimeout
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Suite{
		New: newRig,
		Faults: []providertest.Fault{
			providertest.Unauthorized, providertest.TooMany, providertest.Internal, providertest.Unavailable, providertest.Slow,
			providertest.BlackHole, providertest.Malformed, providertest.Truncated, providertest.Huge, providertest.Redirect,
			providertest.Reset, gone, noService,
		},
		Withdraws: true,
	})
}
