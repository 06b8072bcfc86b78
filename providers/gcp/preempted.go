// Package gcp watches the metadata server of Google Compute Engine: for the preemption of this spot VM,
// and for maintenance of the host below it. It is where a rescue on Google Cloud starts, usually half a
// minute before the end.
package gcp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

const (
	// PreemptedName is the name of the source of preemptions.
	PreemptedName = "gcp-preempted"
	// MaintenanceName is the name of the source of host maintenance.
	MaintenanceName = "gcp-maintenance"
)

const (
	// DefaultHold of a long poll. A connection that died without a word is noticed after it, and all
	// that there is may be 30 s.
	DefaultHold = 5 * time.Second
	// DefaultInterval between polls where long polls don't work.
	DefaultInterval = time.Second
	// DefaultTimeout of an answer.
	DefaultTimeout = 2 * time.Second
	// PreemptionLead is the shutdown period of spot VMs, best effort ("Spot VMs", preemption process):
	// the notice comes with the ACPI G2 soft off, and the G3 mechanical off up to 30 s later. An
	// instance that was created with a preemption notice duration of 120 s is told so much earlier; the
	// metadata does not say which it is, so that the configuration has to.
	PreemptionLead = 30 * time.Second
	// MaintenanceLead is how long before maintenance maintenance-event changes ("Query metadata server
	// for maintenance event notices"). VMs with GPUs are told an hour before, which the value does not say.
	MaintenanceLead = time.Minute

	preemptedItem = "instance/preempted"
)

// Options of a source. The zero value is right on Compute Engine.
type Options struct {
	// Endpoint of the metadata server, as "http://169.254.169.254"; "" takes GCE_METADATA_HOST, then
	// that address.
	Endpoint string
	Hold     time.Duration // of a long poll, whole seconds; DefaultHold when 0, below 0: plain polls only
	Interval time.Duration // DefaultInterval when 0
	Timeout  time.Duration // of one answer; DefaultTimeout when 0
	// Lead is the time from a notice that names none to its deadline: PreemptionLead, MaintenanceLead
	// when 0.
	Lead    time.Duration
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// withDefaults fills in what is 0.
func (o Options) withDefaults(lead time.Duration) Options {
	if o.Hold == 0 {
		o.Hold = DefaultHold
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Lead == 0 {
		o.Lead = lead
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// item watches one key.
func (o Options) item(c *client, path string) *item {
	return &item{client: c, path: path, hold: max(o.Hold, 0), timeout: o.Timeout, log: o.Log}
}

// poller makes the loop; a poll takes a long poll and so many answers.
func (o Options) poller(name string, answers int, poll func(context.Context) ([]providers.Notice, error)) (*providers.Poller, error) {
	return providers.NewPoller(providers.PollerOptions{
		Source: name, Poll: poll, Interval: o.Interval, Timeout: max(o.Hold, 0) + time.Duration(answers+1)*o.Timeout, Log: o.Log, Metrics: o.Metrics,
	})
}

// Preempted is the source of preemptions of this VM. It never withdraws one: Compute Engine calls no
// preemption off, and a VM that starts again has booted anew.
type Preempted struct {
	*providers.Poller
	item *item
	boot string // an instance keeps its id when it is preempted and started again
	lead time.Duration
	book providers.Book
}

var (
	_ providers.Source = (*Preempted)(nil)
	_ providers.Sight  = (*Preempted)(nil)
)

// NewPreempted checks the options and the environment; it opens no connection.
func NewPreempted(o Options) (*Preempted, error) {
	o = o.withDefaults(PreemptionLead)
	c, err := newClient(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", PreemptedName, err)
	}
	s := &Preempted{item: o.item(c, preemptedItem), boot: providers.BootID(), lead: o.Lead}
	s.Poller, err = o.poller(PreemptedName, 2, s.poll)
	return s, err
}

// Name is "gcp-preempted".
func (s *Preempted) Name() string { return PreemptedName }

// poll looks once.
func (s *Preempted) poll(ctx context.Context) ([]providers.Notice, error) {
	a, err := s.item.look(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s.SetSkew(providers.Skew(now, a.date))
	preempted, err := decodePreempted(a)
	if err != nil || !preempted {
		return nil, err
	}
	n := providers.Notice{ID: PreemptedName + "-" + s.boot, Source: PreemptedName, Kind: providers.Preemption, Deadline: now.Add(s.lead), Seen: now}
	return []providers.Notice{s.book.Keep(n, "")}, nil
}

// decodePreempted reads TRUE or FALSE.
func decodePreempted(a answer) (bool, error) {
	if !a.found {
		return false, metadata.Failed(providers.Status, "%s: 404: is this a VM of Compute Engine? "+
			"On GKE with Workload Identity only pods with hostNetwork see it", preemptedItem)
	}
	switch strings.TrimSpace(a.value) {
	case "TRUE":
		return true, nil
	case "FALSE":
		return false, nil
	}
	return false, metadata.Failed(providers.Malformed, "%s: %.40q is neither TRUE nor FALSE", preemptedItem, a.value)
}

// Detect says whether this machine runs on Google Cloud: one request for the instance's id, whose answer
// must carry Google's header. endpoint is as in Options. It returns within DefaultTimeout.
func Detect(ctx context.Context, endpoint string) bool {
	c, err := newClient(endpoint)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	a, err := c.get(ctx, "instance/id")
	return err == nil && a.found
}
