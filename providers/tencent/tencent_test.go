package tencent

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/providertest"
	"github.com/lifeboat/lifeboat/providers/tencent/tencenttest"
)

const testTimeout = 100 * time.Millisecond

// rig is the fake metadata service behind the conformance suite.
type rig struct {
	*tencenttest.Server
	t *testing.T
}

func newRig(t *testing.T) providertest.Rig {
	t.Helper()
	return &rig{startFake(t), t}
}

func (r *rig) SetClock(ahead time.Duration) { r.Skew(ahead) }

func (r *rig) SetFault(f providertest.Fault) { r.Set(string(f), testTimeout/10) }

func (r *rig) Source(reg prometheus.Registerer) providers.Source {
	s, err := New(Options{Endpoint: r.URL(), Interval: 200 * time.Microsecond, Timeout: testTimeout, Metrics: reg})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func startFake(t *testing.T) *tencenttest.Server {
	t.Helper()
	fake, err := tencenttest.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fake.Close() })
	return fake
}

func TestConformance(t *testing.T) {
	// There are no credentials that could expire.
	providertest.Run(t, providertest.Suite{New: newRig, Faults: providertest.HTTP[1:]})
}

func TestTimeIsThatOfChina(t *testing.T) {
	at, err := parse("2018-08-18 12:05:33") // the documented form
	if err != nil || !at.Equal(time.Date(2018, 8, 18, 4, 5, 33, 0, time.UTC)) {
		t.Errorf("%v %v", at, err)
	}
	for _, s := range []string{"", "18/08/2018 12:05:33", "2018-08-18T12:05:33Z", "2018-08-18 12:05", "2018-08-18 12:05:33 +0000"} {
		if at, err := parse(s); err == nil {
			t.Errorf("%q: %v", s, at)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2018-08-18 12:05:33")
	f.Add("2018-08-18 12:05:33.999")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parse(s)
		if err != nil {
			return
		}
		if back, err := parse(at.Format(layout)); err != nil || !back.Equal(at.Truncate(time.Second)) {
			t.Errorf("%q is %v, which is %v", s, at, back)
		}
	})
}

func TestDetect(t *testing.T) {
	fake := startFake(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !Detect(ctx, fake.URL()) {
		t.Error("Tencent Cloud is not detected")
	}
	aws, err := awstest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer aws.Close()
	anything := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("i-0123456789abcdef0")) }))
	defer anything.Close()
	for name, url := range map[string]string{"EC2": aws.URL(), "anything": anything.URL, "nothing": "http://127.0.0.1:1", "no URL": "::"} {
		if Detect(ctx, url) {
			t.Errorf("%s is taken for Tencent Cloud", name)
		}
	}
}
