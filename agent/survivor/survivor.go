// Package survivor acts for a node that died without a word: it makes certain that the node is dead, and then takes the
// executors' pods from it, so that their drivers notice within seconds and volumes can go to replacements. It runs away
// from the nodes that it looks after, and stands after the way of a rescue: there was none.
//
// Certain means all of this, from a fresh read before every single step: the control plane has not heard the kubelet
// (Ready is Unknown), its Lease has not been renewed and is over for survivor.after, also by observation here, and one
// witness more: the cloud's word (the shutdown taint, or the Node object deleted, both by the cloud controller manager,
// which has asked the cloud), or the machine's own last word that it would be gone by now. Clouds are not asked
// directly: the cloud controller manager does that every few seconds with permissions that exist already, in the same
// way for all clouds, where this process would need one client, and rights over instances, for each.
package survivor

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	// pace is the shortest time between two looks at what the watch has brought, tick the longest while a node is silent.
	pace, tick = 200 * time.Millisecond, 500 * time.Millisecond
	// nodesAtOnce that are acted on, and readsAtOnce of leases.
	nodesAtOnce, readsAtOnce = 8, 8
	// firstPause and longestPause are between passes that failed.
	firstPause, longestPause = time.Second, time.Minute
	// longestDoubt is the longest time between two looks at a node that may be dead.
	longestDoubt = 5 * time.Second
	// again is when a dead node is looked at once more: a pod may have been bound to it at the last moment.
	again = 5 * time.Minute
	// goneFor is how long a node is remembered whose object was deleted, by those that do not lead.
	goneFor = 30 * time.Minute
	// goneCounts is how long it counts as silent.
	goneCounts = time.Minute
)

// Options of a survivor. Cluster, Config.Nodes and Namespace are needed.
type Options struct {
	Cluster *kube.Cluster
	Config  config.Survivor
	// Namespace of the Lease that the replicas share.
	Namespace string
	// Name of this replica in logs, events and the Lease; "" is the host name.
	Name string
	// DryRun only logs and writes events.
	DryRun bool
	// Listen is the address of the pages; "" for none.
	Listen, Version string
	Log             *zap.Logger
	Registry        *prometheus.Registry
}

// Survivor is one replica. Make one with New.
type Survivor struct {
	o        Options
	cfg      config.Survivor
	dryRun   bool
	identity string
	rules    rules
	fleet    *kube.Fleet
	calls    *calls
	elector  *elector
	herald   *herald
	metrics  *metrics
	log      *zap.Logger
	started  time.Time
	stopping atomic.Bool
	poke     chan struct{} // something other than the fleet has changed

	mu     sync.Mutex
	cases  map[string]*patient   // silent nodes, by uid
	backs  map[string]*returning // nodes that were declared dead and are there again, by uid
	census *census
	// heldAt is since when the guard holds; zero: it does not. heldSaid is the last one of which there is an event.
	heldAt, heldSaid time.Time
}

// New checks the options; it opens no connection.
func New(o Options) (*Survivor, error) {
	if err := o.Config.Check(); err != nil {
		return nil, err
	}
	if o.Namespace == "" {
		return nil, errors.New("the namespace of the survivors' Lease is not known: set POD_NAMESPACE from the downward API (metadata.namespace), or --namespace")
	}
	if o.Name == "" {
		host, _ := os.Hostname()
		o.Name = cmp.Or(host, "survivor")
	}
	fleet, err := kube.NewFleet(kube.Options{Cluster: o.Cluster, Log: o.Log}, o.Config.Nodes)
	if err != nil {
		return nil, err
	}
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // it does not fail (crypto/rand)
	s := &Survivor{
		o: o, cfg: o.Config, dryRun: o.DryRun, identity: o.Name + "_" + hex.EncodeToString(nonce[:]),
		rules: rules{after: o.Config.After, onNotReady: o.Config.OnNotReady},
		fleet: fleet, calls: newCalls(o.Cluster), metrics: newMetrics(o.Registry), log: o.Log, started: time.Now(),
		poke: make(chan struct{}, 1), cases: make(map[string]*patient), backs: make(map[string]*returning), census: newCensus(),
	}
	s.elector = newElector(o.Cluster, o.Namespace, s.identity, o.Log, func(leads bool) {
		set(s.metrics.leader, leads)
		s.wake()
	})
	s.herald = newHerald(o.Log, func() { s.metrics.action(verbEvent, errors.New("too many events wait")) })
	return s, nil
}

// Run looks after the nodes until ctx ends. What is going on then is broken off, which harms nothing, and another replica
// leads at once.
func (s *Survivor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var background sync.WaitGroup
	defer background.Wait()
	if s.o.Listen != "" {
		server, err := status.Listen(ctx, status.Options{Addr: s.o.Listen, Gatherer: s.o.Registry, Reporter: s, Log: s.log})
		if err != nil {
			return err
		}
		s.log.Info("listening", zap.Stringer("address", server.Addr()))
		background.Go(func() {
			if err := server.Serve(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	background.Go(func() { s.fleet.Run(ctx) })
	background.Go(func() { s.elector.run(ctx) })
	background.Go(func() { s.herald.run(ctx) })
	s.patrol(ctx)
	s.stopping.Store(true)
	background.Wait()
	s.elector.release(ctx)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// wake makes the next look come at once.
func (s *Survivor) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// patrol looks again and again: when something has changed, and while time itself changes what is certain.
func (s *Survivor) patrol(ctx context.Context) {
	w := newWards()
	defer w.wait()
	for ctx.Err() == nil {
		changed := s.fleet.Changed()
		busy := s.look(ctx, w)
		if !pause(ctx, pace) {
			return
		}
		var ticks <-chan time.Time
		if busy {
			ticks = time.After(tick - pace)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-s.poke:
		case <-ticks:
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Status is what the pages show.
func (s *Survivor) Status(context.Context) status.Status {
	_, leads := s.elector.lead()
	v := &status.Survivor{Leader: leads, Identity: s.identity}
	if err := s.elector.error(); err != nil {
		v.LeaseError = err.Error()
	}
	s.mu.Lock()
	v.Nodes, v.Silent = s.census.all.nodes, s.census.all.silent
	if !s.heldAt.IsZero() {
		v.Held = &s.heldAt
	}
	for _, c := range s.cases {
		if c.declared {
			v.Dead = append(v.Dead, c.member.Name)
		}
	}
	s.mu.Unlock()
	slices.Sort(v.Dead)
	return status.Status{
		Version: s.o.Version, Node: s.o.Name, Started: s.started, Stopping: s.stopping.Load(),
		Sources: []status.Source{{Health: s.fleet.Health()}}, Survivor: v,
	}
}
