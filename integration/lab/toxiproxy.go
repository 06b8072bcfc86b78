package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strconv"

	"github.com/lifeboat/lifeboat/integration/tools"
)

// Toxiproxy is a running toxiproxy server: TCP proxies whose traffic can be slowed, cut or swallowed.
type Toxiproxy struct {
	proc *process
	api  string
}

// StartToxiproxy starts a server that ends with the cluster.
func (c *Cluster) StartToxiproxy(ctx context.Context) (*Toxiproxy, error) {
	folder, err := tools.Path(ctx, "toxiproxy", c.log)
	if err != nil {
		return nil, err
	}
	dir, err := c.mkdir("toxiproxy")
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	t := &Toxiproxy{api: "http://127.0.0.1:" + port}
	t.proc, err = startProcess(c.spawner, processSpec{
		args: []string{filepath.Join(folder, "server"), "-host", "127.0.0.1", "-port", port},
		env:  c.base(dir), dir: dir, log: filepath.Join(dir, "log"),
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.others = append(c.others, t.proc)
	c.mu.Unlock()
	return t, t.proc.waitFor(ctx, "toxiproxy answers", func(ctx context.Context) (bool, error) {
		return t.call(ctx, http.MethodGet, "/version", nil) == nil, nil
	})
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
