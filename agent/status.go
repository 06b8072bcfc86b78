package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/drill"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers"
)

// serve answers /metrics, /healthz, /readyz and /status in the background until ctx ends. Without a listen
// address it does nothing. failed gets the error that ended it early.
func (a *Agent) serve(ctx context.Context, background *sync.WaitGroup, failed chan<- error) error {
	if a.cfg.Listen == "" {
		return nil
	}
	server, err := status.Listen(ctx, status.Options{Addr: a.cfg.Listen, Gatherer: a.registry, Reporter: a, Log: a.log})
	if err != nil {
		return err
	}
	a.log.Info("listening", zap.Stringer("address", server.Addr()))
	background.Go(func() {
		if err := server.Serve(ctx); err != nil && ctx.Err() == nil {
			select {
			case failed <- err:
			case <-ctx.Done():
			}
		}
	})
	return nil
}

// Status is what the status page shows.
func (a *Agent) Status(context.Context) status.Status {
	s := status.Status{
		Version: a.version, Node: a.cfg.Node.Name, Started: a.started, Stopping: a.stopping.Load(),
		State: status.StateFolder{Path: a.cfg.State},
	}
	if err := a.store.Writable(); err != nil {
		s.State.Error = err.Error()
	}
	for _, source := range a.watched() {
		s.Sources = append(s.Sources, viewOf(source))
	}
	s.Notices = a.handled.all()
	s.Detection = a.detection()
	a.mu.Lock()
	running, seen := a.running, a.seen
	s.LastReport = a.last
	a.mu.Unlock()
	for _, e := range seen {
		s.Executors = append(s.Executors, status.Executor{App: e.App, ID: e.ID, Host: e.Host, PID: e.PID, Spark: e.Spark})
	}
	if running != nil {
		s.Rescue = running.status()
	}
	return s
}

// sourcesUp is how many sources of notices answer now; that of drills hears no real notice and is left out.
func (a *Agent) sourcesUp() float64 {
	n := 0
	for _, source := range a.watched() {
		if v := viewOf(source); v.OK && !v.Drills {
			n++
		}
	}
	return float64(n)
}

// silence is how long a source may be without an answer although its last poll had one: after that nothing polls it any more.
// Every source looks much more often.
const silence = 5 * time.Minute

// viewOf is what a source sees.
func viewOf(source providers.Source) status.Source {
	v := status.Source{Drills: source.Name() == drill.Source}
	if sight, ok := source.(providers.Sight); ok {
		v.Health, v.Notices = sight.Health(), sight.Notices()
	}
	v.Source = source.Name()
	if quiet := time.Since(v.LastAnswer); v.OK && quiet > silence {
		v.OK, v.Error = false, fmt.Sprintf("it was not asked for %s", quiet.Round(time.Second))
	}
	return v
}

func (r *rescue) status() *status.Rescue {
	p := r.now()
	s := &status.Rescue{
		ID: p.ID, Notice: r.main(), Began: r.began, Deadline: p.Deadline, SecondsLeft: time.Until(p.Deadline).Seconds(),
		Found: p.Found.Outputs, Saved: p.Saved.Outputs, Lost: p.Lost.Outputs,
		FoundBytes: p.Found.Bytes, SavedBytes: p.Saved.Bytes, LostBytes: p.Lost.Bytes,
	}
	for _, a := range r.applications() {
		s.Phases = append(s.Phases, a.id+": "+a.current())
	}
	return s
}

// current is the phase that the application is in.
func (a *application) current() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.doing
}
