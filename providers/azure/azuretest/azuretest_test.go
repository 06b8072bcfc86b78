package azuretest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	events = eventsPath + "?api-version=2020-07-01"
	name   = instancePath + "name?api-version=2021-02-01&format=text"
)

// ask sends one request with the header that is demanded, and these (name, value, name, value …).
func ask(t *testing.T, s *Server, method, path, body string, headers ...string) (status int, answer string) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Metadata", "true")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

// document asks for the events and reads them as a client would.
func document(t *testing.T, s *Server) (number int, list []map[string]any) {
	t.Helper()
	var d struct {
		DocumentIncarnation int
		Events              []map[string]any
	}
	status, body := ask(t, s, "GET", events, "")
	if err := json.Unmarshal([]byte(body), &d); status != 200 || err != nil || d.Events == nil {
		t.Fatalf("%d %v: %s", status, err, body)
	}
	return d.DocumentIncarnation, d.Events
}

func TestRequests(t *testing.T) {
	s := New()
	id := s.Schedule(Event{NotBefore: time.Now().Add(time.Hour)})
	for what, c := range map[string]struct {
		method, path, body string
		headers            []string
		want               int
		says               string
	}{
		"events":           {"GET", events, "", nil, 200, id},
		"no header":        {"GET", events, "", []string{"Metadata", ""}, 400, "Required metadata header not specified"},
		"through a proxy":  {"GET", events, "", []string{"X-Forwarded-For", "10.0.0.1"}, 400, ""},
		"no version":       {"GET", eventsPath, "", nil, 400, "newest-versions"},
		"two versions":     {"GET", events + "&api-version=2020-07-01", "", nil, 400, "newest-versions"},
		"unknown version":  {"GET", eventsPath + "?api-version=2001-01-01", "", nil, 400, ""},
		"put":              {"PUT", events, "", nil, 405, ""},
		"name":             {"GET", name, "", nil, 200, VM},
		"name as JSON":     {"GET", instancePath + "name?api-version=2021-02-01", "", nil, 400, ""},
		"post of the name": {"POST", name, "", nil, 405, ""},
		"cloud":            {"GET", instancePath + "azEnvironment?api-version=2021-02-01&format=text", "", nil, 200, "AzurePublicCloud"},
		"nothing":          {"GET", "/metadata/other?api-version=2021-02-01", "", nil, 404, ""},
		"start of nothing": {"POST", events, `{"StartRequests":[]}`, nil, 400, ""},
		"start, malformed": {"POST", events, `{"StartRequests":[`, nil, 400, ""},
		"start, unknown":   {"POST", events, `{"StartRequests":[{"EventId":"x"}]}`, nil, 400, ""},
	} {
		if status, body := ask(t, s, c.method, c.path, c.body, c.headers...); status != c.want || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d %s", what, status, body, c.want, c.says)
		}
	}
	s.Rename("")
	if status, _ := ask(t, s, "GET", name, ""); status != 404 {
		t.Errorf("no name: %d", status)
	}
}

func TestLifeOfAnEvent(t *testing.T) {
	s := New()
	first, list := document(t, s)
	if len(list) != 0 {
		t.Errorf("events at the start: %v", list)
	}
	at := time.Now().Add(time.Hour)
	id := s.Schedule(Event{Type: "Reboot", Resources: []string{VM, "workers_4"}, NotBefore: at})
	second, list := document(t, s)
	if len(list) != 1 || second <= first {
		t.Fatalf("number %d after %d: %v", second, first, list)
	}
	e := list[0]
	if e["EventId"] != id || e["EventStatus"] != "Scheduled" || e["EventType"] != "Reboot" || e["ResourceType"] != "VirtualMachine" ||
		e["NotBefore"] != at.UTC().Format(http.TimeFormat) || e["EventSource"] != "Platform" || e["DurationInSeconds"] != -1.0 {
		t.Errorf("%v", e)
	}
	if again, _ := document(t, s); again != second {
		t.Errorf("number %d of the same list, then %d", second, again)
	}
	for range 2 { // 200 also the second time
		if status, body := ask(t, s, "POST", events, `{"StartRequests":[{"EventId":"`+id+`"}]}`); status != 200 {
			t.Errorf("start: %d %s", status, body)
		}
	}
	third, list := document(t, s)
	if third <= second || list[0]["EventStatus"] != "Started" || list[0]["NotBefore"] != "" {
		t.Errorf("number %d after %d: %v", third, second, list)
	}
	if got := s.Acknowledged(); !slices.Equal(got, []string{id, id}) {
		t.Errorf("acknowledged: %v", got)
	}
	s.Remove(id)
	if fourth, list := document(t, s); fourth <= third || len(list) != 0 {
		t.Errorf("number %d after %d: %v", fourth, third, list)
	}
	if c := s.Counts(); c.Looks != 5 || c.Shown != 3 {
		t.Errorf("counts: %+v", c)
	}
}

func TestEventStartsWhenItsTimeHasCome(t *testing.T) {
	s := New()
	s.Schedule(Event{NotBefore: time.Now().Add(time.Minute)})
	before, list := document(t, s)
	if list[0]["EventStatus"] != "Scheduled" {
		t.Errorf("%v", list)
	}
	s.Skew(2 * time.Minute)
	if after, list := document(t, s); list[0]["EventStatus"] != "Started" || list[0]["NotBefore"] != "" || after <= before {
		t.Errorf("number %d after %d: %v", after, before, list)
	}
}

func TestFirstCallTakesItsTime(t *testing.T) {
	s := New()
	s.FirstCall(50 * time.Millisecond)
	start := time.Now()
	document(t, s)
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("first call answered after %v", d)
	}
}

func TestLimit(t *testing.T) {
	s := New()
	s.Limit(5)
	var refused int
	for range 10 {
		if status, _ := ask(t, s, "GET", name, ""); status == 429 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("10 requests at once, none refused")
	}
	s.Limit(0)
	if status, _ := ask(t, s, "GET", name, ""); status != 200 {
		t.Errorf("without a limit: %d", status)
	}
}

func TestListen(t *testing.T) {
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(s.URL() + events)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != 400 || !strings.HasPrefix(r.Header.Get("Server"), "IMDS/") {
		t.Errorf("%s %v", r.Status, r.Header)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Listen("256.0.0.1:0"); err == nil {
		t.Error("listens on an address that is none")
	}
}
