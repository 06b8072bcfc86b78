package azure

import (
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// documented is the example of the documentation, in form.
const documented = `{
    "DocumentIncarnation":  2,
    "Events":  [
        {
            "EventId":  "C7061BAC-AFDC-4513-B24B-AA5F13A16123",
            "EventStatus":  "Scheduled",
            "EventType":  "Freeze",
            "ResourceType":  "VirtualMachine",
            "Resources":  ["WestNO_0", "WestNO_1"],
            "NotBefore":  "Mon, 11 Apr 2026 22:26:58 GMT",
            "Description":  "Virtual machine is being paused.",
            "EventSource":  "Platform",
            "DurationInSeconds":  5
        }
    ]
}`

func TestDocumentedExample(t *testing.T) {
	d, err := decodeDocument([]byte(documented))
	if err != nil || !d.numbered || d.number != 2 || d.broken != 0 || len(d.events) != 1 {
		t.Fatalf("%+v %v", d, err)
	}
	e := d.events[0]
	at, ok := e.notBefore()
	if !ok || !at.Equal(time.Date(2026, 4, 11, 22, 26, 58, 0, time.UTC)) || e.duration() != 5 || e.started() ||
		!e.covers("westno_1") || e.covers("WestNO_2") || e.only("WestNO_0") || e.id() != "azure-events-C7061BAC-AFDC-4513-B24B-AA5F13A16123" {
		t.Errorf("%+v", e)
	}
}

func TestDecodeDocument(t *testing.T) {
	for name, c := range map[string]struct {
		body     string
		bad      bool
		numbered bool
		events   int
	}{
		"empty list":         {`{"DocumentIncarnation":1,"Events":[]}`, false, true, 0},
		"no number":          {`{"Events":[]}`, false, false, 0},
		"null number":        {`{"DocumentIncarnation":null,"Events":[]}`, false, false, 0},
		"number that is one": {`{"DocumentIncarnation":9007199254740993,"Events":[]}`, false, true, 0},
		"number as text":     {`{"DocumentIncarnation":"1","Events":[]}`, false, false, 0},
		"no events":          {`{"DocumentIncarnation":1}`, true, false, 0},
		"null events":        {`{"DocumentIncarnation":1,"Events":null}`, true, false, 0},
		"events no list":     {`{"DocumentIncarnation":1,"Events":{}}`, true, false, 0},
		"error":              {`{"error":"Bad request"}`, true, false, 0},
		"empty":              {``, true, false, 0},
		"page":               {`<html></html>`, true, false, 0},
		"two documents":      {`{"Events":[]}{"Events":[]}`, true, false, 0},
		"duration as text":   {`{"Events":[{"EventId":"a","Resources":["x"],"DurationInSeconds":"5"}]}`, false, false, 1},
	} {
		d, err := decodeDocument([]byte(c.body))
		if (err != nil) != c.bad || d.numbered != c.numbered || len(d.events) != c.events {
			t.Errorf("%s: %+v %v", name, d, err)
		}
	}
}

func TestEndlessDocumentIsReadInPart(t *testing.T) {
	const one = `{"EventId":"a","Resources":["x"]},`
	d, err := decodeDocument([]byte(`{"Events":[` + strings.Repeat(one, maxEvents+1) + `null]}`))
	if err != nil || len(d.events) != maxEvents || d.broken != 2 {
		t.Errorf("%d events, %d not read, %v", len(d.events), d.broken, err)
	}
}

func FuzzDecodeDocument(f *testing.F) {
	f.Add([]byte(documented))
	f.Add([]byte(`{"DocumentIncarnation":-1,"Events":[{"EventId":"../x","Resources":["vm"],"NotBefore":"","DurationInSeconds":"-1"},null]}`))
	f.Add([]byte(`{"Events":[{"EventId":"a","EventType":"Preempt","EventStatus":"Started","Resources":["vm"]}]}`))
	now := time.Now()
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := decodeDocument(body)
		if err != nil {
			return
		}
		for _, e := range d.events {
			id := e.id()
			if !strings.HasPrefix(id, Name+"-") || len(id) > 100 || strings.ContainsAny(id, "/\\ \n\x00") {
				t.Errorf("id %q", id)
			}
			if kind, _ := e.kind(); kind != providers.Preemption && kind != providers.Drain && kind != providers.Maintenance && kind != providers.Pause {
				t.Errorf("kind %q", kind)
			}
			if at := e.deadline(time.Time{}, now, 0, DefaultLead); at.Before(now) {
				t.Errorf("deadline %v is over", at)
			}
			if e.only("vm") && !e.covers("vm") {
				t.Errorf("%+v is only about a machine that it does not list", e)
			}
		}
	})
}
