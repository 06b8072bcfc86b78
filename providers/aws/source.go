// Package aws watches the EC2 instance metadata service for all that AWS announces to an instance: that it
// takes this spot instance back, that it will probably do so, that the Auto Scaling group lets go of it, and
// that its host needs work. It is where a rescue on AWS starts, usually two minutes before the end.
package aws

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

const (
	// DefaultTimeout of a poll, which is one request, or three when a token is needed or was revoked.
	// Longer than the shortest interval, so that a metadata service that takes seconds is still heard; one
	// that does not answer at all delays the next poll by a second.
	DefaultTimeout = 3 * time.Second
	// LeadTime is what AWS documents between the notice of an interruption and the interruption, best effort.
	LeadTime = 2 * time.Minute
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
	// Lead is the time from the notice to the deadline where the metadata names none; LeadTime when 0.
	Lead    time.Duration
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// Source watches one item of the metadata. NewSpot, NewRebalance, NewLifecycle and NewScheduled make one. Each
// item speaks for itself: what one of them says, or fails to say, never ends a notice of another.
type Source struct {
	name, item string
	client     *Client
	poller     *providers.Poller
	o          Options
	log        *zap.Logger
	// read turns an answer into notices. Only polls call it, one at a time; so it is with what follows.
	read   func(a answer, now time.Time) ([]providers.Notice, error)
	book   providers.Book
	ends   bool // what it announces can end
	warned map[string]bool
}

var (
	_ providers.Source = (*Source)(nil)
	_ providers.Sight  = (*Source)(nil)

	_ providers.Recaller = (*Source)(nil)
)

// newSource checks the options and the environment. Who calls it sets read.
func newSource(name, item string, interval time.Duration, o Options) (*Source, error) {
	if o.Interval == 0 {
		o.Interval = interval
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Lead == 0 {
		o.Lead = LeadTime
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Lead < 0 {
		return nil, fmt.Errorf("%s: negative lead time %v", name, o.Lead)
	}
	if o.Client == nil {
		var err error
		if o.Client, err = NewClient(o.Endpoint); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	s := &Source{name: name, item: item, client: o.Client, o: o, log: o.Log.With(zap.String("source", name)), warned: make(map[string]bool)}
	var err error
	s.poller, err = providers.NewPoller(providers.PollerOptions{
		Source: name, Poll: s.poll, Interval: o.Interval, Timeout: o.Timeout, Log: o.Log, Metrics: o.Metrics,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Name is the label of the source in metrics and notices, as "aws-spot".
func (s *Source) Name() string { return s.name }

// Run watches until ctx ends; see providers.Source.
func (s *Source) Run(ctx context.Context, notices chan<- providers.Notice) error {
	return s.poller.Run(ctx, notices)
}

// Health is the state after the last poll.
func (s *Source) Health() providers.Health { return s.poller.Health() }

// Notices are those of the last answer.
func (s *Source) Notices() []providers.Notice { return s.poller.Notices() }

// Recall notes what an earlier run had heard; see providers.Recaller.
func (s *Source) Recall(notices []providers.Notice) bool {
	if s.ends {
		s.book.Recall(notices)
	}
	return s.ends
}

// poll looks once.
func (s *Source) poll(ctx context.Context) ([]providers.Notice, error) {
	a, err := s.client.get(ctx, s.item)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s.poller.SetSkew(providers.Skew(now, a.date))
	found, err := s.read(a, now)
	if err != nil {
		return nil, &providers.PollError{Result: providers.Malformed, Err: fmt.Errorf("instance metadata: %s: %w", s.item, err)}
	}
	return found, nil
}

// event is what an answer says about one event.
type event struct {
	id   []string // what names it in the cloud's words, so that every poll and every run finds the same id
	kind providers.Kind
	at   time.Time     // by the cloud's clock; zero when it names none that can be read
	lead time.Duration // from at to the deadline, or from the time of seeing where at is zero
	said string        // all of it in the cloud's words
}

// notice makes the notice of an event, or finds the one that was made when it was first seen.
func (s *Source) notice(e event, a answer, now time.Time) providers.Notice {
	if s.o.InstanceID != "" {
		e.id = append([]string{s.o.InstanceID}, e.id...)
	}
	id := providers.EventID(s.name, e.id...)
	n := providers.Notice{ID: id, Source: s.name, Kind: e.kind, Seen: now}
	ahead := providers.Skew(now, a.date)
	if e.at.IsZero() {
		n.Deadline = now.Add(e.lead)
	} else {
		n.Deadline = e.at.Add(e.lead + ahead)
	}
	if ahead != 0 && !e.at.IsZero() {
		s.once("skew "+id, "this node's clock is wrong; the deadline is corrected", zap.Duration("ahead", ahead))
	}
	return s.book.Keep(n, e.said)
}

// once logs a warning the first time that key comes up.
func (s *Source) once(key, message string, fields ...zap.Field) {
	if s.warned[key] || len(s.warned) >= maxWarnings {
		return
	}
	s.warned[key] = true
	s.log.Warn(message, fields...)
}

// maxWarnings of one source and run: an origin that says something else every time must not fill memory and log.
const maxWarnings = 100

// limited cuts a text from outside to what a log line can bear.
func limited(s string) string { return s[:min(len(s), 64)] }

// orAsSaid is a time as a part of an id; where it can't be read, the cloud's own words.
func orAsSaid(at time.Time, said string) string {
	if at.IsZero() {
		return said
	}
	return at.Format(time.RFC3339Nano)
}

// moment reads a time of the metadata; the zero time when it is none.
func moment(layout, s string) time.Time {
	at, err := time.Parse(layout, s)
	if err != nil || at.Year() < 2000 {
		return time.Time{}
	}
	return at.UTC()
}
