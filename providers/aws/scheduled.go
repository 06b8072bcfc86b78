package aws

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// ScheduledName is the name of the source of scheduled events.
const ScheduledName = "aws-scheduled"

// ScheduledInterval between polls. Events are announced days ahead.
const ScheduledInterval = time.Minute

const (
	// scheduledItem is documented in the EC2 user guide, "View scheduled events": an array, empty when there is
	// nothing. Completed and canceled events move to events/maintenance/history.
	scheduledItem = "events/maintenance/scheduled"
	// scheduledLayout of the times in it, as "21 Jan 2019 09:00:43 GMT".
	scheduledLayout = "2 Jan 2006 15:04:05 MST"

	maxEvents = 100 // of one answer; an instance has one or two
)

// NewScheduled makes the source of scheduled events: reboots, stops, retirements and work on the host. It opens no
// connection. The error is ErrDisabled when the environment forbids to ask.
//
// Events are announced days or weeks ahead. The deadline is the event's NotBefore, the earliest time at which it may
// begin; what is to be done before, and when, is for the reader to decide. All codes are notices of the kind
// maintenance, also the ones that are not known: none of them leaves a JVM running for certain.
//
// An event that a good answer shows as completed or canceled, or does not show any more, is withdrawn. One that is put off is
// another event.
func NewScheduled(o Options) (*Source, error) {
	s, err := newSource(ScheduledName, scheduledItem, ScheduledInterval, o)
	if err != nil {
		return nil, err
	}
	s.read, s.ends = s.readScheduled, true
	return s, nil
}

func (s *Source) readScheduled(a answer, now time.Time) ([]providers.Notice, error) {
	if !a.found {
		// No events are an empty list. A 404 says nothing about an event that was shown before.
		return s.book.Kept(), nil
	}
	list, err := decodeEvents(a.body)
	if err != nil {
		return nil, err
	}
	events, complete := s.events(list)
	var found []providers.Notice
	seen := make(map[string]bool)
	for _, e := range events {
		n := event{id: e.id(), kind: providers.Maintenance, at: e.at, said: e.Code + " " + e.NotBefore}
		// Two elements of one event would change what is said with every poll.
		if key := cmp.Or(e.EventID, strings.Join(n.id, "\x00")); !seen[key] {
			seen[key] = true
			found = append(found, s.notice(n, a, now))
		}
	}
	if !complete {
		return s.book.Kept(), nil
	}
	return s.book.Settle(found), nil
}

// events reads the elements that are not over, the next one first, and says whether all could be read.
func (s *Source) events(list []json.RawMessage) (events []scheduledEvent, complete bool) {
	complete = true
	for i, raw := range list {
		e, err := decodeEvent(raw)
		if err != nil {
			complete = false
			s.once("event "+limited(string(raw)), "a scheduled event can't be read; it starts nothing, and nothing is withdrawn meanwhile",
				zap.Int("index", i), zap.String("event", limited(string(raw))), zap.Error(err))
		} else if !e.over() {
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(x, y scheduledEvent) int { return x.at.Compare(y.at) })
	return events, complete
}

// scheduledEvent is one element of the array.
type scheduledEvent struct {
	EventID   string `json:"EventId"`
	Code      string `json:"Code"`
	State     string `json:"State"`
	NotBefore string `json:"NotBefore"`

	at time.Time // NotBefore
}

// decodeEvents reads the array without its elements: one that can't be read must not hide the others.
func decodeEvents(body []byte) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	if list == nil {
		return nil, errors.New("null is no list of events")
	}
	if len(list) > maxEvents {
		return nil, fmt.Errorf("%d events in the list, more than %d", len(list), maxEvents)
	}
	return list, nil
}

// decodeEvent reads one element. Without a time that can be read there is no knowing when to act, and acting at once may
// be weeks early.
func decodeEvent(raw []byte) (scheduledEvent, error) {
	var e scheduledEvent
	if err := json.Unmarshal(raw, &e); err != nil {
		return scheduledEvent{}, err
	}
	e.at = moment(scheduledLayout, e.NotBefore)
	if e.at.IsZero() && !e.over() {
		return scheduledEvent{}, fmt.Errorf("NotBefore %q is no time", limited(e.NotBefore))
	}
	return e, nil
}

// over is true for an event that is done or called off.
func (e scheduledEvent) over() bool {
	switch strings.ToLower(e.State) {
	case "completed", "canceled", "cancelled":
		return true
	}
	return false
}

// id names the event as EC2 does, or else by its kind, and by its time: one that is put off when its first time had come and was
// acted on has to be acted on again.
func (e scheduledEvent) id() []string {
	return []string{cmp.Or(e.EventID, e.Code), orAsSaid(e.at, e.NotBefore)}
}
