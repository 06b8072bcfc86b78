package providers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// PollerOptions says what is polled and how often. Source, Poll, Interval and Timeout are needed.
type PollerOptions struct {
	Source string // name of the source; a metric label
	// Poll asks the origin once and returns the notices that are visible now; none is an answer, too.
	// ctx ends after Timeout. Failures are PollErrors. It is never called twice at once.
	// A notice that has ended is returned once more, withdrawn; one that is merely absent stays valid.
	Poll func(ctx context.Context) ([]Notice, error)
	// Interval is the longest time from the start of one poll to the start of the next, unless a poll
	// takes longer. Up to a tenth is taken off at random, so that nodes don't poll in step.
	Interval time.Duration
	Timeout  time.Duration   // for one poll
	Wake     <-chan struct{} // a poll at once, where the origin can say that something changed; may be nil
	Log      *zap.Logger
	Metrics  prometheus.Registerer // may be nil
}

// Poller is the loop that sources share: it polls, sends each notice once, keeps the health, counts,
// and logs changes of state. Nothing that the origin does ends it.
type Poller struct {
	o PollerOptions
	m *metrics

	mu     sync.Mutex
	health Health
	shown  []Notice
}

var _ Sight = (*Poller)(nil)

// NewPoller checks the options and registers the metrics.
func NewPoller(o PollerOptions) (*Poller, error) {
	if o.Source == "" || o.Poll == nil {
		return nil, errors.New("poller: source and poll function are needed")
	}
	if o.Interval <= 0 || o.Timeout <= 0 {
		return nil, fmt.Errorf("poller of %s: interval (%v) and timeout (%v) must be positive", o.Source, o.Interval, o.Timeout)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Log = o.Log.With(zap.String("source", o.Source))
	m, err := newMetrics(o.Metrics, o.Source)
	if err != nil {
		return nil, err
	}
	return &Poller{o: o, m: m, health: Health{Source: o.Source, Error: "not polled yet"}}, nil
}

// Health is the state after the last finished poll.
func (p *Poller) Health() Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.health
}

// Notices are those that the last answered poll returned and that hold.
func (p *Poller) Notices() []Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.shown)
}

// SetSkew notes what Skew measured with the poll that is under way. A poll that learns nothing about the service's clock
// leaves it as it was.
func (p *Poller) SetSkew(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.health.Skew = d
}

// Run polls at once, then again and again until ctx ends, and returns ctx's error. While the reader
// of notices is busy it waits with the next poll.
func (p *Poller) Run(ctx context.Context, notices chan<- Notice) error {
	sent := make(map[string]Notice)
	state := newOutage(p.o.Log)
	for {
		start := time.Now()
		found, err := p.poll(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		state.note(err)
		if err := p.send(ctx, notices, sent, found); err != nil {
			return err
		}
		if err := p.wait(ctx, start); err != nil {
			return err
		}
	}
}

// poll asks once and records how it went. A poll that was interrupted because the run ends says
// nothing about the origin and is not recorded.
func (p *Poller) poll(ctx context.Context) ([]Notice, error) {
	pollCtx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	found, err := p.o.Poll(pollCtx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	now, result := time.Now(), None
	switch {
	case err != nil:
		result = resultOf(err)
	case len(found) > 0:
		result = Found
	}
	p.m.poll(result, now, err == nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.health.OK, p.health.Error = err == nil, ""
	if err != nil {
		p.health.Error = err.Error()
		return nil, err
	}
	p.health.LastAnswer = now
	p.shown = slices.DeleteFunc(slices.Clone(found), func(n Notice) bool { return n.Withdrawn })
	return found, nil
}

// send passes on what the reader has not seen in this form yet.
func (p *Poller) send(ctx context.Context, to chan<- Notice, sent map[string]Notice, found []Notice) error {
	for _, n := range found {
		before, known := sent[n.ID]
		if known && sameNotice(before, n) {
			continue
		}
		select {
		case to <- n:
		case <-ctx.Done():
			return ctx.Err()
		}
		sent[n.ID] = n
		if !known {
			p.m.notice(n.Kind)
		}
		p.o.Log.Info("notice", zap.String("id", n.ID), zap.String("kind", string(n.Kind)),
			zap.Time("deadline", n.Deadline), zap.String("app", n.App), zap.Strings("executors", n.Executors),
			zap.Bool("withdrawn", n.Withdrawn), zap.Bool("drill", n.Drill), zap.Bool("changed", known))
	}
	forget(sent, found)
	return nil
}

// remembered is how long a notice that is not shown any more is known as sent, after it was seen and its deadline has passed:
// an origin that flaps for longer than that sends it again, and one with many short events doesn't fill the memory.
const remembered = 24 * time.Hour

// forget takes out what is long over, and more where an origin invents new events with every answer.
func forget(sent map[string]Notice, found []Notice) {
	for id, n := range sent {
		over := time.Since(n.Deadline) > remembered && time.Since(n.Seen) > remembered || len(sent) > maxBook
		if over && !slices.ContainsFunc(found, func(f Notice) bool { return f.ID == id }) {
			delete(sent, id)
		}
	}
}

// wait returns when the next poll is due.
func (p *Poller) wait(ctx context.Context, start time.Time) error {
	every := p.o.Interval - time.Duration(rand.Int64N(int64(p.o.Interval)/10+1))
	timer := time.NewTimer(time.Until(start.Add(every)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.o.Wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sameNotice compares all that a reader could act on; Seen is no such thing.
func sameNotice(a, b Notice) bool {
	return a.ID == b.ID && a.Source == b.Source && a.Kind == b.Kind && a.App == b.App && slices.Equal(a.Executors, b.Executors) &&
		a.Deadline.Equal(b.Deadline) && a.Withdrawn == b.Withdrawn && a.Drill == b.Drill && a.DryRun == b.DryRun
}

// outage logs when an origin goes away and when it is back, and nothing in between.
type outage struct {
	log    *zap.Logger
	known  bool
	down   bool
	since  time.Time
	failed int
}

func newOutage(log *zap.Logger) *outage { return &outage{log: log} }

// note takes the result of one poll.
func (o *outage) note(err error) {
	changed := !o.known || o.down != (err != nil)
	o.known = true
	if err != nil {
		o.failed++
		if changed {
			o.down, o.since = true, time.Now()
			o.log.Warn("source of notices down", zap.String("result", string(resultOf(err))), zap.Error(err))
		}
		return
	}
	if changed {
		fields := []zap.Field{zap.Int("failed_polls", o.failed)}
		if o.down {
			fields = append(fields, zap.Duration("down", time.Since(o.since)))
		}
		o.log.Info("source of notices up", fields...)
	}
	o.down, o.failed = false, 0
}
