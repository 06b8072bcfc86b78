// Package kubelab runs a real Kubernetes control plane on this machine for the integration tests: etcd and the API server
// on loopback addresses, with certificates and a folder of their own. It stands where the cluster stands, outside the
// way of a rescue.
package kubelab

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/integration/tools"
)

// Options of a control plane. The zero value is right.
type Options struct {
	Flags []string  // of the API server, after its own
	Log   io.Writer // progress of an installation
}

// Cluster is a running control plane. No controller and no scheduler runs: objects stay as they are written, and a pod is
// on a node when its creator says so. Close ends it.
type Cluster struct {
	// Folder holds the data, the logs and the certificates.
	Folder string
	// URL of the API server.
	URL string
	// CA signs all certificates.
	CA *Authority

	bin       string
	store     string // address of etcd
	etcd      *program
	api       *program
	apiArgs   []string
	http      *http.Client
	keepFiles bool
}

// Start starts etcd and the API server, and waits until it is ready.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	c = &Cluster{}
	defer func() {
		if err != nil {
			c.keepFiles = true
			err = errors.Join(err, c.Close())
		}
	}()
	if c.bin, err = tools.Path(ctx, "kubernetes", o.Log); err != nil {
		return c, err
	}
	if c.Folder, err = os.MkdirTemp("", "lifeboat-kubelab-"); err != nil {
		return c, err
	}
	if err := c.startEtcd(); err != nil {
		return c, err
	}
	if err := c.prepare(o.Flags); err != nil {
		return c, err
	}
	return c, c.StartAPIServer(ctx)
}

// startEtcd starts the store. Nothing is synced to the disk: it lives as long as the test.
func (c *Cluster) startEtcd() error {
	client, err := lab.FreePort()
	if err != nil {
		return err
	}
	peer, err := lab.FreePort()
	if err != nil {
		return err
	}
	clients, peers := "http://127.0.0.1:"+client, "http://127.0.0.1:"+peer
	c.store = clients
	c.etcd, err = c.run("etcd", "--name=lab", "--data-dir="+filepath.Join(c.Folder, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=lab="+peers)
	return err
}

// prepare makes the certificates and the API server's arguments.
func (c *Cluster) prepare(flags []string) error {
	port, err := lab.FreePort()
	if err != nil {
		return err
	}
	c.URL = "https://127.0.0.1:" + port
	if c.CA, err = NewAuthority(c.path("ca")); err != nil {
		return err
	}
	if err := c.CA.Issue(c.path("apiserver"), "kube-apiserver", nil, "127.0.0.1", "localhost", "kubernetes.default.svc"); err != nil {
		return err
	}
	if err := c.CA.Issue(c.path("admin"), "admin", []string{"system:masters"}); err != nil {
		return err
	}
	if err := newServiceAccountKey(c.path("sa")); err != nil {
		return err
	}
	if err := c.Kubeconfig(c.path("admin.kubeconfig"), c.URL, User{Certificate: c.path("admin")}); err != nil {
		return err
	}
	admin, err := tls.LoadX509KeyPair(c.path("admin.crt"), c.path("admin.key"))
	if err != nil {
		return err
	}
	c.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: c.CA.Pool(), Certificates: []tls.Certificate{admin}, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}}
	c.apiArgs = append([]string{
		"--etcd-servers=" + c.store, "--bind-address=127.0.0.1", "--secure-port=" + port, "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC", "--allow-privileged=true",
		"--disable-admission-plugins=ServiceAccount", // nobody makes the accounts
		"--tls-cert-file=" + c.path("apiserver.crt"), "--tls-private-key-file=" + c.path("apiserver.key"),
		"--client-ca-file=" + c.path("ca.crt"), "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("sa.pub"), "--service-account-signing-key-file=" + c.path("sa.key"),
	}, flags...)
	return nil
}

// path of a file of the cluster.
func (c *Cluster) path(name string) string { return filepath.Join(c.Folder, name) }

// AdminKubeconfig is a kubeconfig that may do everything.
func (c *Cluster) AdminKubeconfig() string { return c.path("admin.kubeconfig") }

// StartAPIServer starts it again after StopAPIServer; etcd keeps what was written.
func (c *Cluster) StartAPIServer(ctx context.Context) (err error) {
	if c.api, err = c.run("kube-apiserver", c.apiArgs...); err != nil {
		return err
	}
	return c.api.waitFor(ctx, "the API server is ready", func(ctx context.Context) (bool, error) {
		return c.Do(ctx, http.MethodGet, "/readyz", nil, nil) == nil, nil
	})
}

// StopAPIServer kills it, and with it all its connections.
func (c *Cluster) StopAPIServer() {
	if c.api != nil {
		c.api.kill()
	}
}

// Pause stops the API server without closing its connections, as a machine that hangs; Resume lets it go on.
func (c *Cluster) Pause() error { return c.api.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (c *Cluster) Resume() error { return c.api.signal(syscall.SIGCONT) }

// KeepFiles leaves the folder in place at the end.
func (c *Cluster) KeepFiles() { c.keepFiles = true }

// Close ends everything and removes the folder.
func (c *Cluster) Close() error {
	c.StopAPIServer()
	if c.etcd != nil {
		c.etcd.kill()
	}
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	if c.keepFiles || c.Folder == "" {
		return nil
	}
	return os.RemoveAll(c.Folder)
}

// Transport reaches the API server as an administrator.
func (c *Cluster) Transport() http.RoundTripper { return c.http.Transport }

// StatusError is an answer of the API server that is no success.
type StatusError struct {
	Code int
	Body string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Body) }

// maxAnswer is the most that Do reads, in bytes.
const maxAnswer = 64 << 20

// Do sends one request as an administrator: path with its query, as "/api/v1/nodes". in is sent as JSON (a PATCH as a merge
// patch), and the answer is decoded into out; both may be nil.
func (c *Cluster) Do(ctx context.Context, method, path string, in, out any) error {
	u, err := url.Parse(c.URL + path)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), &body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %w", method, path, &StatusError{Code: resp.StatusCode, Body: string(answer)})
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// Compact makes the store forget all versions but the newest, as it does by itself after five minutes: whoever watches from
// an older one gets a 410.
func (c *Cluster) Compact(ctx context.Context) error {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := c.Do(ctx, http.MethodGet, "/api/v1/nodes?limit=1", nil, &list); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"revision": list.Metadata.ResourceVersion, "physical": true})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.store+"/v3/kv/compaction", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("compaction of etcd: %s", resp.Status)
	}
	return nil
}
