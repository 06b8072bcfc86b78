// Package kubelab runs a real Kubernetes control plane on this machine for the integration tests: etcd and the API server
// on loopback addresses or in a network of their own, with certificates and a folder of their own. It stands where the cluster stands, outside the
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

// Options of a control plane. The zero value is right for tests that need an API server and nothing behind it.
type Options struct {
	Flags []string  // of the API server, after its own
	Log   io.Writer // progress of an installation

	Folder   string // for everything; "": a temporary one
	Net      Net    // where it runs
	Outlives bool   // it runs on when this process ends
	// Addresses of the API server in a network namespace of its own, the first one for everybody there: it then listens on
	// port 443 of all of them. None: a free port of 127.0.0.1.
	Addresses []string
	// Accounts says that somebody makes service accounts: a controller manager.
	Accounts bool
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

	o         Options
	bin       string
	store     string // address of etcd
	etcd      *Program
	api       *Program
	apiArgs   []string
	http      *http.Client
	keepFiles bool
}

// Start starts etcd and the API server, and waits until it is ready.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	c = &Cluster{o: o}
	defer func() {
		if err != nil {
			c.keepFiles = true
			err = errors.Join(err, c.Close())
		}
	}()
	if c.bin, err = tools.Path(ctx, "kubernetes", o.Log); err != nil {
		return c, err
	}
	if c.Folder = o.Folder; c.Folder == "" {
		if c.Folder, err = os.MkdirTemp("", "lifeboat-kubelab-"); err != nil {
			return c, err
		}
	}
	if err := c.makeCertificates(); err != nil {
		return c, err
	}
	if err := c.startEtcd(); err != nil {
		return c, err
	}
	if err := c.prepare(); err != nil {
		return c, err
	}
	return c, c.StartAPIServer(ctx)
}

// Attach finds a control plane that an earlier process has started with these options, and with Outlives.
func Attach(ctx context.Context, o Options) (c *Cluster, err error) {
	c = &Cluster{o: o, Folder: o.Folder, keepFiles: true}
	if c.bin, err = tools.Path(ctx, "kubernetes", io.Discard); err != nil {
		return c, err
	}
	if c.CA, err = loadAuthority(c.path("ca")); err != nil {
		return c, err
	}
	c.store = "http://" + storeAddress
	if c.etcd, err = Find(c.path("etcd.pid"), c.path("etcd.log")); err != nil {
		return c, err
	}
	if err := c.prepare(); err != nil {
		return c, err
	}
	c.api, err = Find(c.path("kube-apiserver.pid"), c.path("kube-apiserver.log"))
	if errors.Is(err, ErrGone) {
		return c, c.StartAPIServer(ctx)
	}
	return c, err
}

// storeAddress is where etcd listens in a network namespace of its own.
const storeAddress = "127.0.0.1:2379"

// startEtcd starts the store. Nothing is synced to the disk: it lives as long as the test.
func (c *Cluster) startEtcd() error {
	clients, peers := "http://"+storeAddress, "http://127.0.0.1:2380"
	if c.o.Net == "" {
		client, err := lab.FreePort()
		if err != nil {
			return err
		}
		peer, err := lab.FreePort()
		if err != nil {
			return err
		}
		clients, peers = "http://127.0.0.1:"+client, "http://127.0.0.1:"+peer
	}
	c.store = clients
	var err error
	c.etcd, err = c.Run("etcd", "--name=lab", "--data-dir="+filepath.Join(c.Folder, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=lab="+peers)
	return err
}

// makeCertificates makes all that the API server and its administrator need.
func (c *Cluster) makeCertificates() (err error) {
	if c.CA, err = NewAuthority(c.path("ca")); err != nil {
		return err
	}
	hosts := append([]string{"127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}, c.o.Addresses...)
	if err := c.CA.Issue(c.path("apiserver"), "kube-apiserver", nil, hosts...); err != nil {
		return err
	}
	for _, admin := range []string{"admin", "apiserver-kubelet"} {
		if err := c.CA.Issue(c.path(admin), admin, []string{"system:masters"}); err != nil {
			return err
		}
	}
	return newServiceAccountKey(c.path("sa"))
}

// prepare makes the client and the API server's arguments.
func (c *Cluster) prepare() error {
	bind, port := "0.0.0.0", "443"
	if len(c.o.Addresses) == 0 {
		var err error
		if port, err = lab.FreePort(); err != nil {
			return err
		}
		bind = "127.0.0.1"
		c.URL = "https://127.0.0.1:" + port
	} else {
		c.URL = "https://" + c.o.Addresses[0]
	}
	if err := c.Kubeconfig(c.AdminKubeconfig(), c.URL, User{Certificate: c.path("admin")}); err != nil {
		return err
	}
	admin, err := tls.LoadX509KeyPair(c.path("admin.crt"), c.path("admin.key"))
	if err != nil {
		return err
	}
	c.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: c.CA.Pool(), Certificates: []tls.Certificate{admin}, MinVersion: tls.VersionTLS12},
		DialContext:       c.o.Net.DialContext,
		ForceAttemptHTTP2: true,
	}}
	c.apiArgs = []string{
		"--etcd-servers=" + c.store, "--bind-address=" + bind, "--secure-port=" + port, "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC", "--allow-privileged=true",
		"--tls-cert-file=" + c.path("apiserver.crt"), "--tls-private-key-file=" + c.path("apiserver.key"),
		"--client-ca-file=" + c.path("ca.crt"), "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("sa.pub"), "--service-account-signing-key-file=" + c.path("sa.key"),
		"--kubelet-client-certificate=" + c.path("apiserver-kubelet.crt"), "--kubelet-client-key=" + c.path("apiserver-kubelet.key"),
	}
	if !c.o.Accounts {
		c.apiArgs = append(c.apiArgs, "--disable-admission-plugins=ServiceAccount")
	}
	c.apiArgs = append(c.apiArgs, c.o.Flags...)
	return nil
}

// path of a file of the cluster.
func (c *Cluster) path(name string) string { return filepath.Join(c.Folder, name) }

// AdminKubeconfig is a kubeconfig that may do everything.
func (c *Cluster) AdminKubeconfig() string { return c.path("admin.kubeconfig") }

// Run starts a part of Kubernetes, by the name of its program, where the control plane runs.
func (c *Cluster) Run(part string, args ...string) (*Program, error) {
	return Run(Spec{
		Args: append([]string{filepath.Join(c.bin, part)}, args...), Dir: c.Folder, Log: c.path(part + ".log"), PID: c.path(part + ".pid"),
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Folder, "TMPDIR=" + c.Folder},
		Net: c.o.Net, Outlives: c.o.Outlives,
	})
}

// Programs is the folder with the programs of Kubernetes.
func (c *Cluster) Programs() string { return c.bin }

// StartAPIServer starts it again after StopAPIServer; etcd keeps what was written.
func (c *Cluster) StartAPIServer(ctx context.Context) (err error) {
	if c.api, err = c.Run("kube-apiserver", c.apiArgs...); err != nil {
		return err
	}
	return c.api.WaitFor(ctx, "the API server is ready", func(ctx context.Context) (bool, error) {
		return c.Do(ctx, http.MethodGet, "/readyz", nil, nil) == nil, nil
	})
}

// StopAPIServer kills it, and with it all its connections.
func (c *Cluster) StopAPIServer() {
	if c.api != nil {
		c.api.Kill()
	}
}

// Pause stops the API server without closing its connections, as a machine that hangs; Resume lets it go on.
func (c *Cluster) Pause() error { return c.api.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (c *Cluster) Resume() error { return c.api.Signal(syscall.SIGCONT) }

// KeepFiles leaves the folder in place at the end.
func (c *Cluster) KeepFiles() { c.keepFiles = true }

// Close ends everything and removes the folder.
func (c *Cluster) Close() error {
	c.StopAPIServer()
	if c.etcd != nil {
		c.etcd.Kill()
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
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: c.o.Net.DialContext, DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("compaction of etcd: %s", resp.Status)
	}
	return nil
}
