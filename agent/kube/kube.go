// Package kube is what only Kubernetes has of a rescue: the executors' pods, the node and the way in which both are taken
// away from the scheduler. It stands beside the data path: what a rescue needs of it is cached on the node, and nothing
// waits for the API server longer than Patience in all before the first copy.
package kube

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// Patience is how long a rescue waits for an answer of the API server before it goes on without.
const Patience = time.Second

// Options of a client. Cluster, Node and Pods are needed.
type Options struct {
	Cluster *kube.Cluster
	Node    *kube.Node // the source that watches this node
	Pods    *kube.Pods // the source that watches the executors' pods on it
	Name    string     // of this node's object
	Config  config.Kubernetes
	Taints  []kube.Taint // configured beside kube.DisruptionTaints
	Proc    string       // "" is /proc
	State   string       // the agent's folder, for what its next run has to know; "": nothing is remembered
	// Standing says whether a source shows a notice for the node; nil: none does.
	Standing func() bool
	Log      *zap.Logger
	Metrics  prometheus.Registerer
}

// Client is an agent's hand at the API server. A nil Client says that there is no Kubernetes here: all of its methods then do
// nothing, and know nothing.
type Client struct {
	o       Options
	cluster *kube.Cluster
	log     *zap.Logger

	marking *marking
	peers   *peers

	mu      sync.Mutex
	drivers map[string]place // where drivers run, by their pods' uids

	teller *teller
}

// New makes a client; it opens no connection.
func New(o Options) *Client {
	o.Proc = cmp.Or(o.Proc, "/proc")
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Client{
		o: o, cluster: o.Cluster, log: o.Log, marking: newMarking(), peers: newPeers(), drivers: map[string]place{},
		teller: newTeller(o.Cluster, o),
	}
}

// Run does what goes on in the background until ctx ends, and then for a moment says what still waits to be said.
func (c *Client) Run(ctx context.Context) {
	if c == nil {
		return
	}
	var all sync.WaitGroup
	all.Go(func() { c.followDrivers(ctx) })
	all.Go(func() { c.followNode(ctx) })
	c.teller.takeUp()
	all.Wait()
	c.drain()
}

// Name is that of this node's object; "" without Kubernetes.
func (c *Client) Name() string {
	if c == nil {
		return ""
	}
	return c.o.Name
}

// Executors are the executors' pods on this node, as far as they are known.
func (c *Client) Executors() []kube.Pod {
	if c == nil {
		return nil
	}
	return c.o.Pods.Executors()
}

// Changed is closed when more is known of them; nil, which is never closed, without Kubernetes.
func (c *Client) Changed() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.o.Pods.Changed()
}
