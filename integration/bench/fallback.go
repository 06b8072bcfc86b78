package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// Sides of a job whose only node is taken away, beside spark and lifeboat.
const (
	unharmed = "unharmed" // the node stays
	nobody   = "nobody"   // it goes, and nobody does anything
)

// fallbackJob is a job of two stages on one executor. Its tasks sleep most of the time, so that this small machine does not
// decide what is measured.
var fallbackJob = lab.Job{Maps: 12, Reduces: 4, KiBPerMap: 2048, MsPerMap: 4000, MsPerReduce: 36_000}

const (
	// fallbackNotice is how long before its end the node is announced to go, once half of the maps are done: the end comes
	// in the middle of the reducers. Clouds give more time, and jobs take longer.
	fallbackNotice = 20 * time.Second
	spareAddress   = "127.0.9.3"
)

// jobRun is one job.
type jobRun struct {
	side  string
	took  time.Duration
	again int // map tasks that ran more than once
}

// watchFallback runs the same job for each side. The job has one executor at a time, so that there is no peer at the
// notice, and what is saved goes to the fallback storage. A new node comes with the notice.
func (b *bench) watchFallback(ctx context.Context) error {
	fmt.Fprintf(b.w, "\nSpark %s; a job of %d maps and %d reducers, its only executor leaves %v after half of the maps; load before: %s\n\n",
		b.spark, fallbackJob.Maps, fallbackJob.Reduces, fallbackNotice, load())
	for i := range b.jobs {
		for _, side := range []string{unharmed, lifeboat, nobody, spark} {
			r, err := b.fallback(ctx, side)
			if err != nil {
				return fmt.Errorf("fallback, %s, run %d: %w", side, i+1, err)
			}
			b.jobRuns = append(b.jobRuns, r)
			fmt.Fprintf(b.w, "fallback   %-8s run %d: the job took %.1f s, %d map tasks ran again; load %s\n",
				side, i+1, r.took.Seconds(), r.again, load())
		}
	}
	return nil
}

// fallbackScene is what one side finds.
type fallbackScene struct {
	*lab.Cluster
	doomed *lab.Node
	app    *lab.App
	store  *lab.Storage
}

func (b *bench) fallback(ctx context.Context, side string) (r jobRun, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	var log io.Writer
	if b.verbose {
		log = os.Stderr
	}
	c, err := lab.Start(ctx, lab.Options{Spark: b.spark, S3A: true, Log: log})
	if err != nil {
		return r, err
	}
	if b.keep {
		c.KeepFiles()
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	s := &fallbackScene{Cluster: c}
	if err := s.prepare(ctx); err != nil {
		return r, err
	}
	var agent *lab.Agent
	if side == lifeboat {
		agent, err = c.StartAgent(ctx, s.doomed, lab.AgentOptions{
			Binary: b.binary, Config: b.config, Env: []string{"AWS_ACCESS_KEY_ID=" + s.store.Key, "AWS_SECRET_ACCESS_KEY=" + s.store.Secret},
		})
		if err != nil {
			return r, err
		}
	}
	running, err := s.app.StartRound(ctx)
	if err != nil {
		return r, err
	}
	if side != unharmed {
		if err := s.take(ctx, side, agent); err != nil {
			return r, err
		}
	}
	got, err := running.Wait(ctx)
	if err == nil && !got.Exact {
		err = errors.New("the job's result is wrong")
	}
	return jobRun{side: side, took: got.Took, again: got.MapTasks - fallbackJob.Maps}, err
}

// prepare starts the job's executor on the doomed node.
func (s *fallbackScene) prepare(ctx context.Context) (err error) {
	if s.store, err = s.Servers().Versity(ctx); err != nil {
		return err
	}
	conf := s.store.SparkConf("copies")
	for _, key := range []string{"spark.decommission.enabled", "spark.storage.decommission.enabled", "spark.storage.decommission.shuffleBlocks.enabled"} {
		conf[key] = "true"
	}
	s.doomed, err = s.AddNode(ctx, lab.NodeOptions{Address: doomedAddress, Cores: cores, Conf: map[string]string{"spark.decommission.enabled": "true"}})
	if err != nil {
		return err
	}
	s.app, err = s.Submit(ctx, lab.AppOptions{Cores: cores, ExecutorCores: cores, ExecutorMemoryMB: 1024, Conf: conf, Job: fallbackJob})
	if err != nil {
		return err
	}
	if err := s.app.WaitExecutors(ctx, 1); err != nil {
		return err
	}
	return s.app.Warm(ctx, cores)
}

// take announces the end of the node when half of the maps are done, and brings it.
func (s *fallbackScene) take(ctx context.Context, side string, agent *lab.Agent) error {
	_, err := s.app.WaitStage(ctx, "half of the maps are done", func(st lab.Stage) bool {
		return st.IsMap() && st.CompleteTasks >= fallbackJob.Maps/2
	})
	if err != nil {
		return err
	}
	end := time.Now().Add(fallbackNotice)
	switch side {
	case lifeboat:
		agent.Announce(fallbackNotice)
	case spark:
		if err := s.decommission(); err != nil {
			return err
		}
	}
	// The master starts a new executor when it hears of a node, not when it hears that another one leaves.
	if _, err := s.AddNode(ctx, lab.NodeOptions{Address: spareAddress, Cores: cores}); err != nil {
		return err
	}
	select {
	case <-time.After(time.Until(end)):
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.doomed.Kill()
}

// decommission has the executor decommission itself, as a pod's preStop hook does.
func (s *fallbackScene) decommission() error {
	p, err := onlyExecutor(s.doomed)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Signal(syscall.SIGPWR)
}

// fallbackResults compares our side with each of the others.
func (b *bench) fallbackResults(add func(name, unit string, ours, other float64, peer string)) {
	of := func(side string) (seconds, again []float64) {
		for _, r := range b.jobRuns {
			if r.side == side {
				seconds, again = append(seconds, r.took.Seconds()), append(again, float64(r.again))
			}
		}
		return seconds, again
	}
	ours, oursAgain := of(lifeboat)
	if len(ours) == 0 {
		return
	}
	for _, o := range []struct{ side, peer string }{
		{unharmed, "the same job, no kill"}, {nobody, "the same kill, no agent"}, {spark, "Spark " + b.spark + "'s own fallback storage"},
	} {
		if other, otherAgain := of(o.side); len(other) > 0 {
			add("fallback-job-"+o.side, "s", median(ours), median(other), o.peer)
			add("fallback-recomputed-"+o.side, "maps", median(oursAgain), median(otherAgain), o.peer)
		}
	}
}
