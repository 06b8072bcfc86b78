package aws

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
	"github.com/lifeboat/lifeboat/providers/providertest"
)

const testTimeout = 100 * time.Millisecond

// constructor is one of the package.
type constructor func(Options) (*Source, error)

// rig is the fake metadata service behind the conformance suite.
type rig struct {
	t    *testing.T
	fake *awstest.Server
	make constructor
}

func newRig(t *testing.T, c constructor) *rig {
	t.Helper()
	return &rig{t: t, fake: startFake(t), make: c}
}

func (r *rig) SetClock(ahead time.Duration) { r.fake.Skew(ahead) }

func (r *rig) SetFault(f providertest.Fault) {
	r.fake.TokenLife(0)
	switch f {
	case providertest.None:
		r.fake.Faults()
	case providertest.TokenExpiry:
		r.fake.Faults()
		r.fake.RevokeTokens()
		r.fake.TokenLife(20 * time.Millisecond)
	case providertest.Slow:
		r.fake.Faults(metadatatest.Fault{Kind: metadatatest.Slow, Delay: testTimeout / 10})
	default:
		// The words are the same.
		r.fake.Faults(metadatatest.Fault{Kind: metadatatest.Kind(f)})
	}
}

func (r *rig) Source(reg prometheus.Registerer) providers.Source {
	return newTest(r.t, r.make, r.fake, Options{Metrics: reg})
}

// spotRig announces interruptions.
type spotRig struct{ *rig }

func (r spotRig) Announce(deadline time.Time) { r.fake.Announce("terminate", deadline) }

func (r spotRig) Withdraw() { r.fake.Withdraw() }

func (r spotRig) AnnounceExtended(deadline time.Time) {
	r.fake.AnnounceDocument(fmt.Sprintf(`{"action":"terminate","time":%q,"reason":{"code":[7]},"version":2}`, deadline.Format(time.RFC3339)))
}

func (r spotRig) AnnounceUnknown(deadline time.Time) { r.fake.Announce("relocate", deadline) }

// rebalanceRig makes recommendations, whose deadline is a lead time away.
type rebalanceRig struct{ *rig }

func (r rebalanceRig) Announce(deadline time.Time) { r.fake.Recommend(deadline.Add(-LeadTime)) }

func (r rebalanceRig) Withdraw() { r.fake.RecommendDocument("") }

func (r rebalanceRig) AnnounceExtended(deadline time.Time) {
	r.fake.RecommendDocument(fmt.Sprintf(`{"noticeTime":%q,"risk":{"level":7}}`, deadline.Add(-LeadTime).Format(time.RFC3339)))
}

func (r rebalanceRig) AnnounceUnknown(deadline time.Time) {
	r.fake.RecommendDocument(fmt.Sprintf(`{"noticeTime":"any time","at":%q}`, deadline.Format(time.RFC3339)))
}

// lifecycleRig lets the group end the instance. The state names no time.
type lifecycleRig struct{ *rig }

func (r lifecycleRig) Announce(time.Time) { r.fake.Lifecycle("Terminated") }

func (r lifecycleRig) Withdraw() { r.fake.Lifecycle("InService") }

func (r lifecycleRig) Lead() time.Duration { return LeadTime }

func (r lifecycleRig) AnnounceExtended(time.Time) { r.fake.Lifecycle("Terminated\n") }

func (r lifecycleRig) AnnounceUnknown(time.Time) {
	r.fake.Lifecycle("Warmed:Cold")
}

// scheduledRig shows events in the list.
type scheduledRig struct{ *rig }

func (r scheduledRig) Announce(deadline time.Time) { r.AnnounceAll(deadline) }

func (r scheduledRig) AnnounceAll(deadlines ...time.Time) {
	events := []awstest.Event{{ID: "instance-event-done", Code: "system-reboot", State: "completed", NotBefore: time.Unix(1.5e9, 0)}}
	for _, d := range deadlines {
		events = append(events, awstest.Event{
			ID: fmt.Sprintf("instance-event-%x", d.Unix()), Code: "instance-retirement", NotBefore: d, NotAfter: d.Add(time.Hour),
		})
	}
	r.fake.Schedule(events...)
}

func (r scheduledRig) Withdraw() { r.fake.Schedule() }

func (r scheduledRig) AnnounceExtended(deadline time.Time) {
	r.fake.ScheduleDocument(fmt.Sprintf(`[{"EventId":"instance-event-x","Code":"system-reboot","State":"active","NotBefore":%q,"NotBeforeDeadline":7,"Impact":{"x":[]}}]`,
		deadline.Format("2 Jan 2006 15:04:05 GMT")))
}

func (r scheduledRig) AnnounceUnknown(deadline time.Time) {
	r.fake.Schedule(awstest.Event{ID: "instance-event-u", Code: "instance-teleport", State: "pondering", NotBefore: deadline})
}

func startFake(t *testing.T) *awstest.Server {
	t.Helper()
	fake, err := awstest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fake.Close() })
	return fake
}

// newTest makes a source with a quick loop.
func newTest(t *testing.T, c constructor, fake *awstest.Server, o Options) *Source {
	t.Helper()
	o.Endpoint = fake.URL()
	if o.Interval == 0 {
		o.Interval = 200 * time.Microsecond
	}
	if o.Timeout == 0 {
		o.Timeout = testTimeout
	}
	s, err := c(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	for name, s := range map[string]providertest.Suite{
		SpotName:      {New: func(t *testing.T) providertest.Rig { return spotRig{newRig(t, NewSpot)} }},
		RebalanceName: {New: func(t *testing.T) providertest.Rig { return rebalanceRig{newRig(t, NewRebalance)} }},
		LifecycleName: {New: func(t *testing.T) providertest.Rig { return lifecycleRig{newRig(t, NewLifecycle)} }, Withdraws: true},
		ScheduledName: {New: func(t *testing.T) providertest.Rig { return scheduledRig{newRig(t, NewScheduled)} }, Withdraws: true},
	} {
		s.Faults = providertest.HTTP[:]
		t.Run(name, func(t *testing.T) { providertest.Run(t, s) })
	}
}
