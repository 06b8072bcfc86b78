package aws

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

// slow is a source for tests that poll by hand: its time limit is no matter.
func slow(t *testing.T, c constructor, fake *awstest.Server, o Options) *Source {
	t.Helper()
	o.Timeout = 10 * time.Second
	return newTest(t, c, fake, o)
}

// sees polls once and compares what is returned with words as "drain aws-asg-x" or "withdrawn drain aws-asg-x".
func sees(t *testing.T, s *Source, want ...string) {
	t.Helper()
	found, err := look(t, s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range found {
		line := string(n.Kind) + " " + n.ID
		if n.Withdrawn {
			line = "withdrawn " + line
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("seen %q, want %q", got, want)
	}
}

func TestLifecycleStates(t *testing.T) {
	fake := startFake(t)
	s := slow(t, NewLifecycle, fake, Options{})
	id := func(state string) string { return "aws-asg-" + providers.BootID() + "-" + state }
	sees(t, s) // 404: in no group
	for _, step := range []struct {
		state string
		want  []string
	}{
		{"InService", nil},
		{"Terminated", []string{"drain " + id("Terminated")}},
		{"Terminated", []string{"drain " + id("Terminated")}},
		{"", []string{"drain " + id("Terminated")}}, // 404
		{"Warmed:Cold", []string{"drain " + id("Terminated")}},
		{"InService", []string{"withdrawn drain " + id("Terminated")}},
		{"InService", nil},
		{"Terminated", []string{"drain " + id("Terminated-2")}}, // another event
		{"Warmed:Stopped", []string{"drain " + id("Warmed:Stopped-2"), "withdrawn drain " + id("Terminated-2")}},
		{"Warmed:Running", []string{"cordon " + id("Warmed:Running-2"), "withdrawn drain " + id("Warmed:Stopped-2")}},
		{"Detached", []string{"withdrawn cordon " + id("Warmed:Running-2")}},
		{"Standby", []string{"cordon " + id("Standby-3")}},
		{"Warmed:Hibernated", []string{"drain " + id("Warmed:Hibernated-3"), "withdrawn cordon " + id("Standby-3")}},
		{"Warmed:Terminated", []string{"drain " + id("Warmed:Terminated-3"), "withdrawn drain " + id("Warmed:Hibernated-3")}},
	} {
		fake.Lifecycle(step.state)
		sees(t, s, step.want...)
	}
}

func TestLifecycleThatIsNoWordChangesNothing(t *testing.T) {
	fake := startFake(t)
	s := slow(t, NewLifecycle, fake, Options{InstanceID: "i-0abc", Lead: time.Hour})
	fake.Lifecycle("Terminated")
	n := one(t, s)
	if lead := n.Deadline.Sub(n.Seen); lead != time.Hour || n.ID != "aws-asg-i-0abc-"+providers.BootID()+"-Terminated" {
		t.Errorf("notice %+v", n)
	}
	for _, text := range []string{" ", "In Service", "<html>", "Terminated:", "a-b", strings.Repeat("x", 65)} {
		fake.Lifecycle(text)
		_, err := look(t, s)
		wantResult(t, err, providers.Malformed)
	}
	fake.Lifecycle("Terminated")
	if again := one(t, s); !again.Deadline.Equal(n.Deadline) {
		t.Errorf("%+v, then %+v", n, again)
	}
}

func TestRebalanceIsNoPromise(t *testing.T) {
	fake := startFake(t)
	at := time.Date(2027, 10, 27, 8, 22, 0, 0, time.UTC)
	fake.Recommend(at)
	n := one(t, slow(t, NewRebalance, fake, Options{}))
	if n.Kind != providers.Rebalance || n.ID != "aws-rebalance-2027-10-27T08:22:00Z" || !n.Deadline.Equal(at.Add(LeadTime)) {
		t.Errorf("notice %+v", n)
	}
	fake.RecommendDocument(`{"noticeTime":"a moment ago"}`)
	s := slow(t, NewRebalance, fake, Options{Lead: time.Minute})
	n = one(t, s)
	if n.Deadline.Sub(n.Seen) != time.Minute || n.ID != providers.EventID("aws-rebalance", "a moment ago") {
		t.Errorf("notice %+v", n)
	}
	if again := one(t, s); !again.Deadline.Equal(n.Deadline) {
		t.Errorf("the deadline moves: %v, then %v", n.Deadline, again.Deadline)
	}
	for _, document := range []string{`{}`, `[]`, `null`, `{"noticeTime":7}`} {
		fake.RecommendDocument(document)
		_, err := look(t, s)
		wantResult(t, err, providers.Malformed)
	}
}

var nextMonth = time.Now().Add(30 * 24 * time.Hour).Truncate(time.Second).UTC()

func TestDefect03ScheduledEventKeepsItsOwnTime(t *testing.T) {
	fake := startFake(t)
	fake.Schedule(awstest.Event{ID: "instance-event-0d59937288b749b32", Code: "instance-retirement", NotBefore: nextMonth})
	s := slow(t, NewScheduled, fake, Options{})
	named := func(at time.Time) string {
		return "aws-scheduled-instance-event-0d59937288b749b32-" + at.Format(time.RFC3339)
	}
	id := named(nextMonth)
	for range 3 {
		n := one(t, s)
		if n.Kind != providers.Maintenance || !n.Deadline.Equal(nextMonth) || n.ID != id {
			t.Errorf("notice %+v, want the deadline %v", n, nextMonth)
		}
	}
	fake.Schedule(awstest.Event{ID: "instance-event-0d59937288b749b32", Code: "instance-retirement", NotBefore: nextMonth.Add(time.Hour)})
	// One that is put off is another event, so that it is acted on although the first time may have been.
	sees(t, s, "maintenance "+named(nextMonth.Add(time.Hour)), "withdrawn maintenance "+id)
	if n := one(t, s); !n.Deadline.Equal(nextMonth.Add(time.Hour)) {
		t.Errorf("an event that was put off: %+v", n)
	}
}

func TestDefect03EventWithoutATimeStartsNothing(t *testing.T) {
	fake := startFake(t)
	s := slow(t, NewScheduled, fake, Options{})
	for _, when := range []string{`""`, `"soon"`, `7`, `null`, `"1 Jan 1970 00:00:00 GMT"`} {
		fake.ScheduleDocument(`[{"EventId":"instance-event-1","Code":"system-reboot","State":"active","NotBefore":` + when + `}]`)
		sees(t, s)
	}
}

func TestScheduledEvents(t *testing.T) {
	fake := startFake(t)
	s := slow(t, NewScheduled, fake, Options{})
	event := func(id, state string) awstest.Event {
		return awstest.Event{ID: id, Code: "system-reboot", State: state, NotBefore: nextMonth}
	}
	at := func(id string, at time.Time) string {
		return "maintenance aws-scheduled-" + id + "-" + at.Format(time.RFC3339)
	}
	note := func(id string) string { return at(id, nextMonth) }
	sees(t, s)
	fake.Schedule(event("a", ""), event("b", "active"), event("c", "canceled"), event("d", "completed"))
	sees(t, s, note("a"), note("b"))
	fake.ScheduleDocument("") // 404
	sees(t, s, note("a"), note("b"))
	fake.Schedule(event("a", "canceled"), event("b", "active"))
	sees(t, s, note("b"), "withdrawn "+note("a"))
	sees(t, s, note("b"))
	// One that can't be read hides none of the others, and ends none: it may be the one that is missing.
	fake.ScheduleDocument(`[{"EventId":7},{"EventId":"e","Code":"x","State":"active","NotBefore":"` + nextMonth.Add(1e9).Format("2 Jan 2006 15:04:05 GMT") + `"}]`)
	sees(t, s, note("b"), at("e", nextMonth.Add(1e9)))
	fake.Schedule()
	sees(t, s, "withdrawn "+note("b"), "withdrawn "+at("e", nextMonth.Add(1e9)))
	sees(t, s)
	for _, document := range []string{`null`, `{}`, `"x"`, `[`, "[" + strings.Repeat("{},", maxEvents) + "{}]"} {
		fake.ScheduleDocument(document)
		_, err := look(t, s)
		wantResult(t, err, providers.Malformed)
	}
	fake.ScheduleDocument(`[{"Code":"system-reboot","NotBefore":"21 Jan 2029 09:00:43 GMT"},{"EventId":"a b","NotBefore":"21 Jan 2029 09:00:44 GMT"}]`)
	sees(t, s, "maintenance aws-scheduled-system-reboot-2029-01-21T09:00:43Z", "maintenance "+providers.EventID("aws-scheduled", "a b", "2029-01-21T09:00:44Z"))
}

func TestTwoEventsWithOneIDAreOne(t *testing.T) {
	fake := startFake(t)
	twice := func(first, second time.Time) {
		fake.Schedule(awstest.Event{ID: "a", Code: "system-reboot", NotBefore: first}, awstest.Event{ID: "a", Code: "instance-stop", NotBefore: second})
	}
	s := slow(t, NewScheduled, fake, Options{})
	for range 2 {
		twice(nextMonth.Add(time.Hour), nextMonth)
		if n := one(t, s); !n.Deadline.Equal(nextMonth) {
			t.Errorf("notice %+v, want the earlier time", n)
		}
		twice(nextMonth, nextMonth.Add(time.Hour))
	}
}

// all makes the four sources of one agent.
func all(t *testing.T, fake *awstest.Server) map[string]*Source {
	t.Helper()
	c, err := NewClient(fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]*Source)
	reg := prometheus.NewPedanticRegistry()
	for _, make := range []constructor{NewSpot, NewRebalance, NewLifecycle, NewScheduled} {
		s := slow(t, make, fake, Options{Client: c, Metrics: reg})
		list[s.Name()] = s
	}
	return list
}

func TestSourcesShareAToken(t *testing.T) {
	fake := startFake(t)
	sources := all(t, fake)
	for range 3 {
		for _, s := range sources {
			sees(t, s)
		}
	}
	if c := fake.Counts(); c.Tokens != 1 || c.Unauthorized != 0 {
		t.Errorf("four sources: %+v, want one token", c)
	}
}

func TestDefect11NoneOfOneItemEndsNoNoticeOfAnother(t *testing.T) {
	fake := startFake(t)
	fake.Announce("terminate", inAMinute)
	fake.Lifecycle("InService")
	sources := all(t, fake)
	ctx, cancel := context.WithCancel(t.Context())
	notices, done := make(chan providers.Notice, 100), make(chan error, len(sources))
	for _, s := range sources {
		go func() { done <- s.Run(ctx, notices) }()
	}
	first := <-notices
	for _, item := range []func(){
		func() { fake.Lifecycle("Terminated") },
		func() { fake.Schedule(awstest.Event{ID: "e", Code: "system-reboot", NotBefore: nextMonth}) },
		func() { fake.Recommend(inAMinute) },
	} {
		item()
		if n := <-notices; n.Withdrawn || n.ID == first.ID {
			t.Errorf("notice %+v", n)
		}
	}
	// Everything but the interruption goes away again.
	fake.Lifecycle("InService")
	if n := <-notices; !n.Withdrawn || n.Source != LifecycleName {
		t.Errorf("notice %+v", n)
	}
	fake.Schedule()
	if n := <-notices; !n.Withdrawn || n.Source != ScheduledName {
		t.Errorf("notice %+v", n)
	}
	fake.RecommendDocument("")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(sources[RebalanceName].Notices()) > 0 {
		<-tick.C
	}
	if got := sources[SpotName].Notices(); len(got) != 1 || got[0].ID != first.ID || first.Source != SpotName {
		t.Errorf("interruptions in sight: %v", got)
	}
	cancel()
	for range sources {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}
	if len(notices) > 0 {
		t.Errorf("also sent: %+v", <-notices)
	}
}

func TestDetect(t *testing.T) {
	t.Setenv(envDisabled, "")
	ask := func(endpoint string) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return Detect(ctx, endpoint)
	}
	fake := startFake(t)
	if !ask(fake.URL()) {
		t.Error("EC2 is not detected")
	}
	if c := fake.Counts(); c.Looks != 0 {
		t.Errorf("detection looked for notices: %+v", c)
	}
	for _, kind := range []metadatatest.Kind{metadatatest.Forbidden, metadatatest.NotFound, metadatatest.Malformed, metadatatest.Redirect, metadatatest.Reset} {
		fake.Faults(metadatatest.Fault{Kind: kind})
		if ask(fake.URL()) {
			t.Errorf("EC2 is detected where every answer is %s", kind)
		}
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A service that answers everything, as some clouds' do.
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		_, _ = w.Write([]byte("ok"))
	}))
	t.Cleanup(other.Close)
	if ask(other.URL) || ask("no URL") {
		t.Error("EC2 is detected elsewhere")
	}
	t.Setenv(envDisabled, "true")
	fake.Faults()
	if ask(fake.URL()) {
		t.Error("asked although the environment forbids it")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"lead":     {Lead: -time.Second},
		"interval": {Interval: -time.Second},
		"endpoint": {Endpoint: "169.254.169.254"},
	} {
		for _, make := range []constructor{NewSpot, NewRebalance, NewLifecycle, NewScheduled} {
			if s, err := make(o); err == nil || s != nil {
				t.Errorf("%s: accepted by %s", name, s.Name())
			}
		}
	}
}

func FuzzDecodeEvents(f *testing.F) {
	for _, s := range []string{
		`[{"NotBefore":"21 Jan 2019 09:00:43 GMT","Code":"system-reboot","EventId":"instance-event-0d59937288b749b32","State":"active"}]`,
		`[]`, `null`, `{}`, `[1]`, `[{}]`, `[{"State":"canceled"}]`, `[{"NotBefore":"99 Jan 2019 09:00:43 GMT"}]`, `[[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := decodeEvents(body)
		if err != nil {
			return
		}
		for _, raw := range list {
			e, err := decodeEvent(raw)
			if err != nil {
				continue
			}
			if e.at.IsZero() && !e.over() {
				t.Errorf("%q: an event without a time", raw)
			}
			if id := providers.EventID(ScheduledName, e.id()...); len(id) > 150 || strings.ContainsAny(id, oddities) {
				t.Errorf("%q: id %q", raw, id)
			}
		}
	})
}

func FuzzDecodeRecommendation(f *testing.F) {
	for _, s := range []string{`{"noticeTime":"2020-10-27T08:22:00Z"}`, `{"noticeTime":""}`, `{}`, `[]`, `{"noticeTime":"9999-99-99"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeRecommendation(body)
		if err != nil {
			return
		}
		if r.NoticeTime == "" || r.at.Year() > 1 && r.at.Year() < 2000 {
			t.Errorf("%q: %+v", body, r)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	for _, s := range []string{"InService", "Warmed:Stopped\n", "", " ", "a b", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		state, err := decodeState(body)
		if err == nil && (state == "" || len(state) > 64 || strings.ContainsAny(state, oddities)) {
			t.Errorf("%q: state %q", body, state)
		}
	})
}
