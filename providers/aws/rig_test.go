package aws

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/providertest"
)

const testTimeout = 100 * time.Millisecond

// rig is the fake metadata service behind the conformance suite.
type rig struct {
	t    *testing.T
	fake *awstest.Server
}

func newRig(t *testing.T) providertest.Rig {
	t.Helper()
	return &rig{t: t, fake: startFake(t)}
}

func (r *rig) Announce(deadline time.Time) { r.fake.Announce("terminate", deadline) }

func (r *rig) Withdraw() { r.fake.Withdraw() }

func (r *rig) AnnounceExtended(deadline time.Time) {
	r.fake.AnnounceDocument(fmt.Sprintf(`{"action":"terminate","time":%q,"reason":{"code":[7]},"version":2}`, deadline.Format(time.RFC3339)))
}

func (r *rig) AnnounceUnknown(deadline time.Time) { r.fake.Announce("relocate", deadline) }

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
		r.fake.Faults(awstest.Fault{Kind: awstest.Slow, Delay: testTimeout / 10})
	default:
		// The words are the same.
		r.fake.Faults(awstest.Fault{Kind: awstest.Kind(f)})
	}
}

func (r *rig) Source(reg prometheus.Registerer) providers.Source {
	return newSpot(r.t, r.fake, Options{Metrics: reg})
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

// newSpot makes a source with a quick loop.
func newSpot(t *testing.T, fake *awstest.Server, o Options) *Spot {
	t.Helper()
	o.Endpoint = fake.URL()
	if o.Interval == 0 {
		o.Interval = 200 * time.Microsecond
	}
	if o.Timeout == 0 {
		o.Timeout = testTimeout
	}
	s, err := NewSpot(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Suite{New: newRig, Faults: providertest.HTTP[:]})
}
