package aws

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

// look polls once, as the loop does.
func look(t *testing.T, s *Source) ([]providers.Notice, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.o.Timeout)
	defer cancel()
	return s.poll(ctx)
}

// one polls once and wants exactly one notice.
func one(t *testing.T, s *Source) providers.Notice {
	t.Helper()
	got, err := look(t, s)
	if err != nil || len(got) != 1 {
		t.Fatalf("poll: %v, %v", got, err)
	}
	return got[0]
}

var inAMinute = time.Now().Add(time.Minute).Truncate(time.Second).UTC()

func TestDefect01TokenIsReplacedAfter401(t *testing.T) {
	fake := startFake(t)
	fake.Announce("terminate", inAMinute)
	s := slow(t, NewSpot, fake, Options{})
	one(t, s)
	if c := fake.Counts(); c.Tokens != 1 || c.Unauthorized != 0 {
		t.Fatalf("first poll: %+v", c)
	}
	for i := range 3 {
		fake.RevokeTokens()
		one(t, s) // in the same poll: the fake answers 401 to a request with two token headers, too
		if c := fake.Counts(); c.Tokens != 2+i || c.Unauthorized != 1+i {
			t.Errorf("after %d revoked tokens: %+v", i+1, c)
		}
	}
	one(t, s)
	if c := fake.Counts(); c.Tokens != 4 || c.Looks != 5 {
		t.Errorf("a token that is valid is used again: %+v", c)
	}
}

func TestLasting401IsNoStorm(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	fake := awstest.New()
	fake.Faults(metadatatest.Fault{Kind: metadatatest.Unauthorized, On: awstest.Metadata})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Method]++
		mu.Unlock()
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s, err := NewSpot(Options{Endpoint: server.URL, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	_, err = look(t, s)
	wantResult(t, err, providers.Denied)
	if seen["PUT"] != 2 || seen["GET"] != 2 {
		t.Errorf("requests of one poll: %v, want 2 of each", seen)
	}
}

func TestDefect02IDHasNoClockInIt(t *testing.T) {
	fake := startFake(t)
	for name, c := range map[string]struct{ instance, document, want string }{
		"terminate":   {"", `{"action":"terminate","time":"2027-09-18T08:22:00Z"}`, "aws-spot-terminate-2027-09-18T08:22:00Z"},
		"instance":    {"i-0abc", `{"action": "stop", "time": "2027-09-18T08:22:00Z"}`, "aws-spot-i-0abc-stop-2027-09-18T08:22:00Z"},
		"hibernate":   {"", `{"time":"2027-09-18T08:22:00Z","action":"hibernate","x":[1]}`, "aws-spot-hibernate-2027-09-18T08:22:00Z"},
		"zone":        {"", `{"action":"stop","time":"2027-09-18T10:22:00+02:00"}`, "aws-spot-stop-2027-09-18T08:22:00Z"},
		"unknown":     {"", `{"action":"relocate","time":"2027-09-18T08:22:00Z"}`, "aws-spot-relocate-2027-09-18T08:22:00Z"},
		"odd action":  {"", `{"action":"a b\n","time":"2027-09-18T08:22:00Z"}`, providers.EventID("aws-spot", "a b\n", "2027-09-18T08:22:00Z")},
		"odd time":    {"", `{"action":"stop","time":"soon"}`, "aws-spot-stop-soon"},
		"no time":     {"", `{"action":"stop"}`, providers.EventID("aws-spot", "stop", "")},
		"time of old": {"", `{"action":"stop","time":"1970-01-01T00:00:00Z"}`, "aws-spot-stop-1970-01-01T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			fake.AnnounceDocument(c.document)
			for range 2 { // two runs of the agent
				s := slow(t, NewSpot, fake, Options{InstanceID: c.instance})
				if n := one(t, s); n.ID != c.want || n.Kind != providers.Preemption || n.Source != "aws-spot" {
					t.Errorf("notice %+v, want id %s", n, c.want)
				}
			}
		})
	}
}

func TestUnreadableTimeMeansTheDocumentedLeadTime(t *testing.T) {
	fake := startFake(t)
	fake.AnnounceDocument(`{"action":"terminate","time":"in a while"}`)
	s := slow(t, NewSpot, fake, Options{})
	before := time.Now()
	n := one(t, s)
	if n.Deadline.Before(before.Add(LeadTime)) || n.Deadline.After(time.Now().Add(LeadTime)) {
		t.Errorf("deadline %v, seen %v", n.Deadline, n.Seen)
	}
	if again := one(t, s); !again.Deadline.Equal(n.Deadline) {
		t.Errorf("the deadline moves from poll to poll: %v, then %v", n.Deadline, again.Deadline)
	}
}

func TestDeadlineIsCorrectedByTheCloudsClock(t *testing.T) {
	for name, c := range map[string]struct{ ahead, moved time.Duration }{
		"right":          {0, 0},
		"a little wrong": {3 * time.Second, 0},
		"node is late":   {10 * time.Minute, -10 * time.Minute},
		"node is early":  {-10 * time.Minute, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t)
			fake.Skew(c.ahead)
			fake.Announce("terminate", inAMinute)
			n := one(t, slow(t, NewSpot, fake, Options{}))
			if off := n.Deadline.Sub(inAMinute.Add(c.moved)).Abs(); off > time.Second {
				t.Errorf("deadline is off by %v", off)
			}
			if want := "aws-spot-terminate-" + inAMinute.Format(time.RFC3339); n.ID != want {
				t.Errorf("id %s, want %s", n.ID, want)
			}
		})
	}
}

// wantResult checks the kind of a failure.
func wantResult(t *testing.T, err error, want providers.Result) {
	t.Helper()
	var pe *providers.PollError
	if !errors.As(err, &pe) || pe.Result != want {
		t.Errorf("error %v is not classified as %s", err, want)
	}
}

func TestFailuresAreClassified(t *testing.T) {
	for name, c := range map[string]struct {
		fault metadatatest.Fault
		want  providers.Result
		says  string
	}{
		"hop limit":       {metadatatest.Fault{Kind: metadatatest.BlackHole, On: awstest.Token}, providers.Timeout, "hop limit"},
		"black hole":      {metadatatest.Fault{Kind: metadatatest.BlackHole, On: awstest.Metadata}, providers.Timeout, "in time"},
		"401 at PUT":      {metadatatest.Fault{Kind: metadatatest.Unauthorized, On: awstest.Token}, providers.Denied, "PUT /latest/api/token: 401"},
		"403 at PUT":      {metadatatest.Fault{Kind: metadatatest.Forbidden, On: awstest.Token}, providers.Denied, "switched off"},
		"403 at GET":      {metadatatest.Fault{Kind: metadatatest.Forbidden, On: awstest.Metadata}, providers.Denied, "403"},
		"404 at PUT":      {metadatatest.Fault{Kind: metadatatest.NotFound, On: awstest.Token}, providers.Status, "404"},
		"503 at PUT":      {metadatatest.Fault{Kind: metadatatest.Unavailable, On: awstest.Token}, providers.Status, "503"},
		"500 at GET":      {metadatatest.Fault{Kind: metadatatest.Internal, On: awstest.Metadata}, providers.Status, "500"},
		"429 at GET":      {metadatatest.Fault{Kind: metadatatest.TooMany, On: awstest.Metadata}, providers.Status, "429"},
		"redirect at PUT": {metadatatest.Fault{Kind: metadatatest.Redirect, On: awstest.Token}, providers.Denied, "redirects"},
		"redirect at GET": {metadatatest.Fault{Kind: metadatatest.Redirect, On: awstest.Metadata}, providers.Denied, "redirects"},
		"broken token":    {metadatatest.Fault{Kind: metadatatest.Malformed, On: awstest.Token}, providers.Malformed, "no token"},
		"huge token":      {metadatatest.Fault{Kind: metadatatest.Huge, On: awstest.Token}, providers.Malformed, "no token"},
		"cut token":       {metadatatest.Fault{Kind: metadatatest.Truncated, On: awstest.Token}, providers.Malformed, "unexpected EOF"},
		"broken document": {metadatatest.Fault{Kind: metadatatest.Malformed, On: awstest.Metadata}, providers.Malformed, "unexpected end"},
		"huge document":   {metadatatest.Fault{Kind: metadatatest.Huge, On: awstest.Metadata}, providers.Malformed, "longer than"},
		"cut document":    {metadatatest.Fault{Kind: metadatatest.Truncated, On: awstest.Metadata}, providers.Malformed, "unexpected EOF"},
		"reset":           {metadatatest.Fault{Kind: metadatatest.Reset}, providers.Unreachable, "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t)
			fake.Announce("terminate", inAMinute)
			fake.Faults(c.fault)
			s := newTest(t, NewSpot, fake, Options{Timeout: 300 * time.Millisecond})
			_, err := look(t, s)
			wantResult(t, err, c.want)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			fake.Faults()
			s.o.Timeout = 10 * time.Second
			one(t, s)
			if fake.Redirected() != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

func TestDefect04NoAnswerAtAllIsNotFatal(t *testing.T) {
	fake := startFake(t)
	url := fake.URL()
	_ = fake.Close()
	core, logs := observer.New(zap.InfoLevel)
	s, err := NewSpot(Options{Endpoint: url, Interval: time.Millisecond, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = look(t, s)
	wantResult(t, err, providers.Unreachable)
	ctx, cancel := context.WithCancel(t.Context())
	notices, done := make(chan providers.Notice, 1), make(chan error, 1)
	go func() { done <- s.Run(ctx, notices) }()
	back, err := awstest.Start(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = back.Close() })
	back.Announce("stop", inAMinute)
	n := <-notices
	if !n.Deadline.Equal(inAMinute) {
		t.Errorf("notice %+v", n)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if n := logs.FilterMessage("source of notices down").Len(); n > 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestDefect11FlappingMetadataWithdrawsNothing(t *testing.T) {
	fake := startFake(t)
	fake.Announce("terminate", inAMinute)
	s := slow(t, NewSpot, fake, Options{})
	first := one(t, s)
	fake.Withdraw()
	if got, err := look(t, s); err != nil || len(got) != 0 {
		t.Errorf("404: %v, %v", got, err)
	}
	fake.Announce("terminate", inAMinute)
	if again := one(t, s); again.ID != first.ID || again.Withdrawn {
		t.Errorf("%+v, then %+v", first, again)
	}
}

func TestEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		option string
		env    map[string]string
		want   string
		err    bool
	}{
		"default":      {want: "http://169.254.169.254"},
		"IPv6":         {env: map[string]string{envMode: "IPv6"}, want: "http://[fd00:ec2::254]"},
		"ipv4":         {env: map[string]string{envMode: "ipv4"}, want: "http://169.254.169.254"},
		"endpoint":     {env: map[string]string{envMode: "IPv6", envEndpoint: "http://127.0.0.1:1338/"}, want: "http://127.0.0.1:1338"},
		"option first": {option: "http://127.0.0.1:2", env: map[string]string{envEndpoint: "http://127.0.0.1:1"}, want: "http://127.0.0.1:2"},
		"bad mode":     {env: map[string]string{envMode: "IPv5"}, err: true},
		"no URL":       {env: map[string]string{envEndpoint: "169.254.169.254"}, err: true},
		"no host":      {env: map[string]string{envEndpoint: "http:///x"}, err: true},
		"disabled":     {env: map[string]string{envDisabled: "True"}, err: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range []string{envEndpoint, envMode, envDisabled} {
				t.Setenv(k, c.env[k])
			}
			s, err := NewSpot(Options{Endpoint: c.option})
			if (err != nil) != c.err {
				t.Fatalf("error %v", err)
			}
			if c.env[envDisabled] != "" && !errors.Is(err, ErrDisabled) {
				t.Errorf("error %v, want ErrDisabled", err)
			}
			if err == nil && s.client.endpoint != c.want {
				t.Errorf("endpoint %s, want %s", s.client.endpoint, c.want)
			}
		})
	}
	t.Run("polled", func(t *testing.T) {
		fake := startFake(t)
		fake.Announce("terminate", inAMinute)
		t.Setenv(envEndpoint, fake.URL()+"/")
		t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
		s, err := NewSpot(Options{Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		one(t, s)
	})
}

func FuzzDecodeAction(f *testing.F) {
	for _, s := range []string{
		`{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`, `{}`, `[]`, `null`, `{"action":1}`, `{"action":"x","time":"9999-99-99"}`, `"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := decodeAction(body)
		if err != nil {
			return
		}
		if id := providers.EventID(SpotName, a.id()...); a.Action == "" || len(id) > 150 || strings.ContainsAny(id, oddities) {
			t.Errorf("%q: action %q, id %q", body, a.Action, id)
		}
	})
}

// oddities have no place in an id.
const oddities = "/ %\"\\\n\x00"
