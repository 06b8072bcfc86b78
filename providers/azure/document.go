package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// The types of events, and the status of one that has begun: Microsoft Learn, "Scheduled Events for
// Linux VMs", "Event properties".
const (
	typeFreeze    = "Freeze"
	typeReboot    = "Reboot"
	typeRedeploy  = "Redeploy"
	typePreempt   = "Preempt"
	typeTerminate = "Terminate"

	statusStarted = "Started"
)

// maxEvents is how many events of a document are read. A placement group has a few hundred machines at
// most, and seldom one event for each.
const maxEvents = 4096

// document is what the service shows: the events of all machines of the placement group.
type document struct {
	// number is DocumentIncarnation, which increases when the events change. Two documents with the
	// same one hold the same events.
	number   int64
	numbered bool
	events   []event
	broken   int // events that were not or could not be read
}

// event is one entry of the document.
type event struct {
	EventID           string `json:"EventId"`
	EventType         string
	EventStatus       string
	EventSource       string
	NotBefore         string // RFC 1123, or "" once the event has started
	Resources         []string
	DurationInSeconds json.RawMessage
}

// decodeDocument reads a document. Unknown fields and types are fine. An event that can't be read
// does not hide the others; it is counted, because nobody knows what it said.
func decodeDocument(body []byte) (document, error) {
	var raw struct {
		DocumentIncarnation json.RawMessage
		Events              *[]json.RawMessage
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return document{}, fmt.Errorf("scheduled events: %w", err)
	}
	if raw.Events == nil {
		return document{}, errors.New("scheduled events: no list of events in the document")
	}
	number, err := strconv.ParseInt(string(raw.DocumentIncarnation), 10, 64)
	d := document{number: number, numbered: err == nil}
	for _, r := range *raw.Events {
		var e event
		if err := json.Unmarshal(r, &e); err != nil || e.EventID == "" || len(e.Resources) == 0 || len(d.events) == maxEvents {
			d.broken++
			continue
		}
		d.events = append(d.events, e)
	}
	return d, nil
}

// id names the event by the id that Azure gave it, which is the same on every machine and in every
// poll until the event is over.
func (e event) id() string { return providers.EventID(Name, e.EventID) }

// covers says whether the event is about a machine of this name. Names of resources are not case-sensitive
// in Azure.
func (e event) covers(vm string) bool {
	return slices.ContainsFunc(e.Resources, func(r string) bool { return strings.EqualFold(r, vm) })
}

// only says whether the event is about this machine and no other.
func (e event) only(vm string) bool {
	return len(e.Resources) > 0 && !slices.ContainsFunc(e.Resources, func(r string) bool { return !strings.EqualFold(r, vm) })
}

// started says whether the event has begun.
func (e event) started() bool { return strings.EqualFold(e.EventStatus, statusStarted) }

// kind says what the event means for the node. A type that nobody knows yet is maintenance: taken too
// seriously it costs a rescue that was not needed, taken too lightly it costs the data. Only where
// Azure says that the machine is not interrupted at all, it is a pause.
func (e event) kind() (k providers.Kind, known bool) {
	switch {
	case strings.EqualFold(e.EventType, typePreempt):
		return providers.Preemption, true
	case strings.EqualFold(e.EventType, typeTerminate):
		return providers.Drain, true
	case strings.EqualFold(e.EventType, typeReboot), strings.EqualFold(e.EventType, typeRedeploy):
		return providers.Maintenance, true
	case strings.EqualFold(e.EventType, typeFreeze):
		return providers.Pause, true
	case e.duration() == 0:
		return providers.Pause, false
	default:
		return providers.Maintenance, false
	}
}

// duration is how long the machine is expected to be interrupted, in seconds: 0 not at all, -1 unknown.
func (e event) duration() int {
	n, err := strconv.Atoi(strings.Trim(string(e.DurationInSeconds), `"`))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// notBefore is the time before which the event does not start, by Azure's clock. It is unknown (false)
// once the event has started. RFC 3339 is what the first versions of the service used.
func (e event) notBefore() (time.Time, bool) {
	for _, layout := range []string{http.TimeFormat, time.RFC3339} {
		if t, err := time.Parse(layout, e.NotBefore); err == nil && t.Year() >= 2000 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// deadline is when the machine is taken, by this node's clock, skew ahead of Azure's. before is what was
// said of the event until now; zero for a new one.
func (e event) deadline(before, now time.Time, skew, lead time.Duration) time.Time {
	at, known := e.notBefore()
	at = at.Add(skew)
	if known && !e.started() && at.After(now) {
		return at
	}
	// It has begun or may begin at any moment, perhaps earlier than was said, because somebody
	// acknowledged it; but never later.
	soon := now.Add(lead).UTC()
	if !before.IsZero() && before.Before(soon) {
		return before
	}
	return soon
}
