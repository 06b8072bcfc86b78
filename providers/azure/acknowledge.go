package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

// The reasons for which an acknowledgement is refused. All are providers.ErrFinal.
const (
	// ErrAcknowledgeOff says that the owner has not allowed to acknowledge events.
	ErrAcknowledgeOff = final("scheduled events are not acknowledged: providers.azure.acknowledge is off")
	// ErrNotOurs says that acknowledging the event would release other machines, too.
	ErrNotOurs = final("the scheduled event is not about this machine alone")
	// ErrOver says that the event isn't there any more: it is over, or was called off.
	ErrOver = final("the scheduled event is not there any more")
)

// final is an error that says no more than its text, and is ErrFinal.
type final string

func (f final) Error() string { return string(f) }

func (f final) Is(target error) bool { return target == providers.ErrFinal }

// Acknowledge tells Azure that this machine is ready for the event of this notice: Azure need not wait
// until the event's time. Nothing can take that back, so the caller must be certain that nothing on
// this machine is still to be saved. The source never does it by itself.
//
// It is refused with ErrAcknowledgeOff unless Options.AcknowledgeEvents is set, with ErrNotOurs when the event lists any
// other machine (the acknowledgement of one releases all that are listed), and with ErrOver when
// Azure does not show the event any more. What Azure shows is asked anew for that. An event that has
// started already needs no acknowledgement: nil. It is safe to repeat.
func (s *Events) Acknowledge(ctx context.Context, noticeID string) error {
	if !s.o.AcknowledgeEvents {
		return ErrAcknowledgeOff
	}
	if err := s.acknowledge(ctx, noticeID); err != nil {
		return fmt.Errorf("acknowledge %s: %w", noticeID, err)
	}
	return nil
}

func (s *Events) acknowledge(ctx context.Context, noticeID string) error {
	vm, err := s.name(ctx)
	if err != nil {
		return err
	}
	doc, _, err := s.read(ctx)
	if err != nil {
		return err
	}
	e, err := doc.find(noticeID, vm)
	if err != nil || e.started() {
		return err
	}
	return s.start(ctx, e.EventID)
}

// find returns the event of a notice if it is about this machine alone.
func (d document) find(noticeID, vm string) (event, error) {
	var found event
	for _, e := range d.events {
		if e.id() != noticeID {
			continue
		}
		if !e.only(vm) {
			return event{}, fmt.Errorf("%w: it lists %d machines, and this acknowledgement would release them all", ErrNotOurs, len(e.Resources))
		}
		found = e
	}
	switch {
	case d.broken > 0:
		// What can't be read may be more about the same event.
		return event{}, metadata.Failed(providers.Malformed, "%d of the scheduled events can't be read", d.broken)
	case found.EventID == "":
		return event{}, ErrOver
	}
	return found, nil
}

// start sends the StartRequests document for one event.
func (s *Events) start(ctx context.Context, eventID string) error {
	type startRequest struct {
		EventID string `json:"EventId"`
	}
	body, err := json.Marshal(struct{ StartRequests []startRequest }{[]startRequest{{eventID}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	h := header()
	h.Set("Content-Type", "application/json")
	a, err := s.client.Do(ctx, http.MethodPost, eventsItem, h, body)
	if err != nil {
		return err
	}
	if !a.Found() {
		return metadata.Failed(providers.Status, "POST /metadata/scheduledevents: %d", a.Status)
	}
	return nil
}
