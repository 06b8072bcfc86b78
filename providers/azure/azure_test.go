package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/azure/azuretest"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

// inAnHour is when events of the tests may start, unless they say otherwise.
var inAnHour = time.Now().Add(time.Hour).Truncate(time.Second).UTC()

// slowEvents is a source for tests that poll by hand: its time limit is no matter.
func slowEvents(t *testing.T, fake *azuretest.Server, o Options) *Events {
	t.Helper()
	o.Timeout, o.FirstTimeout = 10*time.Second, 10*time.Second
	return newEvents(t, fake, o)
}

// look polls once.
func look(t *testing.T, s *Events) []providers.Notice {
	t.Helper()
	found, err := s.poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// one polls once, for one notice.
func one(t *testing.T, s *Events) providers.Notice {
	t.Helper()
	found := look(t, s)
	if len(found) != 1 {
		t.Fatalf("%d notices: %+v", len(found), found)
	}
	return found[0]
}

// about says whether a deadline is the lead after some moment since before.
func about(deadline, before time.Time, lead time.Duration) bool {
	return !deadline.Before(before.Add(lead)) && !deadline.After(time.Now().Add(lead))
}

func TestTypesOfEvents(t *testing.T) {
	for name, c := range map[string]struct {
		event azuretest.Event
		want  providers.Kind
		known bool
	}{
		"preempt":                 {azuretest.Event{Type: "Preempt"}, providers.Preemption, true},
		"terminate":               {azuretest.Event{Type: "Terminate"}, providers.Drain, true},
		"reboot":                  {azuretest.Event{Type: "Reboot"}, providers.Maintenance, true},
		"reboot by the user":      {azuretest.Event{Type: "Reboot", Source: "User"}, providers.Maintenance, true},
		"redeploy":                {azuretest.Event{Type: "Redeploy"}, providers.Maintenance, true},
		"freeze":                  {azuretest.Event{Type: "Freeze", Seconds: 9}, providers.Pause, true},
		"freeze, length unknown":  {azuretest.Event{Type: "Freeze"}, providers.Pause, true},
		"other case":              {azuretest.Event{Type: "PREEMPT"}, providers.Preemption, true},
		"unknown":                 {azuretest.Event{Type: "Levitate", Seconds: 9}, providers.Maintenance, false},
		"unknown, length unknown": {azuretest.Event{Type: "Levitate"}, providers.Maintenance, false},
		"unknown, no impact":      {azuretest.Event{Type: "Levitate", NoImpact: true}, providers.Pause, false},
	} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t)
			c.event.NotBefore = inAnHour
			id := fake.Schedule(c.event)
			core, logs := observer.New(zap.WarnLevel)
			n := one(t, slowEvents(t, fake, Options{Log: zap.New(core)}))
			if n.Kind != c.want || n.ID != "azure-events-"+id || n.Source != "azure-events" || !n.Deadline.Equal(inAnHour) || n.Withdrawn {
				t.Errorf("notice: %+v", n)
			}
			if said := logs.FilterMessageSnippet("unknown type").Len() == 1; said == c.known {
				t.Errorf("said that the type is unknown: %v", said)
			}
		})
	}
}

func TestHardwareFailureGoesStraightToStarted(t *testing.T) {
	fake := startFake(t)
	fake.Schedule(azuretest.Event{Type: "Reboot"}) // no time: it has begun
	s := slowEvents(t, fake, Options{Lead: 20 * time.Second})
	before := time.Now()
	n := one(t, s)
	if n.Kind != providers.Maintenance || !about(n.Deadline, before, 20*time.Second) {
		t.Errorf("notice: %+v", n)
	}
	if again := one(t, s); !again.Deadline.Equal(n.Deadline) {
		t.Errorf("the deadline moved from %v to %v", n.Deadline, again.Deadline)
	}
}

func TestEventThatBeginsEarlyBringsTheDeadlineForward(t *testing.T) {
	fake := startFake(t)
	id := fake.Schedule(azuretest.Event{Type: "Terminate", NotBefore: inAnHour})
	s := slowEvents(t, fake, Options{})
	one(t, s)
	before := time.Now()
	fake.Begin(id) // another machine acknowledged it
	n := one(t, s)
	if !about(n.Deadline, before, DefaultLead) || n.ID != Name+"-"+id {
		t.Errorf("notice: %+v", n)
	}
	if again := one(t, s); !again.Deadline.Equal(n.Deadline) {
		t.Errorf("the deadline moved from %v to %v", n.Deadline, again.Deadline)
	}
}

func TestEventThatBeginsInTimeKeepsItsDeadline(t *testing.T) {
	now := time.Now()
	e := event{EventStatus: "Started"}
	if got := e.deadline(now, now.Add(time.Second), 0, DefaultLead); !got.Equal(now) {
		t.Errorf("deadline %v, want %v", got, now)
	}
}

func TestDeadlines(t *testing.T) {
	now := time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)
	const lead = 30 * time.Second
	rfc1123 := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		notBefore, status string
		before            time.Duration // 0: a new event
		skew              time.Duration
		want              time.Duration
	}{
		"scheduled":                       {rfc1123(time.Minute), "Scheduled", 0, 0, time.Minute},
		"scheduled, our clock ahead":      {rfc1123(time.Minute), "Scheduled", 0, 2 * time.Minute, 3 * time.Minute},
		"scheduled, our clock behind":     {rfc1123(5 * time.Minute), "Scheduled", 0, -2 * time.Minute, 3 * time.Minute},
		"moved to later":                  {rfc1123(time.Hour), "Scheduled", time.Minute, 0, time.Hour},
		"moved to earlier":                {rfc1123(time.Minute), "Scheduled", time.Hour, 0, time.Minute},
		"RFC 3339":                        {now.Add(time.Minute).Format(time.RFC3339), "Scheduled", 0, 0, time.Minute},
		"started":                         {"", "Started", 0, 0, lead},
		"started, its time is still told": {rfc1123(time.Hour), "Started", 0, 0, lead},
		"started in time":                 {"", "Started", time.Second, 0, time.Second},
		"started late":                    {"", "Started", -time.Second, 0, -time.Second},
		"started early":                   {"", "Started", time.Hour, 0, lead},
		"time over, seen first":           {rfc1123(-time.Hour), "Scheduled", 0, 0, lead},
		"no time":                         {"", "Scheduled", 0, 0, lead},
		"bad time":                        {"soon", "Scheduled", 0, 0, lead},
		"bad time after a good one":       {"soon", "Scheduled", time.Second, 0, time.Second},
		"time of another zone":            {"Thu, 04 Mar 2027 05:10:07 PST", "Scheduled", 0, 0, lead},
		"year 1":                          {"Mon, 01 Jan 0001 00:00:00 GMT", "Scheduled", 0, 0, lead},
		"unknown status":                  {rfc1123(time.Minute), "Pondered", 0, 0, time.Minute},
	} {
		var before time.Time
		if c.before != 0 {
			before = now.Add(c.before)
		}
		e := event{NotBefore: c.notBefore, EventStatus: c.status}
		if got := e.deadline(before, now, c.skew, lead).Sub(now); got != c.want {
			t.Errorf("%s: %v from now, want %v", name, got, c.want)
		}
	}
}

func TestMeasuredClockDoesNotMoveTheDeadline(t *testing.T) {
	fake := startFake(t)
	fake.Schedule(azuretest.Event{NotBefore: inAnHour})
	s := slowEvents(t, fake, Options{})
	fake.Skew(2 * time.Minute)
	first := one(t, s)
	fake.Skew(2*time.Minute + 3*time.Second)
	if n := one(t, s); !n.Deadline.Equal(first.Deadline) {
		t.Errorf("moved by %v", n.Deadline.Sub(first.Deadline))
	}
}

func TestEventOfAnotherMachineOfThePlacementGroupIsNoNotice(t *testing.T) {
	fake := startFake(t)
	fake.Schedule(azuretest.Event{Resources: []string{"workers_33", "workers_4"}, NotBefore: inAnHour})
	fake.Schedule(azuretest.Event{Resources: []string{"workers_"}, NotBefore: inAnHour})
	s := slowEvents(t, fake, Options{})
	if found := look(t, s); len(found) != 0 {
		t.Errorf("notices: %+v", found)
	}
	ours := fake.Schedule(azuretest.Event{Resources: []string{"workers_4", "Workers_3"}, NotBefore: inAnHour})
	if n := one(t, s); n.ID != Name+"-"+ours {
		t.Errorf("notice: %+v", n)
	}
}

func TestNameOfTheMachine(t *testing.T) {
	fake := startFake(t)
	fake.Rename("")
	fake.Schedule(azuretest.Event{NotBefore: inAnHour})
	s := slowEvents(t, fake, Options{})
	if _, err := s.poll(t.Context()); err == nil || !strings.Contains(err.Error(), "set providers.azure.vmName") {
		t.Errorf("unknown name: %v", err)
	}
	fake.Rename("<html>login</html>")
	if _, err := s.poll(t.Context()); err == nil {
		t.Error("a page was taken for a name")
	}
	fake.Rename(azuretest.VM)
	for range 5 {
		one(t, s)
	}
	if c := fake.Counts(); c.Names != 2 { // the page, and the name
		t.Errorf("name asked for %d times", c.Names)
	}

	fake.Rename("")
	one(t, slowEvents(t, fake, Options{VM: "WORKERS_3"}))
	if found := look(t, slowEvents(t, fake, Options{VM: "workers_4"})); len(found) != 0 {
		t.Errorf("notices for the configured name: %+v", found)
	}
}

func TestFirstCallMayTakeMinutes(t *testing.T) {
	fake := startFake(t)
	fake.FirstCall(500 * time.Millisecond)
	fake.Schedule(azuretest.Event{NotBefore: inAnHour})
	s := newEvents(t, fake, Options{VM: azuretest.VM, Interval: time.Millisecond, Timeout: 20 * time.Millisecond, FirstTimeout: time.Minute})
	notices := make(chan providers.Notice)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, notices) }()
	for s.Health().Error == "not polled yet" {
		<-time.After(time.Millisecond)
	}
	if h := s.Health(); h.OK || !strings.Contains(h.Error, "first call pending") {
		t.Errorf("while the first call is pending: %+v", h)
	}
	<-notices
	if h := s.Health(); !h.OK || h.Error != "" {
		t.Errorf("after the first call: %+v", h)
	}
	cancel()
	<-done
}

func TestFirstCallThatFailsIsSaid(t *testing.T) {
	fake := startFake(t)
	fake.Faults(metadatatest.Fault{Kind: metadatatest.Gone, On: azuretest.Look})
	s := slowEvents(t, fake, Options{})
	if _, err := s.poll(t.Context()); err == nil || !strings.Contains(err.Error(), "410") {
		t.Errorf("error %v", err)
	}
	if h := s.Health(); strings.Contains(h.Error, "pending") {
		t.Errorf("health %+v", h)
	}
}

func TestLostFirstRequestDoesNotBlindTheSource(t *testing.T) {
	fake := startFake(t)
	fake.Schedule(azuretest.Event{NotBefore: inAnHour})
	fake.Faults(metadatatest.Fault{Kind: metadatatest.BlackHole, On: azuretest.Look, Count: 1})
	s := newEvents(t, fake, Options{VM: azuretest.VM, FirstTimeout: time.Hour, Timeout: 50 * time.Millisecond})
	one(t, s)
}

func TestDocumentThatProvesNothingWithdrawsNothing(t *testing.T) {
	ours := event{EventID: "a", EventType: "Redeploy", EventStatus: "Scheduled", NotBefore: inAnHour.Format(http.TimeFormat), Resources: []string{"vm"}}
	with := document{number: 7, numbered: true, events: []event{ours}}
	for name, c := range map[string]struct {
		doc  document
		ends int // with how many of these documents the event has ended; 0 is never
	}{
		"higher number":         {document{number: 8, numbered: true}, 1},
		"same number":           {document{number: 7, numbered: true}, 0},
		"lower number":          {document{number: 1, numbered: true}, patience},
		"no number":             {document{}, 0},
		"unreadable event":      {document{number: 8, numbered: true, broken: 1}, 0},
		"event of another VM":   {document{number: 8, numbered: true, events: []event{{EventID: "b", Resources: []string{"other"}}}}, 1},
		"another event of ours": {document{number: 8, numbered: true, events: []event{{EventID: "b", Resources: []string{"vm"}}}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newEvents(t, startFake(t), Options{})
			if found, err := s.update(with, "vm", time.Now(), 0); err != nil || len(found) != 1 {
				t.Fatalf("%+v %v", found, err)
			}
			ended := 0
			for i := range 2 * patience {
				found, err := s.update(c.doc, "vm", time.Now(), 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range found {
					if n.Withdrawn && n.ID == ours.id() && ended == 0 {
						ended = i + 1
					} else if n.Withdrawn {
						t.Errorf("document %d: withdrawn again: %+v", i+1, n)
					}
				}
				if n := len(found); ended == 0 && !has(found, ours.id()) {
					t.Errorf("document %d: %d notices, not the one that holds", i+1, n)
				}
			}
			if ended != c.ends {
				t.Errorf("ended with document %d, want %d", ended, c.ends)
			}
		})
	}
}

func TestOldDocumentBetweenNewOnesWithdrawsNothing(t *testing.T) {
	s := newEvents(t, startFake(t), Options{})
	with := document{number: 7, numbered: true, events: []event{{EventID: "a", EventType: "Preempt", Resources: []string{"vm"}}}}
	for range 5 * patience {
		for _, d := range []document{with, {number: 6, numbered: true}} {
			if found, err := s.update(d, "vm", time.Now(), 0); err != nil || len(found) != 1 || found[0].Withdrawn {
				t.Fatalf("document %d: %+v %v", d.number, found, err)
			}
		}
	}
}

func TestEventThatIsBackIsANoticeAgain(t *testing.T) {
	fake := startFake(t)
	e := azuretest.Event{ID: "a", NotBefore: inAnHour}
	fake.Replace(e)
	s := slowEvents(t, fake, Options{})
	one(t, s)
	fake.Replace()
	if n := one(t, s); !n.Withdrawn {
		t.Errorf("%+v", n)
	}
	if found := look(t, s); len(found) != 0 {
		t.Errorf("after the withdrawal: %+v", found)
	}
	fake.Replace(e)
	if n := one(t, s); n.Withdrawn {
		t.Errorf("%+v", n)
	}
}

func TestBrokenEventDoesNotHideOthers(t *testing.T) {
	const ours = `{"EventId":"a","EventType":"Preempt","Resources":["workers_3"],"NotBefore":""}`
	for name, broken := range map[string]string{
		"text":          `"Preempt"`,
		"null":          `null`,
		"no id":         `{"EventType":"Preempt","Resources":["workers_3"]}`,
		"no resources":  `{"EventId":"b","EventType":"Preempt"}`,
		"bad resources": `{"EventId":"b","EventType":"Preempt","Resources":"workers_3"}`,
	} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t)
			fake.Show(fmt.Sprintf(`{"DocumentIncarnation":3,"Events":[%s,%s]}`, broken, ours))
			s := slowEvents(t, fake, Options{})
			if n := one(t, s); n.ID != "azure-events-a" {
				t.Errorf("%+v", n)
			}
			fake.Show(fmt.Sprintf(`{"DocumentIncarnation":4,"Events":[%s]}`, broken))
			if n := one(t, s); n.Withdrawn {
				t.Error("withdrawn by a document that can't be read to the end")
			}
			// Without anything else to say the source says that.
			_, err := slowEvents(t, fake, Options{}).poll(t.Context())
			var pe *providers.PollError
			if !errors.As(err, &pe) || pe.Result != providers.Malformed {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestDetect(t *testing.T) {
	fake := startFake(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !Detect(ctx, fake.URL()) {
		t.Error("Azure is not detected")
	}
	if c := fake.Counts(); c.Looks != 0 {
		t.Error("scheduled events were switched on")
	}
	aws, err := awstest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer aws.Close()
	anything := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("Azure is nice")) }))
	defer anything.Close()
	for name, url := range map[string]string{"EC2": aws.URL(), "anything": anything.URL, "nothing": "http://127.0.0.1:1", "no URL": "::"} {
		if Detect(ctx, url) {
			t.Errorf("%s is taken for Azure", name)
		}
	}
	fake.Faults(metadatatest.Fault{Kind: metadatatest.BlackHole})
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if Detect(short, fake.URL()) {
		t.Error("no answer is taken for Azure")
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, o := range map[string]Options{
		"endpoint": {Endpoint: "169.254.169.254"},
		"lead":     {Lead: -1},
		"interval": {Interval: -1},
		"timeout":  {Timeout: -1},
		"first":    {FirstTimeout: -1},
	} {
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), Name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	s, err := New(Options{})
	if err != nil || DefaultEndpoint != "http://169.254.169.254" || s.o.Interval != time.Second || s.o.FirstTimeout < 2*time.Minute || s.o.Lead != 30*time.Second {
		t.Errorf("defaults: %+v %v", s.o, err)
	}
}
