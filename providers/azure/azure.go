// Package azure watches Azure's Scheduled Events, with which a virtual machine learns that it is taken
// back, deleted, rebooted, moved or paused. It is where a rescue on Azure starts, often less than 30
// seconds before the end of a spot machine; and where Azure is told, if the owner wants so, that it
// need not wait any longer.
//
// The facts are from Microsoft Learn, "Scheduled Events for Linux VMs" and "Azure Instance Metadata
// Service", API version 2020-07-01 of the events.
package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

// Name of the source.
const Name = "azure-events"

// Defaults of the options.
const (
	DefaultEndpoint = "http://169.254.169.254"
	// DefaultInterval between polls is what Azure recommends. Its metadata service refuses more than
	// five requests per second and machine.
	DefaultInterval = time.Second
	// DefaultTimeout of one request after the first one.
	DefaultTimeout = 3 * time.Second
	// DefaultFirstTimeout of the first call: it switches scheduled events on for the machine, and Azure
	// says that its answer may take two minutes.
	DefaultFirstTimeout = 150 * time.Second
	// DefaultLead is the time left from when an event is seen that has already begun. Azure promises a
	// spot machine 30 seconds at best, and the others nothing at all.
	DefaultLead = 30 * time.Second
)

// Options of the source. The zero value is right on Azure.
type Options struct {
	Endpoint string // DefaultEndpoint when ""
	// VM is the name of this machine as events list it. "" asks the metadata service for it (a machine
	// of a scale set is called like workers_3). It has to be given only where the metadata does not
	// know it: on cloud services (classic).
	VM string
	// AcknowledgeEvents allows Acknowledge. Azure then takes the machine as soon as it can, instead of
	// waiting until the event's time.
	AcknowledgeEvents bool
	Lead              time.Duration // DefaultLead when 0
	Interval          time.Duration // DefaultInterval when 0
	Timeout           time.Duration // DefaultTimeout when 0
	FirstTimeout      time.Duration // DefaultFirstTimeout when 0
	Log               *zap.Logger
	Metrics           prometheus.Registerer
}

// Events is the source of scheduled events.
//
// Azure shows every machine of an availability set or placement group the events of all of them;
// those that don't list this machine are no notices here. Preempt is a preemption, Terminate a drain,
// Reboot and Redeploy are maintenance, Freeze is a pause. A type that is not known is maintenance, or a
// pause where Azure says that it does not interrupt the machine.
//
// An event that the document no longer shows is over or was called off, which Azure documents: its
// notice is withdrawn. An answer that can't be trusted to show all events withdraws nothing.
type Events struct {
	o      Options
	client *metadata.Client
	poller *providers.Poller

	mu    sync.Mutex
	vm    string // "" until it is known
	first state  // of the first call

	// What follows belongs to the poll function.
	book     providers.Book
	number   int64 // of the last document that was believed to show all events
	numbered bool  // there was one
	low      int   // documents in a row with a lower number
	broken   bool  // events that can't be read were logged
}

// state of the first call.
type state int

const (
	before  state = iota // nothing was asked yet
	pending              // asked, for the first time
	failed               // not answered; asked again
	done                 // answered
)

var (
	_ providers.Source       = (*Events)(nil)
	_ providers.Sight        = (*Events)(nil)
	_ providers.Acknowledger = (*Events)(nil)
	_ providers.Recaller     = (*Events)(nil)
)

// New checks the options; it opens no connection.
func New(o Options) (*Events, error) {
	if o.Lead < 0 || o.Interval < 0 || o.Timeout < 0 || o.FirstTimeout < 0 {
		return nil, errors.New(Name + ": negative time span")
	}
	o.Lead, o.Interval = cmp.Or(o.Lead, DefaultLead), cmp.Or(o.Interval, DefaultInterval)
	o.Timeout, o.FirstTimeout = cmp.Or(o.Timeout, DefaultTimeout), cmp.Or(o.FirstTimeout, DefaultFirstTimeout)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	client, err := metadata.New(cmp.Or(o.Endpoint, DefaultEndpoint))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	s := &Events{o: o, client: client, vm: o.VM}
	s.poller, err = providers.NewPoller(providers.PollerOptions{
		Source: Name, Poll: s.poll, Interval: o.Interval,
		// Each request has a limit of its own.
		Timeout: o.Timeout + o.FirstTimeout, Log: o.Log, Metrics: o.Metrics,
	})
	return s, err
}

// Name is "azure-events".
func (s *Events) Name() string { return Name }

// Run watches until ctx ends; see providers.Source.
func (s *Events) Run(ctx context.Context, notices chan<- providers.Notice) error {
	return s.poller.Run(ctx, notices)
}

// Notices are those of the last answer.
func (s *Events) Notices() []providers.Notice { return s.poller.Notices() }

// Health is the state after the last poll. While the first call is not answered it says so.
func (s *Events) Health() providers.Health {
	h := s.poller.Health()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == pending {
		h.Error = fmt.Sprintf("first call pending: Azure may take two minutes to switch scheduled events on for this machine (given up after %v)", s.o.FirstTimeout)
	}
	return h
}

// Recall notes what an earlier run had heard; see providers.Recaller.
func (s *Events) Recall(notices []providers.Notice) bool {
	s.book.Recall(notices)
	return true
}

// poll looks once.
func (s *Events) poll(ctx context.Context) ([]providers.Notice, error) {
	vm, err := s.name(ctx)
	if err != nil {
		return nil, err
	}
	doc, date, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	skew := providers.Skew(now, date)
	if !date.IsZero() {
		s.poller.SetSkew(skew)
	}
	return s.update(doc, vm, now, skew)
}
