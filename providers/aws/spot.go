// Package aws watches the EC2 instance metadata service for the announcement that AWS takes this spot
// instance back. It is where a rescue on AWS starts, usually two minutes before the end.
package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// SpotName is the name of the source.
const SpotName = "aws-spot"

const (
	// DefaultInterval between polls. AWS advises 5 s; of 120 s, sometimes 39 s, three more are worth a
	// request to a local address.
	DefaultInterval = 2 * time.Second
	// DefaultTimeout of a poll, which is one request, or three when a token is needed or was revoked.
	// Longer than the interval, so that a metadata service that takes seconds is still heard; one that
	// does not answer at all delays the next poll by a second.
	DefaultTimeout = 3 * time.Second
	// LeadTime is what AWS documents between the notice and the interruption, best effort.
	LeadTime = 2 * time.Minute

	// actionItem is documented in the EC2 user guide, "Spot Instance interruption notices":
	// {"action": "terminate", "time": "2017-09-18T08:22:00Z"}, or 404.
	actionItem = "spot/instance-action"
)

// Options of a source of this package. The zero value is right on EC2.
type Options struct {
	// Client is shared by the sources of one agent; nil makes one for Endpoint.
	Client *Client
	// Endpoint of the metadata service; "" takes AWS_EC2_METADATA_SERVICE_ENDPOINT, then the address
	// for AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE (IPv4 or IPv6, IPv4 when unset).
	Endpoint string
	// InstanceID becomes a part of the notice's id when it is known from the configuration. It is not
	// asked of the metadata: an answer that comes now and then would change the id.
	InstanceID string
	Interval   time.Duration // the source's default when 0
	Timeout    time.Duration // of one poll; DefaultTimeout when 0
	// Lead is the time from the notice to the deadline where the metadata names none; the source's default when 0.
	Lead    time.Duration
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// Spot is the source of spot interruption notices.
//
// The notice is for the whole node, whatever the action: "stop" and "hibernate" take the instance
// away from Spark as well as "terminate", and with it the local disks' contents or minutes that no
// reducer waits. An action that is not known is a notice, too.
//
// It never withdraws a notice. AWS documents no way in which an interruption is called off, and a 404
// is also what a flapping metadata service says.
type Spot struct {
	client *Client
	poller *providers.Poller
	o      Options
	// first keeps each event as it was when first seen: what is computed from the clock must not
	// change from poll to poll. Only polls use it, one at a time.
	first map[string]providers.Notice
}

var (
	_ providers.Source = (*Spot)(nil)
	_ providers.Sight  = (*Spot)(nil)
)

// NewSpot checks the options and the environment; it opens no connection. The error is ErrDisabled
// when the environment forbids to ask.
func NewSpot(o Options) (*Spot, error) {
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if printable(o.InstanceID) != o.InstanceID {
		return nil, fmt.Errorf("%s: instance id %.40q is none", SpotName, o.InstanceID)
	}
	c, err := NewClient(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", SpotName, err)
	}
	s := &Spot{client: c, o: o, first: make(map[string]providers.Notice)}
	s.poller, err = providers.NewPoller(providers.PollerOptions{
		Source: SpotName, Poll: s.poll, Interval: o.Interval, Timeout: o.Timeout, Log: o.Log, Metrics: o.Metrics,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Name is "aws-spot".
func (s *Spot) Name() string { return SpotName }

// Run watches until ctx ends; see providers.Source.
func (s *Spot) Run(ctx context.Context, notices chan<- providers.Notice) error {
	return s.poller.Run(ctx, notices)
}

// Health is the state after the last poll.
func (s *Spot) Health() providers.Health { return s.poller.Health() }

// Notices are those of the last answer.
func (s *Spot) Notices() []providers.Notice { return s.poller.Notices() }

// poll looks once.
func (s *Spot) poll(ctx context.Context) ([]providers.Notice, error) {
	a, err := s.client.get(ctx, actionItem)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s.poller.SetSkew(providers.Skew(now, a.date))
	if !a.found {
		return nil, nil
	}
	action, err := decodeAction(a.body)
	if err != nil {
		return nil, &providers.PollError{Result: providers.Malformed, Err: err}
	}
	id := action.id(s.o.InstanceID)
	n, known := s.first[id]
	if !known {
		n = s.notice(action, id, now, a.date)
		s.first[id] = n
	}
	return []providers.Notice{n}, nil
}

// notice makes the notice of an event that is new to this run.
func (s *Spot) notice(a instanceAction, id string, now, service time.Time) providers.Notice {
	n := providers.Notice{ID: id, Source: SpotName, Kind: providers.Preemption, Deadline: a.at, Seen: now}
	log := s.o.Log.With(zap.String("source", SpotName), zap.String("id", id))
	if a.at.IsZero() {
		n.Deadline = now.Add(LeadTime)
		log.Warn("the notice's time can't be read; the documented lead time is assumed", zap.String("time", a.Time))
	} else if ahead := providers.Skew(now, service); ahead != 0 {
		// The time is by the cloud's clock, and the rescue's deadlines are by this node's.
		n.Deadline = a.at.Add(ahead)
		log.Warn("this node's clock is wrong; the deadline is corrected", zap.Duration("ahead", ahead))
	}
	switch a.Action {
	case "terminate", "stop", "hibernate":
	default:
		log.Warn("unknown action; taken as an interruption", zap.String("action", printable(a.Action)))
	}
	return n
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
		return instanceAction{}, fmt.Errorf("instance metadata: %s: %w", actionItem, err)
	}
	if a.Action == "" {
		return instanceAction{}, errors.New("instance metadata: " + actionItem + ": no action in the document")
	}
	if at, err := time.Parse(time.RFC3339, a.Time); err == nil && at.Year() >= 2000 {
		a.at = at.UTC()
	}
	return a, nil
}

// id names the event by what AWS says about it, so that every poll and every run of the agent finds
// the same one. The clock of this node has no part in it.
func (a instanceAction) id(instance string) string {
	when := a.at.Format(time.RFC3339Nano)
	if a.at.IsZero() {
		when = "at-" + digest(a.Time)
	}
	action := a.Action
	if printable(action) != action {
		action = "action-" + digest(action)
	}
	if instance != "" {
		action = instance + "-" + action
	}
	return SpotName + "-" + action + "-" + when
}

// printable replaces a text that is not a short plain word.
func printable(s string) string {
	if len(s) > 32 {
		return "(long)"
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return "(unprintable)"
		}
	}
	return s
}

// digest is a short name for a text of any length.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
