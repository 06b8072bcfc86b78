package gcp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/gcp/gcptest"
)

func TestMaintenanceEvents(t *testing.T) {
	fake := startFake(t)
	m := newMaintenance(t, fake, Options{Timeout: patient})
	m.every = time.Hour
	see(t, m.poll)
	fake.Event(gcptest.Migrate)
	first := see(t, m.poll, "pause")[0]
	if first.Deadline.Sub(first.Seen) != time.Minute {
		t.Errorf("notice %+v", first)
	}
	fake.Event(gcptest.Migrate) // another version of the same words
	if again := see(t, m.poll, "pause")[0]; again.ID != first.ID || !again.Deadline.Equal(first.Deadline) {
		t.Errorf("%+v, then %+v", first, again)
	}
	fake.Event(gcptest.Terminate)
	list := see(t, m.poll, "maintenance", "xpause")
	if list[1].ID != first.ID {
		t.Errorf("withdrawn: %s, want %s", list[1].ID, first.ID)
	}
	fake.Event(gcptest.NoEvent)
	see(t, m.poll, "xmaintenance")
	see(t, m.poll)
	fake.Event("SHUTDOWN_ON_HOST_MAINTENANCE")
	see(t, m.poll, "maintenance")
}

func TestSameEtagTwiceIsTwoEvents(t *testing.T) {
	fake := startFake(t)
	fake.Behave(gcptest.Manner{ConstantEtag: true})
	m := newMaintenance(t, fake, Options{Hold: -1, Timeout: patient})
	ids := map[string]bool{}
	for range 3 {
		fake.Event(gcptest.Terminate)
		ids[see(t, m.poll, "maintenance")[0].ID] = true
		fake.Event(gcptest.NoEvent)
		see(t, m.poll, "xmaintenance")
	}
	if len(ids) != 3 {
		t.Errorf("ids of three events: %v", ids)
	}
}

// TestDefect11NoneOfOneItemWithdrawsNothingOfTheOther has two items that end on their own.
func TestDefect11NoneOfOneItemWithdrawsNothingOfTheOther(t *testing.T) {
	fake := startFake(t)
	m := newMaintenance(t, fake, Options{Hold: -1, Timeout: patient})
	start := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	fake.Schedule(start, start.Add(time.Hour), "PENDING")
	window := see(t, m.poll, "maintenance")[0]
	if !window.Deadline.Equal(start) || window.ID != "gcp-maintenance-window-"+start.UTC().Format(time.RFC3339) {
		t.Errorf("notice %+v", window)
	}
	fake.Event(gcptest.Terminate)
	see(t, m.poll, "maintenance", "maintenance")
	fake.Event(gcptest.NoEvent)
	see(t, m.poll, "maintenance", "xmaintenance")
	fake.Event(gcptest.Terminate)
	see(t, m.poll, "maintenance", "maintenance")
	fake.ScheduleDocument("")
	if list := see(t, m.poll, "xmaintenance", "maintenance"); list[0].ID != window.ID {
		t.Errorf("withdrawn: %s", list[0].ID)
	}
	see(t, m.poll, "maintenance")
}

// TestNewsPassesWhenTheOtherItemFails hides one item behind a fault that only its requests have.
func TestNewsPassesWhenTheOtherItemFails(t *testing.T) {
	fake := startFake(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "upcoming") {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	m, err := NewMaintenance(Options{Endpoint: server.URL, Hold: -1, Timeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	_, err = look(t, m.poll)
	wantResult(t, err, providers.Status, "upcoming-maintenance: 502")
	fake.Event(gcptest.Terminate)
	see(t, m.poll, "maintenance")
	_, err = look(t, m.poll)
	wantResult(t, err, providers.Status, "502")
	fake.Event(gcptest.NoEvent)
	see(t, m.poll, "xmaintenance")
}

func TestSchedule(t *testing.T) {
	start := time.Now().Add(3 * time.Hour).Truncate(time.Second)
	fake := startFake(t)
	m := newMaintenance(t, fake, Options{Hold: -1, Timeout: patient})
	fake.Schedule(start, start.Add(time.Hour), "PENDING")
	first := see(t, m.poll, "maintenance")[0]
	later := start.Add(24 * time.Hour)
	fake.Schedule(later, later.Add(time.Hour), "PENDING") // put off
	list := see(t, m.poll, "maintenance", "xmaintenance")
	if list[1].ID != first.ID || !list[0].Deadline.Equal(later) {
		t.Errorf("put off: %+v", list)
	}
	fake.Schedule(later, later.Add(time.Hour), "COMPLETE")
	see(t, m.poll, "xmaintenance")

	begun := time.Now().Add(-time.Minute)
	fake.Schedule(begun, begun.Add(time.Hour), "ONGOING")
	if n := see(t, m.poll, "maintenance")[0]; n.Deadline.Sub(n.Seen) != MaintenanceLead {
		t.Errorf("begun: %+v", n)
	}
	fake.Schedule(begun.Add(-2*time.Hour), begun.Add(-time.Hour), "ONGOING")
	see(t, m.poll, "xmaintenance") // its end is past
}

func TestPolicySaysWhatMaintenanceIs(t *testing.T) {
	start := time.Now().Add(3 * time.Hour).Truncate(time.Second)
	fake := startFake(t)
	fake.Policy("MIGRATE")
	m := newMaintenance(t, fake, Options{Hold: -1, Timeout: patient})
	fake.Schedule(start, start.Add(time.Hour), "PENDING")
	n := see(t, m.poll, "pause")[0]
	fake.Policy("TERMINATE")
	if again := see(t, m.poll, "maintenance")[0]; again.ID != n.ID || !again.Seen.Equal(n.Seen) {
		t.Errorf("%+v, then %+v", n, again)
	}
}

// TestUnreadableSchedule says nothing about what was announced before.
func TestUnreadableSchedule(t *testing.T) {
	start := time.Now().Add(3 * time.Hour).Truncate(time.Second)
	document := ""
	status := http.StatusServiceUnavailable
	fake := startFake(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "upcoming") || document == "" {
			fake.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Metadata-Flavor", "Google")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(document))
	}))
	t.Cleanup(server.Close)
	m, err := NewMaintenance(Options{Endpoint: server.URL, Hold: -1, Timeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	m.every = 0
	fake.Schedule(start, start.Add(time.Hour), "PENDING")
	see(t, m.poll, "maintenance")
	for _, c := range []struct {
		status   int
		document string
		want     string // of the health; "" is good
	}{
		{503, "<html>", "503"},
		{503, `{"error": ""}`, "503"},
		{503, `{"error": "out of order"}`, ""},
		{404, "not found", ""},
		{403, `{}`, "403"},
		{200, `{"window_start_time": "soon"}`, "is no time"},
		{200, `[]`, "cannot unmarshal"},
		{200, `{"maintenance_status": "ONGOING"}`, "no window_start_time"},
	} {
		status, document = c.status, c.document
		list, err := look(t, m.poll)
		if c.want == "" {
			if err != nil || len(list) != 1 || list[0].Withdrawn {
				t.Errorf("%d %s: %v %v", c.status, c.document, list, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d %s: %v, want %q", c.status, c.document, err, c.want)
		}
	}
	status, document = 200, "{ }"
	see(t, m.poll, "xmaintenance")
}
