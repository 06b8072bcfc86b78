package alibaba

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/alibaba/alibabatest"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/metadata"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
	"github.com/lifeboat/lifeboat/providers/providertest"
)

const testTimeout = 100 * time.Millisecond

// rig is the fake metadata service behind the conformance suite.
type rig struct {
	*alibabatest.Server
	t *testing.T
}

func newRig(t *testing.T) providertest.Rig {
	t.Helper()
	return &rig{startFake(t), t}
}

func (r *rig) SetClock(ahead time.Duration) { r.Skew(ahead) }

func (r *rig) SetFault(f providertest.Fault) {
	r.TokenLife(0)
	switch f {
	case providertest.TokenExpiry:
		r.Faults()
		r.RevokeTokens()
		r.TokenLife(20 * time.Millisecond)
	case providertest.NotFound:
		// A service without tokens is no ECS.
		r.Faults(metadatatest.Fault{Kind: metadatatest.NotFound, On: alibabatest.Metadata})
	default:
		r.Set(string(f), testTimeout/10)
	}
}

func (r *rig) Source(reg prometheus.Registerer) providers.Source {
	s, err := New(Options{Endpoint: r.URL(), Interval: 200 * time.Microsecond, Timeout: testTimeout, Metrics: reg})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func startFake(t *testing.T) *alibabatest.Server {
	t.Helper()
	fake, err := alibabatest.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fake.Close() })
	return fake
}

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Suite{New: newRig, Faults: providertest.HTTP[:]})
}

// ask reads the item that holds the time.
func ask(t *testing.T, s *session, fake *alibabatest.Server) (metadata.Answer, error) {
	t.Helper()
	c, err := metadata.New(fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.get(ctx, c, timeItem)
}

func TestDefect01TokenIsReplacedAfter401(t *testing.T) {
	fake := startFake(t)
	fake.Announce(time.Now())
	s := &session{}
	for range 3 {
		if a, err := ask(t, s, fake); err != nil || !a.Found() {
			t.Fatalf("%+v %v", a, err)
		}
	}
	if given, denied := fake.Counts(); given != 1 || denied != 0 {
		t.Errorf("while the token is good: %d given out, %d denied", given, denied)
	}
	fake.RevokeTokens()
	if a, err := ask(t, s, fake); err != nil || !a.Found() {
		t.Errorf("%+v %v", a, err)
	}
	if given, denied := fake.Counts(); given != 2 || denied != 1 {
		t.Errorf("after the token was revoked: %d given out, %d denied", given, denied)
	}
	s.until = time.Now().Add(-time.Second)
	if a, err := ask(t, s, fake); err != nil || !a.Found() {
		t.Errorf("%+v %v", a, err)
	}
	if given, denied := fake.Counts(); given != 3 || denied != 1 {
		t.Errorf("after the token has expired: %d given out, %d denied", given, denied)
	}
}

func TestLasting401IsNoStorm(t *testing.T) {
	fake := startFake(t)
	fake.Faults(metadatatest.Fault{Kind: metadatatest.Unauthorized, On: alibabatest.Metadata})
	if _, err := ask(t, &session{}, fake); err == nil {
		t.Error("no error")
	}
	if given, _ := fake.Counts(); given != 2 {
		t.Errorf("%d tokens for one look", given)
	}
}

func TestTokenThatCannotBeHad(t *testing.T) {
	for name, c := range map[string]struct {
		fault metadatatest.Kind
		says  string
	}{
		"switched off": {metadatatest.Forbidden, "metadata is switched off for this instance"},
		"not known":    {metadatatest.NotFound, "gives out no tokens"},
		"a page":       {metadatatest.Malformed, "no token"},
		"unavailable":  {metadatatest.Unavailable, "503"},
	} {
		fake := startFake(t)
		fake.Faults(metadatatest.Fault{Kind: c.fault, On: alibabatest.Token})
		if _, err := ask(t, &session{}, fake); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, denied := fake.Counts(); denied != 0 {
			t.Errorf("%s: metadata was asked for without a token", name)
		}
	}
}

func TestTimeIsUTC(t *testing.T) {
	fake := startFake(t)
	fake.AnnounceText("2098-04-07T17:03:00Z") // the documented form
	s := (&rig{fake, t}).Source(nil)
	notices := make(chan providers.Notice)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = s.Run(ctx, notices) }()
	if n := <-notices; n.ID != "alibaba-spot-2098-04-07T17:03:00Z" || !n.Deadline.Equal(time.Date(2098, 4, 7, 17, 3, 0, 0, time.UTC)) {
		t.Errorf("%+v", n)
	}
}

func TestDetect(t *testing.T) {
	fake := startFake(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !Detect(ctx, fake.URL()) {
		t.Error("Alibaba Cloud is not detected")
	}
	aws, err := awstest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer aws.Close()
	anything := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	defer anything.Close()
	for name, url := range map[string]string{"EC2": aws.URL(), "anything": anything.URL, "nothing": "http://127.0.0.1:1", "no URL": "::"} {
		if Detect(ctx, url) {
			t.Errorf("%s is taken for Alibaba Cloud", name)
		}
	}
}
