//go:build integration

package kubernetes

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/kube"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
	"github.com/lifeboat/lifeboat/providers/providertest"
)

// door is a proxy before the real API server where things go wrong. Whoever comes through it needs its token.
type door struct {
	t          *testing.T
	script     *metadatatest.Server
	kubeconfig string
	tokenFile  string

	mu       sync.Mutex
	token    int
	requests []string     // method and path with the query
	sent     atomic.Int64 // bytes of answers
	epoch    context.Context
	end      context.CancelFunc // of the requests of this epoch
	open     *sync.WaitGroup    // those requests
}

// newDoor opens one that ends with the test.
func newDoor(t *testing.T) *door {
	t.Helper()
	dir := t.TempDir()
	d := &door{t: t, tokenFile: filepath.Join(dir, "token"), kubeconfig: filepath.Join(dir, "kubeconfig")}
	d.begin()
	d.rotate()
	target, err := url.Parse(shared.URL)
	must(t, err)
	proxy := &httputil.ReverseProxy{
		Transport:     shared.Transport(),
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization")
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del("Date") // the door's clock counts
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	d.script = metadatatest.New(metadatatest.Service{
		Serve:  func(w http.ResponseWriter, r *http.Request) { d.serve(proxy, w, r) },
		Page:   func(w http.ResponseWriter, status int) { w.WriteHeader(status) },
		False:  falseList,
		Broken: func(*http.Request) string { return falseList[:len(falseList)-5] },
		Revoke: d.rotate,
	})
	server := httptest.NewUnstartedServer(d.script)
	must(t, shared.CA.Issue(filepath.Join(dir, "door"), "door", nil, "127.0.0.1"))
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "door.crt"), filepath.Join(dir, "door.key"))
	must(t, err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections are cut on purpose
	server.StartTLS()
	t.Cleanup(func() {
		d.cut()
		server.CloseClientConnections()
		server.Close()
	})
	must(t, shared.Kubeconfig(d.kubeconfig, server.URL, kubelab.User{TokenFile: d.tokenFile}))
	return d
}

// falseList is what a redirect leads to, and how answers begin that are cut off: a node that is said to go at once.
const falseList = `{"kind":"NodeList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"uid":"false","resourceVersion":"1"},` +
	`"spec":{"taints":[{"key":"ToBeDeletedByClusterAutoscaler","value":"1700000000","effect":"NoSchedule"}]}}]}`

// serve lets one request through to the API server.
func (d *door) serve(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.requests = append(d.requests, r.Method+" "+r.URL.RequestURI())
	known := r.Header.Get("Authorization") == "Bearer "+strconv.Itoa(d.token)
	epoch, open := d.epoch, d.open
	open.Add(1)
	d.mu.Unlock()
	defer open.Done()
	if !known {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(epoch, cancel)()
	proxy.ServeHTTP(&counted{ResponseWriter: w, bytes: &d.sent}, r.WithContext(ctx))
}

// counted counts what is written.
type counted struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// Unwrap is how net/http finds out that the answer can be flushed.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// rotate replaces the token: the one from before is refused.
func (d *door) rotate() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.token++
	tmp := d.tokenFile + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(d.token)), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(tmp, d.tokenFile); err != nil {
		panic(err)
	}
}

func (d *door) begin() {
	d.epoch, d.end = context.WithCancel(context.Background())
	d.open = &sync.WaitGroup{}
}

// cut ends what is open. When it returns, nothing that happens later goes through a watch from before.
func (d *door) cut() {
	d.mu.Lock()
	end, open := d.end, d.open
	d.begin()
	d.mu.Unlock()
	end()
	open.Wait()
}

// SetFault is a method of the suite's rigs.
func (d *door) SetFault(f providertest.Fault) {
	switch f {
	case providertest.None:
		d.script.Faults()
		return
	case providertest.TokenExpiry:
		d.script.Faults()
		d.rotate()
	case providertest.Slow:
		d.script.Faults(metadatatest.Fault{Kind: metadatatest.Slow, Delay: 10 * time.Millisecond})
	default:
		// The words are the same.
		d.script.Faults(metadatatest.Fault{Kind: metadatatest.Kind(f)})
	}
	d.cut()
}

// SetClock is a method of the suite's rigs.
func (d *door) SetClock(ahead time.Duration) { d.script.Skew(ahead) }

// options of a quick source for a machine.
func (d *door) options(node string, reg prometheus.Registerer) kube.Options {
	d.t.Helper()
	cluster, err := kube.Open(kube.Access{Kubeconfig: d.kubeconfig})
	must(d.t, err)
	d.t.Cleanup(cluster.Close)
	return kube.Options{
		Cluster: cluster, Node: node, Metrics: reg,
		Timeout: time.Second, Retry: 20 * time.Millisecond, Look: 4 * time.Millisecond,
		Taints: extraTaints(),
	}
}

// leaving is a key of the configuration; each key can be on a node once.
func leaving(i int) string { return fmt.Sprintf("example.com/leaving-%d", i) }

const lead = 10 * time.Minute

func extraTaints() (all []kube.Taint) {
	for i := range 3 {
		all = append(all, kube.Taint{Key: leaving(i), Kind: providers.Drain, Lead: lead})
	}
	return all
}

// nodeRig announces as the cluster autoscaler does: its taint's value is the time at which it was set.
type nodeRig struct {
	*door
	m, other *machine
}

func newNodeRig(t *testing.T) providertest.Rig {
	t.Helper()
	return &nodeRig{door: newDoor(t), m: newMachine(t, shared), other: newMachine(t, shared)}
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func autoscaler(deadline time.Time) taint {
	return taint{key: "ToBeDeletedByClusterAutoscaler", value: unix(deadline.Add(-lead))}
}

func (r *nodeRig) Announce(deadline time.Time) { r.m.taint(autoscaler(deadline)) }

func (r *nodeRig) Withdraw() { r.m.taint() }

func (r *nodeRig) AnnounceElsewhere(deadline time.Time) { r.other.taint(autoscaler(deadline)) }

func (r *nodeRig) AnnounceAll(deadlines ...time.Time) {
	var all []taint
	for _, d := range deadlines {
		all = append(all, taint{key: leaving(int(d.Unix() % 3)), value: unix(d.Add(-lead))})
	}
	r.m.taint(all...)
}

func (r *nodeRig) AnnounceExtended(deadline time.Time) {
	r.m.annotate("example.com/new", "thing")
	r.m.taint(taint{key: "example.com/new", value: "thing"}, autoscaler(deadline))
}

func (r *nodeRig) AnnounceUnknown(deadline time.Time) {
	r.m.taint(taint{key: "example.com/unknown", value: unix(deadline)})
}

func (r *nodeRig) Source(reg prometheus.Registerer) providers.Source {
	s, err := kube.NewNode(r.options(r.m.name, reg))
	must(r.t, err)
	return s
}

// podsRig announces as the API server does when it evicts, with a condition whose time the rig can choose.
type podsRig struct {
	*door
	m, other *machine
	shown    map[time.Time]string // by AnnounceAll: pods
}

func newPodsRig(t *testing.T) providertest.Rig {
	t.Helper()
	r := &podsRig{door: newDoor(t), m: newMachine(t, shared), other: newMachine(t, shared), shown: make(map[time.Time]string)}
	r.m.executor(1, "driver")
	r.m.pods = nil
	t.Cleanup(func() {
		// What is left would be read by every list of a later test.
		for _, m := range []*machine{r.m, r.other} {
			for _, pod := range m.pods {
				_ = shared.Do(context.Background(), http.MethodDelete, podPath(pod)+"?gracePeriodSeconds=0", nil, nil)
			}
		}
	})
	return r
}

func (r *podsRig) Executors() (string, []string) { return app, []string{"7"} }

func (r *podsRig) Announce(deadline time.Time) {
	r.m.gone()
	r.evict(deadline)
}

func (r *podsRig) evict(deadline time.Time) (pod string) {
	pod = r.m.executor(7, "executor")
	r.m.disrupt(pod, "True", "EvictionByEvictionAPI", deadline.Add(-grace))
	return pod
}

func (r *podsRig) AnnounceAll(deadlines ...time.Time) {
	for shown, pod := range r.shown {
		if !slices.ContainsFunc(deadlines, shown.Equal) {
			r.m.disrupt(pod, "False", "", time.Now())
			delete(r.shown, shown)
		}
	}
	for _, d := range deadlines {
		if _, known := r.shown[d]; !known {
			r.shown[d] = r.evict(d)
		}
	}
}

func (r *podsRig) AnnounceElsewhere(deadline time.Time) {
	r.other.disrupt(r.other.executor(7, "executor"), "True", "EvictionByEvictionAPI", deadline.Add(-grace))
}

func (r *podsRig) Withdraw() {
	for _, pod := range r.m.pods {
		r.m.disrupt(pod, "False", "", time.Now())
	}
}

func (r *podsRig) Source(reg prometheus.Registerer) providers.Source {
	s, err := kube.NewPods(r.options(r.m.name, reg))
	must(r.t, err)
	return s
}

// faults are those of HTTP without 404, which says nothing else here than a wrong address.
func faults() (some []providertest.Fault) {
	for _, f := range providertest.HTTP {
		if f != providertest.NotFound {
			some = append(some, f)
		}
	}
	return some
}

func TestConformanceNode(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{New: newNodeRig, Faults: faults(), Withdraws: true, Events: events})
}

func TestConformancePods(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{New: newPodsRig, Faults: faults(), Withdraws: true, Events: events})
}

const events = 1000
