// Package termination watches an item of the instance metadata that holds one thing: the time at which
// a spot machine is taken. Alibaba Cloud and Tencent Cloud announce it that way. It is where a rescue
// starts there.
package termination

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

const (
	// DefaultInterval between polls. Neither cloud advises one.
	DefaultInterval = 2 * time.Second
	// DefaultTimeout of one poll.
	DefaultTimeout = 3 * time.Second
	// DefaultLead is the time left when a machine is still there although its time has passed.
	DefaultLead = 30 * time.Second
)

// Options of the source. The zero value is right in the cloud.
type Options struct {
	Endpoint string // the cloud's when ""
	// Lead is the time from the notice to the deadline where the time that the metadata names has
	// passed before the notice was seen; DefaultLead when 0.
	Lead     time.Duration
	Interval time.Duration // DefaultInterval when 0
	Timeout  time.Duration // of one poll; DefaultTimeout when 0
	Log      *zap.Logger
	Metrics  prometheus.Registerer
}

// Cloud is what differs between clouds.
type Cloud struct {
	Source   string // name of the source
	Endpoint string // when the options name none
	Path     string // of the item
	// Get asks for the item. It may need credentials for that.
	Get func(ctx context.Context, c *metadata.Client, path string) (metadata.Answer, error)
	// Parse reads the time.
	Parse func(string) (time.Time, error)
}

// Source is a source of spot interruption notices.
//
// It never withdraws a notice: neither cloud documents that an interruption is called off, and a 404 is
// also what a flapping metadata service says. An answer that is no time is no notice but an error,
// because nothing else in it says what it is.
type Source struct {
	cloud  Cloud
	o      Options
	client *metadata.Client
	poller *providers.Poller
	book   providers.Book // belongs to the poll function
}

var (
	_ providers.Source = (*Source)(nil)
	_ providers.Sight  = (*Source)(nil)
)

// New checks the options; it opens no connection.
func New(c Cloud, o Options) (*Source, error) {
	if o.Lead < 0 || o.Interval < 0 || o.Timeout < 0 {
		return nil, errors.New(c.Source + ": negative time span")
	}
	o.Lead, o.Interval, o.Timeout = cmp.Or(o.Lead, DefaultLead), cmp.Or(o.Interval, DefaultInterval), cmp.Or(o.Timeout, DefaultTimeout)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	client, err := metadata.New(cmp.Or(o.Endpoint, c.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Source, err)
	}
	s := &Source{cloud: c, o: o, client: client}
	s.poller, err = providers.NewPoller(providers.PollerOptions{
		Source: c.Source, Poll: s.poll, Interval: o.Interval, Timeout: o.Timeout, Log: o.Log, Metrics: o.Metrics,
	})
	return s, err
}

// Name is that of the cloud's source.
func (s *Source) Name() string { return s.cloud.Source }

// Run watches until ctx ends; see providers.Source.
func (s *Source) Run(ctx context.Context, notices chan<- providers.Notice) error {
	return s.poller.Run(ctx, notices)
}

// Health is the state after the last poll.
func (s *Source) Health() providers.Health { return s.poller.Health() }

// Notices are those of the last answer.
func (s *Source) Notices() []providers.Notice { return s.poller.Notices() }

// poll looks once.
func (s *Source) poll(ctx context.Context) ([]providers.Notice, error) {
	a, err := s.cloud.Get(ctx, s.client, s.cloud.Path)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	skew := providers.Skew(now, a.Date)
	if !a.Date.IsZero() {
		s.poller.SetSkew(skew)
	}
	if !a.Found() {
		return nil, nil
	}
	n, err := s.notice(a.Body, now, skew)
	if err != nil {
		return nil, metadata.Failed(providers.Malformed, "%s %s: %w", http.MethodGet, s.cloud.Path, err)
	}
	return []providers.Notice{n}, nil
}

// notice makes the notice of what the item holds, or finds it as it was made before.
func (s *Source) notice(body []byte, now time.Time, skew time.Duration) (providers.Notice, error) {
	at, err := s.cloud.Parse(string(bytes.TrimSpace(body)))
	if err != nil {
		return providers.Notice{}, err
	}
	if at.Year() < 2000 || at.Year() > 9999 {
		return providers.Notice{}, fmt.Errorf("%v is no time of our days", at)
	}
	// The event has no name but its time, by the cloud's clock.
	said := at.UTC().Format(time.RFC3339)
	n := providers.Notice{ID: providers.EventID(s.cloud.Source, said), Source: s.cloud.Source, Kind: providers.Preemption, Seen: now}
	n.Deadline = at.UTC().Add(skew)
	if n.Deadline.Before(now) {
		n.Deadline = now.Add(s.o.Lead).UTC()
	}
	return s.book.Keep(n, said), nil
}
