package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// poll is the product's default.
var poll = config.Default().Providers.AWS.Poll

// idling is what an agent uses while nothing happens.
type idling struct {
	rss int64   // bytes
	cpu float64 // of one core
}

// watchIdle watches an agent on a node with one executor.
func (b *bench) watchIdle(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, b.idle+2*time.Minute)
	defer cancel()
	c, err := lab.Start(ctx, lab.Options{Spark: b.spark})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	n, err := c.AddNode(ctx, lab.NodeOptions{Address: doomedAddress})
	if err != nil {
		return err
	}
	app, err := c.Submit(ctx, lab.AppOptions{})
	if err != nil {
		return err
	}
	if err := app.WaitExecutors(ctx, 1); err != nil {
		return err
	}
	agent, err := c.StartAgent(ctx, n, lab.AgentOptions{Binary: b.binary, Poll: poll, Config: b.config})
	if err != nil {
		return err
	}
	before, err := lab.UsageOf(agent.PID())
	if err != nil {
		return err
	}
	select {
	case <-time.After(b.idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := lab.UsageOf(agent.PID())
	if err != nil {
		return err
	}
	b.idler = &idling{rss: after.RSS, cpu: (after.CPU - before.CPU).Seconds() / b.idle.Seconds()}
	fmt.Fprintf(b.w, "idle for %v: %.1f MiB, %.2f %% of a core\n", b.idle, float64(b.idler.rss)/(1<<20), 100*b.idler.cpu)
	return nil
}
