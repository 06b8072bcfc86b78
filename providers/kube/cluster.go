package kube

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
)

// Access says how to reach the API server.
type Access struct {
	// Kubeconfig is a file; "" takes what Kubernetes gives a pod (the service account and KUBERNETES_SERVICE_HOST).
	Kubeconfig string
	// Ping is DefaultPing when 0.
	Ping time.Duration
}

// InCluster says whether this process runs in a pod with a service account: whether Open works without a kubeconfig.
func InCluster() bool {
	_, err := rest.InClusterConfig()
	return err == nil
}

// Cluster is a way to the API server, for all that watch it.
type Cluster struct {
	access Access

	mu      sync.Mutex
	current *way
}

// way is one set of credentials and the connection that uses it.
type way struct {
	http   *http.Client
	server *url.URL
	close  func()
}

// Open reads the access; it opens no connection.
func Open(a Access) (*Cluster, error) {
	a.Ping = cmp.Or(a.Ping, DefaultPing)
	c := &Cluster{access: a}
	w, err := c.open()
	if err != nil {
		return nil, err
	}
	c.current = w
	return c, nil
}

// Close closes idle connections.
func (c *Cluster) Close() { c.way().close() }

func (c *Cluster) way() *way {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// renew reads the access again after it was refused: certificates, tokens and authorities are rotated on disk. What can't
// be read leaves the old way in place: it is refused again, and that says more. Several callers renew once.
func (c *Cluster) renew(refused *way) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != refused {
		return
	}
	if w, err := c.open(); err == nil {
		refused.close()
		c.current = w
	}
}

func (c *Cluster) open() (*way, error) {
	cfg, err := c.access.config()
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "lifeboat"
	server, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: address of the API server: %w", err)
	}
	how, err := cfg.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	secrets, err := transport.TLSConfigFor(how)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	wire := c.access.wire(secrets, how)
	trip, err := transport.HTTPWrappersForConfig(how, wire)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return &way{
		server: server,
		close:  wire.CloseIdleConnections,
		http: &http.Client{
			Transport:     trip,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (a Access) config() (*rest.Config, error) {
	if a.Kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("kubernetes: no kubeconfig is given, and this is no pod with a service account: %w", err)
		}
		return cfg, nil
	}
	if _, err := os.Stat(a.Kubeconfig); err != nil {
		return nil, fmt.Errorf("kubernetes: kubeconfig: %w", err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: kubeconfig %s: %w", a.Kubeconfig, err)
	}
	return cfg, nil
}

// wire is client-go's transport, with pings that find a dead server in seconds and can't be set there.
func (a Access) wire(secrets *tls.Config, how *transport.Config) *http.Transport {
	dial := how.DialHolder
	t := &http.Transport{
		Proxy:                  how.Proxy,
		DialContext:            (&net.Dialer{Timeout: DefaultTimeout, KeepAlive: a.Ping}).DialContext,
		TLSClientConfig:        secrets,
		TLSHandshakeTimeout:    DefaultTimeout,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: a.Ping, PingTimeout: a.Ping},
	}
	if t.Proxy == nil {
		t.Proxy = http.ProxyFromEnvironment
	}
	if dial != nil {
		t.DialContext = dial.Dial
	}
	return t
}
