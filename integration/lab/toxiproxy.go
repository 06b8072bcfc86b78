package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
)

// Toxiproxy is a running toxiproxy server: TCP proxies whose traffic can be slowed, cut or swallowed.
type Toxiproxy struct {
	api string
}

// StartToxiproxy starts a server that ends with the cluster.
func (c *Cluster) StartToxiproxy(ctx context.Context) (*Toxiproxy, error) {
	return c.servers.Toxiproxy(ctx)
}

// Toxiproxy starts a server.
func (s *Servers) Toxiproxy(ctx context.Context) (*Toxiproxy, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	t := &Toxiproxy{api: "http://127.0.0.1:" + port}
	_, err = s.start(ctx, server{
		tool: "toxiproxy", program: "server", args: []string{"-host", "127.0.0.1", "-port", port},
		answers: func(ctx context.Context) bool { return t.call(ctx, http.MethodGet, "/version", nil) == nil },
	})
	return t, err
}

// FreePort is a port of 127.0.0.1 that nobody listened on a moment ago.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// Proxy is one proxy of the server.
type Proxy struct {
	Name   string
	Listen string // the address to connect to
	server *Toxiproxy
}

// Proxy makes a proxy to upstream (host:port) on a free port of the given address, "127.0.0.1" as a rule.
func (t *Toxiproxy) Proxy(ctx context.Context, name, address, upstream string) (*Proxy, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	p := &Proxy{Name: name, Listen: net.JoinHostPort(address, port), server: t}
	return p, t.call(ctx, http.MethodPost, "/proxies", map[string]any{
		"name": name, "listen": p.Listen, "upstream": upstream, "enabled": true,
	})
}

// Toxic does something bad to the traffic. Types and their attributes are toxiproxy's: latency
// {latency, jitter: ms}, bandwidth {rate: KB/s}, timeout {timeout: ms; 0: swallow for ever}, reset_peer
// {timeout: ms}, slow_close {delay: ms}, limit_data {bytes}, slicer {average_size, size_variation, delay: µs}.
type Toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream (from the client) or downstream
	Attributes map[string]int `json:"attributes"`
}

// Add puts a toxic on the proxy, for present and future connections.
func (p *Proxy) Add(ctx context.Context, toxic Toxic) error {
	return p.server.call(ctx, http.MethodPost, "/proxies/"+p.Name+"/toxics", toxic)
}

// Remove takes a toxic away.
func (p *Proxy) Remove(ctx context.Context, toxic string) error {
	return p.server.call(ctx, http.MethodDelete, "/proxies/"+p.Name+"/toxics/"+toxic, nil)
}

// Enable opens the proxy, or closes it with all of its connections.
func (p *Proxy) Enable(ctx context.Context, on bool) error {
	return p.server.call(ctx, http.MethodPost, "/proxies/"+p.Name, map[string]any{"enabled": on})
}

func (t *Toxiproxy) call(ctx context.Context, method, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return call(ctx, method, t.api+path, bytes.NewReader(raw), nil)
}
