package gcp

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/gcp/gcptest"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

// patient is a time limit for tests that are not about it.
const patient = 10 * time.Second

// look polls once, as the loop does.
func look(t *testing.T, poll func(context.Context) ([]providers.Notice, error)) ([]providers.Notice, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patient)
	defer cancel()
	return poll(ctx)
}

// see polls once and wants these notices: their kinds, with an x before those withdrawn.
func see(t *testing.T, poll func(context.Context) ([]providers.Notice, error), kinds ...string) []providers.Notice {
	t.Helper()
	list, err := look(t, poll)
	var got []string
	for _, n := range list {
		kind := string(n.Kind)
		if n.Withdrawn {
			kind = "x" + kind
		}
		got = append(got, kind)
	}
	if err != nil || strings.Join(got, " ") != strings.Join(kinds, " ") {
		t.Fatalf("poll: %v %v, want %v", got, err, kinds)
	}
	return list
}

// wantResult checks the kind of a failure and what it says.
func wantResult(t *testing.T, err error, want providers.Result, says string) {
	t.Helper()
	var pe *providers.PollError
	if !errors.As(err, &pe) || pe.Result != want || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v is not %s with %q", err, want, says)
	}
}

func TestPreemptionHasTheDocumentedLead(t *testing.T) {
	fake := startFake(t)
	for lead, want := range map[time.Duration]time.Duration{0: 30 * time.Second, 2 * time.Minute: 2 * time.Minute} {
		fake.Reboot()
		s := newPreempted(t, fake, Options{Timeout: patient, Lead: lead})
		see(t, s.poll)
		fake.Preempt()
		n := see(t, s.poll, "preemption")[0]
		if n.Deadline.Sub(n.Seen) != want || n.Source != "gcp-preempted" || n.ID != "gcp-preempted-"+providers.BootID() {
			t.Errorf("notice %+v, want %v", n, want)
		}
		if again := see(t, s.poll, "preemption")[0]; !again.Deadline.Equal(n.Deadline) {
			t.Errorf("the deadline moves from poll to poll: %v, then %v", n.Deadline, again.Deadline)
		}
		fake.Reboot()
		see(t, s.poll) // never withdrawn
	}
}

// TestLongPollTellsAtOnce counts requests: a VM that is left alone costs one in each hold.
func TestLongPollTellsAtOnce(t *testing.T) {
	fake := startFake(t)
	fake.Behave(gcptest.Manner{})
	s := newPreempted(t, fake, Options{Hold: time.Minute, Timeout: patient})
	ctx, cancel := context.WithCancel(t.Context())
	notices, done := make(chan providers.Notice, 1), make(chan error, 1)
	go func() { done <- s.Run(ctx, notices) }()
	for begun := time.Now(); fake.Counts().Long == 0; runtime.Gosched() {
		if time.Since(begun) > patient {
			t.Fatal("no long poll")
		}
	}
	if c := fake.Counts(); c.Plain != 1 || c.Long != 1 {
		t.Errorf("requests before anything happened: %+v", c)
	}
	fake.Preempt()
	select {
	case n := <-notices:
		if n.Kind != providers.Preemption {
			t.Errorf("notice %+v", n)
		}
	case <-time.After(patient):
		t.Fatal("the long poll did not tell")
	}
	cancel()
	<-done
}

// TestBadLongPolls lets long polls misbehave in every way: the notice still comes, and nothing spins.
func TestBadLongPolls(t *testing.T) {
	for name, c := range map[string]struct {
		manner gcptest.Manner
		fault  *metadatatest.Fault
		plain  bool // falls back
		why    string
	}{
		"good":           {manner: gcptest.Manner{Second: time.Millisecond}},
		"cut":            {manner: gcptest.Manner{CutAfter: time.Millisecond}, plain: true, why: "it failed"},
		"at once":        {manner: gcptest.Manner{AtOnce: true}, plain: true, why: "it was answered before anything changed"},
		"new etags":      {manner: gcptest.Manner{NewEtags: true}, plain: true, why: "it was answered before anything changed"},
		"no etag":        {manner: gcptest.Manner{NoEtag: true}, plain: true},
		"refused":        {manner: gcptest.Manner{}, fault: &metadatatest.Fault{Kind: metadatatest.TooMany, On: gcptest.Long}, plain: true, why: "it failed"},
		"never answered": {manner: gcptest.Manner{}, fault: &metadatatest.Fault{Kind: metadatatest.BlackHole, On: gcptest.Long}, plain: true, why: "it failed"},
		"swallowed":      {manner: gcptest.Manner{Second: time.Hour}, plain: true, why: "it failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := startFake(t)
			fake.Behave(c.manner)
			if c.fault != nil {
				fake.Faults(*c.fault)
			}
			core, logs := observer.New(zap.InfoLevel)
			s := newPreempted(t, fake, Options{Hold: time.Millisecond, Timeout: 300 * time.Millisecond, Log: zap.New(core)})
			s.item.hold = time.Millisecond
			if name == "at once" || name == "new etags" {
				s.item.hold = time.Minute // any answer is early
			}
			for range 5 {
				see(t, s.poll)
			}
			long := fake.Counts().Long
			// Go's transport tries once more itself when a connection breaks that was used before.
			if c.plain != (long <= 2) {
				t.Errorf("%d long polls; fallback wanted: %v", long, c.plain)
			}
			seen := logs.FilterMessageSnippet("a long poll of the metadata misbehaved").All()
			if c.why == "" && len(seen) > 0 || c.why != "" && (len(seen) != 1 || seen[0].ContextMap()["why"] != c.why) {
				t.Errorf("logged %v, want once %q", seen, c.why)
			}
			if c.plain {
				if polls := fake.Counts().Plain; polls > 6 {
					t.Errorf("%d requests in 5 polls", polls)
				}
			}
			fake.Preempt()
			see(t, s.poll, "preemption")
		})
	}
}

// TestEtagThatNeverChanges is told late by its first long poll, and by plain polls from then on.
func TestEtagThatNeverChanges(t *testing.T) {
	fake := startFake(t)
	fake.Behave(gcptest.Manner{ConstantEtag: true, Second: 50 * time.Millisecond})
	s := newPreempted(t, fake, Options{Hold: time.Millisecond, Timeout: patient})
	see(t, s.poll)
	fake.Preempt()
	see(t, s.poll, "preemption")
	before := fake.Counts().Long
	see(t, s.poll, "preemption")
	if after := fake.Counts().Long; after != before || s.item.distrust != distrustFirst {
		t.Errorf("%d long polls after the etag was found out, distrust %v", after-before, s.item.distrust)
	}
	// When the time is over it is tried again, and put off for twice as long.
	s.item.until = time.Time{}
	fake.Reboot()
	see(t, s.poll)
	if s.item.distrust != 2*distrustFirst {
		t.Errorf("distrust %v, want %v", s.item.distrust, 2*distrustFirst)
	}
	fake.Behave(gcptest.Manner{Second: time.Millisecond})
	for range 2 { // the first hears of the new etag at once
		s.item.until = time.Time{}
		see(t, s.poll)
	}
	if s.item.distrust != 0 {
		t.Errorf("distrust %v after a good long poll", s.item.distrust)
	}
}

func TestFailuresAreClassified(t *testing.T) {
	for name, c := range map[string]struct {
		fault metadatatest.Kind
		want  providers.Result
		says  string
	}{
		"black hole": {metadatatest.BlackHole, providers.Timeout, "GET /computeMetadata/v1/instance/preempted was not answered in time"},
		"401":        {metadatatest.Unauthorized, providers.Denied, "401"},
		"403":        {metadatatest.Forbidden, providers.Denied, "hostNetwork"},
		"404":        {metadatatest.NotFound, providers.Status, "hostNetwork"},
		"429":        {metadatatest.TooMany, providers.Status, "429"},
		"500":        {metadatatest.Internal, providers.Status, "500"},
		"503":        {metadatatest.Unavailable, providers.Status, "503"},
		"redirect":   {metadatatest.Redirect, providers.Denied, "redirects"},
		"huge":       {metadatatest.Huge, providers.Malformed, "longer than"},
		"broken":     {metadatatest.Malformed, providers.Malformed, `"TRU" is neither`},
		"reset":      {metadatatest.Reset, providers.Unreachable, "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t)
			fake.Preempt()
			fake.Faults(metadatatest.Fault{Kind: c.fault})
			s := newPreempted(t, fake, Options{Hold: -1, Timeout: patient})
			if c.fault == metadatatest.BlackHole {
				s.item.timeout = 100 * time.Millisecond
			}
			_, err := look(t, s.poll)
			wantResult(t, err, c.want, c.says)
			s.item.timeout = patient
			fake.Faults()
			see(t, s.poll, "preemption")
			if fake.Redirected() != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

// TestNoRequestIsRepeated keeps the vendor's client from its pauses, which grow to half a minute.
func TestNoRequestIsRepeated(t *testing.T) {
	for _, kind := range []metadatatest.Kind{metadatatest.Unavailable, metadatatest.TooMany, metadatatest.Reset, metadatatest.Truncated} {
		var asked atomic.Int32
		fake := startFake(t)
		fake.Faults(metadatatest.Fault{Kind: kind})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			fake.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		s, err := NewPreempted(Options{Endpoint: server.URL, Timeout: patient})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := look(t, s.poll); err == nil || asked.Load() != 1 {
			t.Errorf("%s: %d requests, %v", kind, asked.Load(), err)
		}
	}
}

func TestForeignAnswersAreNotBelieved(t *testing.T) {
	fake := startFake(t)
	fake.Preempt()
	fake.Foreign(true)
	s := newPreempted(t, fake, Options{Hold: -1, Timeout: patient})
	_, err := look(t, s.poll)
	wantResult(t, err, providers.Denied, "something else answers")
	if Detect(t.Context(), fake.URL()) {
		t.Error("detected without Google's header")
	}
	m := newMaintenance(t, fake, Options{Hold: -1, Timeout: patient})
	_, _, said, err := m.readUpcoming(t.Context())
	if said == nothing || err == nil {
		t.Errorf("a 503 of something else is taken for an empty schedule: %v", err)
	}
	fake.Foreign(false)
	see(t, s.poll, "preemption")
	if c := fake.Counts(); c.NoFlavor != 0 {
		t.Errorf("%d requests without the header", c.NoFlavor)
	}
}

func TestDetect(t *testing.T) {
	fake := startFake(t)
	if !Detect(t.Context(), fake.URL()) {
		t.Error("not detected")
	}
	if c := fake.Counts(); c.Plain != 0 || c.Long != 0 {
		t.Errorf("detection asked for %+v", c)
	}
	for _, kind := range []metadatatest.Kind{metadatatest.NotFound, metadatatest.Reset, metadatatest.Redirect} {
		fake.Faults(metadatatest.Fault{Kind: kind})
		if Detect(t.Context(), fake.URL()) {
			t.Errorf("detected by %s", kind)
		}
	}
	fake.Faults(metadatatest.Fault{Kind: metadatatest.BlackHole})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if Detect(ctx, fake.URL()) || Detect(t.Context(), "nowhere") {
		t.Error("detected where nothing answers")
	}
}

func TestEnvironment(t *testing.T) {
	fake := startFake(t)
	fake.Preempt()
	t.Setenv(envHost, fake.Host())
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	s, err := NewPreempted(Options{Timeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	see(t, s.poll, "preemption")
	if !Detect(t.Context(), "") {
		t.Error("not detected")
	}
	for _, host := range []string{"http://x", "a b", "x/y"} {
		t.Setenv(envHost, host)
		if _, err := NewPreempted(Options{}); err == nil || !strings.Contains(err.Error(), "gcp-preempted: endpoint") {
			t.Errorf("%s: %v", host, err)
		}
		if _, err := NewMaintenance(Options{}); err == nil {
			t.Errorf("%s: no error", host)
		}
	}
	t.Setenv(envHost, "")
	if m, err := NewMaintenance(Options{}); err != nil || m.Name() != "gcp-maintenance" || m.Health().OK {
		t.Errorf("default: %v", err)
	}
}

func TestDecodeUpcoming(t *testing.T) {
	at := time.Date(2026, 12, 1, 19, 0, 1, 0, time.UTC)
	for body, want := range map[string]struct {
		ok, fails bool
		start     time.Time
	}{
		`{"window_start_time":"2026-12-01T19:00:01Z","maintenance_status":"PENDING"}`:             {ok: true, start: at},
		`{"windowStartTime":"2026-12-01T20:00:01+01:00","maintenanceStatus":"ONGOING"}`:           {ok: true, start: at},
		`{"Upcoming maintenance":{"window_start_time":"2026-12-01T19:00:01Z"}}`:                   {ok: true, start: at},
		`{"upcomingMaintenance":{"windowStartTime":"2026-12-01T19:00:01Z"}}`:                      {ok: true, start: at},
		`{"window_start_time":"2026-12-01T19:00:01Z","maintenance_status":"complete"}`:            {start: at},
		`{"window_start_time":"2026-12-01T19:00:01Z","window_end_time":"later","x":{"y":[null]}}`: {ok: true, start: at},
		`{}`: {}, ` { } `: {}, ``: {}, `NONE`: {}, `"NONE"`: {}, `{"maintenance_status":"COMPLETE"}`: {},
		`{"maintenance_status":"PENDING"}`:             {fails: true},
		`{"window_start_time":"2026-12-01"}`:           {fails: true},
		`{"window_start_time":"0001-01-01T00:00:00Z"}`: {fails: true},
		`{"window_start_time":7}`:                      {fails: true},
		`null`:                                         {fails: true},
		`TRUE`:                                         {fails: true},
		`{"window_start`:                               {fails: true},
	} {
		u, ok, err := decodeUpcoming(body)
		if ok != want.ok || (err != nil) != want.fails || err == nil && !u.start.Equal(want.start) {
			t.Errorf("%s: %+v %v %v", body, u, ok, err)
		}
	}
}

func FuzzDecodeUpcoming(f *testing.F) {
	for _, s := range []string{`{"window_start_time":"2026-12-01T19:00:01Z"}`, `{"upcoming_maintenance":{"upcoming_maintenance":null}}`, `{}`, `NONE`, `"`, ` `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		u, ok, err := decodeUpcoming(body)
		if ok && (err != nil || u.start.Year() < 2000) {
			t.Errorf("%q: %+v %v", body, u, err)
		}
		nothingUpcoming([]byte(body))
	})
}

func FuzzDecodeValues(f *testing.F) {
	for _, s := range []string{"TRUE", "FALSE\n", "NONE", gcptest.Migrate, gcptest.Terminate, "_ON_HOST_MAINTENANCE", "X Y_ON_HOST_MAINTENANCE", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		a := answer{value: value, found: true}
		if yes, err := decodePreempted(a); yes && (err != nil || strings.TrimSpace(value) != "TRUE") {
			t.Errorf("%q is a preemption", value)
		}
		kind, word, err := decodeEvent(a)
		if err == nil && (kind == "") != (word == "") || len(word) > 32 || strings.ContainsAny(word, " /%\n") {
			t.Errorf("%q: %s %q %v", value, kind, word, err)
		}
	})
}
