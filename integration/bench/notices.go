package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	// noticePoll is the interval at which reactions are measured: short, so that what comes after the wait for the
	// next poll is not lost in it.
	noticePoll = 20 * time.Millisecond
	// noticePatience is how long one notice may take before the measurement is given up.
	noticePatience = 30 * time.Second
	// noticesAtOnce is how many sources are measured side by side, each with an agent of its own. Most of the time
	// nothing happens: it is the wait for the poll.
	noticesAtOnce = 4
	// noticeAddress is a node's that has no executor: a rescue begins and ends at once.
	noticeAddress = "127.0.9.9"
)

// reaction is how long the notices of one source took, from when they were visible.
type reaction struct {
	source string
	rescue bool // until a rescue had begun, its journal on disk; otherwise until the agent had the notice
	times  []time.Duration
}

func (r reaction) String() string {
	until := "the agent has the notice"
	if r.rescue {
		until = "the rescue has begun"
	}
	return fmt.Sprintf("%-16s visible until %-24s p50 %5.1f ms, p99 %5.1f ms, max %5.1f ms (%d notices)",
		r.source, until, millis(r.at(0.5)), millis(r.at(0.99)), millis(r.at(1)), len(r.times))
}

// at is the time that the share q of the notices did not exceed.
func (r reaction) at(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(r.times))
	return sorted[max(0, int(q*float64(len(sorted))+0.5)-1)]
}

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }

// watchNotices measures the reaction to each source's notices.
func (b *bench) watchNotices(ctx context.Context) (err error) {
	fmt.Fprintf(b.w, "\nreaction to %d notices of each source at a poll every %v; load before: %s\n\n", b.notices, noticePoll, load())
	origins, err := newOrigins(b.dir)
	defer func() {
		for _, o := range origins {
			if o.close != nil {
				err = errors.Join(err, o.close())
			}
		}
	}()
	if err != nil {
		return err
	}
	b.reactions = make([]reaction, len(origins))
	side, sideCtx := errgroup.WithContext(ctx)
	side.SetLimit(noticesAtOnce)
	for i, o := range origins {
		side.Go(func() (err error) {
			if b.reactions[i], err = b.react(sideCtx, o); err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			return nil
		})
	}
	err = side.Wait()
	b.reactions = slices.DeleteFunc(b.reactions, func(r reaction) bool { return len(r.times) < b.notices })
	for _, r := range b.reactions {
		fmt.Fprintln(b.w, r)
	}
	return err
}

// react shows one notice after the other to an agent, each at some moment between two polls.
func (b *bench) react(ctx context.Context, o origin) (r reaction, err error) {
	dir, err := os.MkdirTemp(b.dir, "notices-")
	if err != nil {
		return r, err
	}
	w := newWatched(o)
	stopped, end, err := w.start(ctx, filepath.Join(dir, "state"))
	if err != nil {
		return r, err
	}
	defer func() {
		end()
		err = errors.Join(err, <-stopped)
	}()
	r = reaction{source: o.name, rescue: o.rescues}
	for i := range b.notices {
		took, err := w.one(ctx, i)
		if err != nil {
			return r, fmt.Errorf("notice %d: %w", i, err)
		}
		r.times = append(r.times, took)
	}
	return r, nil
}

// watched is an origin with an agent that watches it, in this process: the daemon's own intake, dispatch and journal.
type watched struct {
	origin
	relay *relay
	log   *listener
	agent *agent.Agent
}

func newWatched(o origin) *watched {
	return &watched{origin: o, relay: newRelay(o), log: &listener{said: make(chan said, 16)}}
}

// start runs the agent. What comes out of stopped after end is how it ended.
func (w *watched) start(ctx context.Context, state string) (stopped <-chan error, end func(), err error) {
	cfg := config.Default()
	cfg.Node = config.Node{Name: "bench", Addresses: []string{noticeAddress}}
	cfg.State, cfg.Listen, cfg.Scan = state, "", time.Minute
	a, err := agent.New(cfg, agent.Deps{Log: zap.New(w.log), Registry: prometheus.NewRegistry(), Version: "bench", Sources: []providers.Source{w.relay}})
	if err != nil {
		return nil, nil, err
	}
	w.agent = a
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- a.Run(ctx, stop) }()
	return done, func() { close(stop) }, nil
}

// one shows the next notice and waits for what it leads to.
func (w *watched) one(ctx context.Context, i int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, noticePatience)
	defer cancel()
	if err := w.ready(ctx, i); err != nil {
		return 0, err
	}
	// Notices don't wait for a poll to pass.
	if err := wait(ctx, time.Duration(rand.Int64N(int64(noticePoll)))); err != nil {
		return 0, err
	}
	visible := time.Now()
	if err := w.show(i); err != nil {
		return 0, err
	}
	n, at, err := w.relay.next(ctx, false)
	if err != nil || !w.rescues {
		return at.Sub(visible), err
	}
	if at, err = w.log.hear(ctx, sayBegins, n.ID); err != nil {
		return 0, err
	}
	return at.Sub(visible), w.idle(ctx)
}

// idle waits until no rescue runs: until then a further notice would be part of it.
func (w *watched) idle(ctx context.Context) error {
	if _, err := w.log.hear(ctx, sayEnded, ""); err != nil {
		return err
	}
	for w.agent.Status(ctx).Rescue != nil {
		if err := wait(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// ready lets the origin forget the notice before, where it can't show two in a row.
func (w *watched) ready(ctx context.Context, i int) error {
	if w.hide == nil || i == 0 {
		return nil
	}
	w.hide()
	if w.machines {
		return w.relay.renew(ctx)
	}
	_, _, err := w.relay.next(ctx, true)
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
