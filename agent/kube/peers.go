package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	// listEvery is the shortest time between two lists of an application's executors. One is made only where an executor
	// turns up that is not on the last.
	listEvery = 4 * time.Second
	// nodeFresh is how long what a node has said is not asked again.
	nodeFresh = 3 * time.Second
	// nodeStale is how long it counts while the API server is away.
	nodeStale = 10 * time.Minute
	// nodesAtOnce are asked side by side.
	nodesAtOnce = 16
	// maxPeers are the executors of an application whose nodes are remembered.
	maxPeers = 20_000
)

// Peer is where an executor runs that could take map outputs.
type Peer struct {
	Node   string
	Doomed string // why nothing should be sent there; "" when nothing speaks against it
}

// peers is what is known of other nodes. It is filled in rescues only.
type peers struct {
	mu    sync.Mutex
	apps  map[string]*appPeers
	nodes map[string]*seenNode
}

// appPeers are the executors of an application.
type appPeers struct {
	listing sync.Mutex // one list at a time
	at      time.Time  // of the last
	nodes   map[string]string
}

// seenNode is what a node has said.
type seenNode struct {
	asking sync.Mutex
	doomed string
	at     time.Time // zero: it has not been asked with success
}

func newPeers() *peers { return &peers{apps: map[string]*appPeers{}, nodes: map[string]*seenNode{}} }

// Peers says where executors of an application run, by the host names that the driver has of them: their pods' addresses.
// Of what can't be learned before ctx ends the last that was known counts; what is not in the answer is not known. The
// first call of a rescue makes one list; each makes one request for each node that was not asked of late.
func (c *Client) Peers(ctx context.Context, namespace, app string, hosts []string) (map[string]Peer, error) {
	if c == nil || namespace == "" {
		return nil, nil
	}
	on, err := c.placesOf(ctx, namespace, app, hosts)
	names := map[string]bool{}
	for _, node := range on {
		names[node] = true
	}
	var mu sync.Mutex
	doomed := make(map[string]string, len(names))
	var all sync.WaitGroup
	slots := make(chan struct{}, nodesAtOnce)
	for name := range names {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			why, failed := c.doomed(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			doomed[name], err = why, errors.Join(err, failed)
		})
	}
	all.Wait()
	found := make(map[string]Peer, len(on))
	for host, node := range on {
		found[host] = Peer{Node: node, Doomed: doomed[node]}
	}
	return found, err
}

// Forget drops what is known of an application's executors.
func (c *Client) Forget(app string) {
	if c == nil {
		return
	}
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	delete(c.peers.apps, app)
	for name, n := range c.peers.nodes {
		if n.asking.TryLock() { // whoever asks now keeps it
			if time.Since(n.at) > nodeStale {
				delete(c.peers.nodes, name)
			}
			n.asking.Unlock()
		}
	}
}

// placesOf are the nodes of those hosts that are known.
func (c *Client) placesOf(ctx context.Context, namespace, app string, hosts []string) (map[string]string, error) {
	c.peers.mu.Lock()
	a := c.peers.apps[app]
	if a == nil {
		a = &appPeers{}
		c.peers.apps[app] = a
	}
	c.peers.mu.Unlock()
	a.listing.Lock()
	defer a.listing.Unlock()
	var err error
	missing := slices.ContainsFunc(hosts, func(h string) bool { return a.nodes[executor.NormalAddress(h)] == "" })
	if missing && time.Since(a.at) > listEvery {
		var nodes map[string]string
		if nodes, err = c.listPeers(ctx, namespace, app); err == nil {
			a.nodes, a.at = nodes, time.Now()
		}
	}
	on := make(map[string]string, len(hosts))
	for _, h := range hosts {
		if node := a.nodes[executor.NormalAddress(h)]; node != "" {
			on[h] = node
		}
	}
	return on, err
}

// doomed says whether nothing should be sent to a node. Of this one the watch knows.
func (c *Client) doomed(ctx context.Context, name string) (why string, err error) {
	if name == c.o.Name {
		s, known := c.o.Node.State()
		if !known {
			return "", nil
		}
		return s.Doomed(c.o.Taints), nil
	}
	c.peers.mu.Lock()
	n := c.peers.nodes[name]
	if n == nil {
		n = &seenNode{}
		c.peers.nodes[name] = n
	}
	c.peers.mu.Unlock()
	n.asking.Lock()
	defer n.asking.Unlock()
	if time.Since(n.at) < nodeFresh {
		return n.doomed, nil
	}
	s, err := c.cluster.Read(ctx, name, false)
	switch {
	case err == nil:
		n.doomed, n.at = s.Doomed(c.o.Taints), time.Now()
	case errors.Is(err, kube.ErrNotFound):
		n.doomed, n.at, err = "it is no more", time.Now(), nil
	case time.Since(n.at) > nodeStale:
		n.doomed = ""
	}
	return n.doomed, err
}

// printed is a list as the API server makes it for people: a few cells for each object, and not the whole of it, which for an
// application of a thousand executors is some hundred KiB instead of ten MiB (meta.k8s.io/v1 Table; kubectl get -o wide
// shows the same columns).
type printed struct {
	Kind    string `json:"kind"`
	Columns []struct {
		Name string `json:"name"`
	} `json:"columnDefinitions"`
	Rows []struct {
		Cells []json.RawMessage `json:"cells"`
	} `json:"rows"`
}

const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

// listPeers asks where all executors of an application are, by their addresses.
func (c *Client) listPeers(ctx context.Context, namespace, app string) (map[string]string, error) {
	var t printed
	err := c.cluster.Do(ctx, kube.Request{
		Method: http.MethodGet, Path: "/api/v1/namespaces/" + namespace + "/pods", Accept: asTable, Out: &t,
		Query: url.Values{
			"labelSelector": {"spark-role=executor,spark-app-selector=" + app}, "resourceVersion": {"0"}, "includeObject": {"None"},
			"fieldSelector": {"status.phase=Running"}, // addresses of pods that have ended are used again
		},
	})
	if err != nil {
		return nil, err
	}
	nodes, err := t.places()
	if err != nil {
		return nil, fmt.Errorf("list of the executors' pods of %s: %w", app, err)
	}
	c.log.Debug("executors' nodes listed", zap.String("app", app), zap.Int("pods", len(nodes)))
	return nodes, nil
}

// places are the nodes by the pods' addresses.
func (t printed) places() (map[string]string, error) {
	column := func(name string) int {
		for i, c := range t.Columns {
			if c.Name == name {
				return i
			}
		}
		return -1
	}
	ip, node := column("IP"), column("Node")
	switch {
	case t.Kind != "Table" || ip < 0 || node < 0:
		return nil, errors.New("the API server does not print pods as a table with the columns IP and Node")
	case len(t.Rows) > maxPeers:
		return nil, fmt.Errorf("%d pods are too many", len(t.Rows))
	}
	text := func(cells []json.RawMessage, i int) (s string) {
		if i < len(cells) {
			_ = json.Unmarshal(cells[i], &s)
		}
		return s
	}
	nodes := make(map[string]string, len(t.Rows))
	for _, r := range t.Rows {
		host, name := text(r.Cells, ip), text(r.Cells, node)
		if host != "" && host != "<none>" && name != "" && name != "<none>" {
			nodes[executor.NormalAddress(host)] = name
		}
	}
	return nodes, nil
}
