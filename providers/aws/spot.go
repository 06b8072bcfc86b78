package aws

import (
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// SpotName is the name of the source of interruptions.
const SpotName = "aws-spot"

// SpotInterval between polls. AWS advises 5 s; of 120 s, sometimes 39 s, three more are worth a request
// to a local address.
const SpotInterval = 2 * time.Second

// spotItem is documented in the EC2 user guide, "Spot Instance interruption notices":
// {"action": "terminate", "time": "2017-09-18T08:22:00Z"}, or 404.
const spotItem = "spot/instance-action"

// NewSpot makes the source of spot interruption notices. It opens no connection. The error is ErrDisabled
// when the environment forbids to ask.
//
// The notice is for the whole node, whatever the action: "stop" and "hibernate" take the instance
// away from Spark as well as "terminate", and with it the local disks' contents or minutes that no
// reducer waits. An action that is not known is a notice, too.
//
// It never withdraws a notice. AWS documents no way in which an interruption is called off, and a 404
// is also what a flapping metadata service says.
func NewSpot(o Options) (*Source, error) {
	s, err := newSource(SpotName, spotItem, SpotInterval, o)
	if err != nil {
		return nil, err
	}
	s.read = s.readSpot
	return s, nil
}

func (s *Source) readSpot(a answer, now time.Time) ([]providers.Notice, error) {
	if !a.found {
		return nil, nil
	}
	action, err := decodeAction(a.body)
	if err != nil {
		return nil, err
	}
	e := event{id: action.id(), kind: providers.Preemption, at: action.at, said: action.Action + " " + action.Time}
	if action.at.IsZero() {
		e.lead = s.o.Lead
		s.once("time "+limited(action.Time), "the notice's time can't be read; the documented lead time is assumed", zap.String("time", limited(action.Time)))
	}
	switch action.Action {
	case "terminate", "stop", "hibernate":
	default:
		s.once("action "+limited(action.Action), "unknown action; taken as an interruption", zap.String("action", limited(action.Action)))
	}
	return []providers.Notice{s.notice(e, a, now)}, nil
}

// instanceAction is the document spot/instance-action.
type instanceAction struct {
	Action string `json:"action"`
	Time   string `json:"time"`

	at time.Time // Time, or zero when it can't be read
}

// decodeAction reads the document. Unknown fields are fine, AWS may add some; a document without an
// action is none, because nothing says that it is about an interruption.
func decodeAction(body []byte) (instanceAction, error) {
	var a instanceAction
	if err := json.Unmarshal(body, &a); err != nil {
		return instanceAction{}, err
	}
	if a.Action == "" {
		return instanceAction{}, errors.New("no action in the document")
	}
	a.at = moment(time.RFC3339, a.Time)
	return a, nil
}

// id names the event by what AWS says about it. The clock of this node has no part in it.
func (a instanceAction) id() []string { return []string{a.Action, orAsSaid(a.at, a.Time)} }
