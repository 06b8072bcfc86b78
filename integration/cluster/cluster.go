// Package cluster runs a real Kubernetes of two nodes on this machine for the integration tests, with real Spark on it: etcd, the API
// server with an audit log, the controller manager, the scheduler and CoreDNS in a network of their own, and beside them the nodes
// node-a and node-b, each with its own network, processes, mounts, containerd and kubelet, whose power can be taken at any time.
// It stands where the cloud and the cluster stand, outside the way of a rescue, and watches it.
//
// It needs root, and the programs ip, mount and nsenter. Several clusters can run at once. What a killed test run has left is removed
// by the next one.
//
// A cluster starts in seconds once its images are in the cache. Whoever works on one scenario can keep it running still:
//
//	export LIFEBOAT_LAB=/tmp/my-cluster           # made by the first run, found by the next ones, and left running
//	go test -tags integration -run TestMine ./integration/cluster
//	go run ./integration/cluster/labctl kubectl get pods -A     # or: node node-a sh, state, down
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/integration/tools"
)

// Options of a cluster. The zero value is right.
type Options struct {
	Spark      []string  // versions whose images the nodes have; none: 3.5.9 and 4.3.0
	Folder     string    // keeps the cluster running there when this process ends, and finds it again; "": the value of LIFEBOAT_LAB
	NodeLabels []string  // of both nodes, as key=value
	Log        io.Writer // progress; nil: nowhere
}

// Variable names the environment variable that keeps a cluster running between test runs.
const Variable = "LIFEBOAT_LAB"

// Cluster is a running cluster. Close ends it, unless it is kept.
type Cluster struct {
	// Folder holds everything: data, logs, certificates.
	Folder string

	o       Options
	kept    bool
	owner   *os.File // locked while this process lives
	parts   parts
	agent   string // image of this source tree's agent, once it is loaded
	net     kubelab.Net
	control *kubelab.Cluster
	nodes   []*Node
}

// Start starts a cluster, or finds the one that is kept, and returns when both nodes are Ready.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	if err := findPrograms(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Folder == "" {
		o.Folder = os.Getenv(Variable)
	}
	if len(o.Spark) == 0 {
		o.Spark = []string{"3.5.9", "4.3.0"}
	}
	slices.Sort(o.Spark)
	c = &Cluster{o: o, kept: o.Folder != ""}
	if c.kept {
		if c.Folder, err = filepath.Abs(o.Folder); err != nil {
			return nil, err
		}
	}
	if c.parts, err = findParts(ctx, o.Spark, o.Log); err != nil {
		return nil, err
	}
	if c.kept {
		if _, err := os.Stat(c.path("ready")); err == nil {
			return c, c.takeOver(ctx)
		}
	}
	if err := removeLeftovers(o.Log); err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := c.claim(ctx); err != nil {
		return nil, fmt.Errorf("a folder for the cluster: %w", err)
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	fmt.Fprintf(o.Log, "[cluster] two nodes are Ready after %v\n", time.Since(begin).Round(100*time.Millisecond))
	return c, nil
}

// findPrograms says what a cluster lacks on this machine.
func findPrograms() error {
	if os.Geteuid() != 0 {
		return errors.New("the two-node Kubernetes needs root: namespaces, mounts and control groups; run the tests as root")
	}
	for program, pkg := range map[string]string{"ip": "iproute2", "mount": "mount", "nsenter": "util-linux"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("the two-node Kubernetes needs the program %s: apt-get install %s", program, pkg)
		}
	}
	return nil
}

// temporary is how the folders of clusters begin that end with their test run.
func temporary() string { return filepath.Join(os.TempDir(), "lifeboat-cluster-") }

// place says what lies where in the folder.
func (c *Cluster) place() {
	c.net = kubelab.Net(c.path("control.net"))
	c.nodes = []*Node{c.newNode(1, "node-a"), c.newNode(2, "node-b")}
}

func (c *Cluster) path(name string) string { return filepath.Join(c.Folder, name) }

// claim makes the folder, and locks it as long as this process lives.
func (c *Cluster) claim(ctx context.Context) (err error) {
	if c.kept {
		err = c.claimKept()
	} else {
		c.Folder, err = os.MkdirTemp("", filepath.Base(temporary())+"*")
	}
	if err != nil {
		return err
	}
	made := c.path("owner.new") // locked before it counts: one that is not locked belongs to a cluster that was left behind
	if c.owner, err = lockFile(ctx, made); err != nil {
		return err
	}
	return errors.Join(os.Chmod(c.Folder, 0o755), os.Rename(made, c.path("owner")))
}

// claimKept makes a folder that somebody has named. One with other things in it stays as it is; what a start has left that was
// killed goes.
func (c *Cluster) claimKept() error {
	inside, err := os.ReadDir(c.Folder)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(inside) == 0 {
		return os.MkdirAll(c.Folder, 0o755)
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.path("owner")); err != nil {
		return fmt.Errorf("%s holds something else than a cluster: name another folder", c.Folder)
	}
	return errors.Join(removeFolder(c.Folder), os.MkdirAll(c.Folder, 0o755))
}

func (c *Cluster) start(ctx context.Context) error {
	c.place()
	store, err := imageStore(ctx, c.parts, c.o.Spark, c.o.Log)
	if err != nil {
		return err
	}
	if err := c.makeNetwork(); err != nil {
		return err
	}
	if c.control, err = kubelab.Start(ctx, c.controlPlane()); err != nil {
		return err
	}
	if err := c.startManagers(ctx); err != nil {
		return err
	}
	if err := c.startDNS(ctx); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := n.make(store); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
		if err := n.Metadata.Use(lab.AWS); err != nil {
			return err
		}
	}
	return os.WriteFile(c.path("ready"), nil, 0o600)
}

// takeOver makes a cluster that an earlier process has left running this process's own.
func (c *Cluster) takeOver(ctx context.Context) (err error) {
	if c.owner, err = lockFile(ctx, c.path("owner")); err != nil {
		return err
	}
	if err := c.attach(ctx); err != nil {
		return fmt.Errorf("the cluster in %s: %w (to end it: go run ./integration/cluster/labctl down)", c.Folder, err)
	}
	for _, n := range c.nodes {
		if err := n.Metadata.Use(lab.AWS); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.o.Log, "[cluster] found the one that runs in %s\n", c.Folder)
	return nil
}

// attach finds what runs.
func (c *Cluster) attach(ctx context.Context) (err error) {
	c.place()
	if c.control, err = kubelab.Attach(ctx, c.controlPlane()); err != nil {
		return err
	}
	for _, n := range c.nodes {
		n.init, err = kubelab.Find(n.path("init.pid"), n.path("init.log"))
		if errors.Is(err, kubelab.ErrGone) {
			err = n.PowerOn(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Open finds a cluster that is kept, to look at it beside the process that uses it: it has no metadata services.
func Open(ctx context.Context, folder string, log io.Writer) (c *Cluster, err error) {
	if folder, err = filepath.Abs(folder); err != nil {
		return nil, err
	}
	c = &Cluster{o: Options{Log: log}, kept: true, Folder: folder}
	if c.parts, err = findParts(ctx, nil, log); err != nil {
		return nil, err
	}
	return c, c.attach(ctx)
}

// Remove ends a cluster that is kept and removes all that it has left.
func Remove(folder string) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(folder, "owner")); err != nil {
		return fmt.Errorf("%s holds no cluster: %w", folder, err)
	}
	return removeFolder(folder)
}

// auditPolicy writes down every request with its verb and who made it, and no bodies.
const auditPolicy = `{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}`

// AuditLog is the file in which the API server writes down each request, one JSON document (audit.k8s.io/v1 Event) per line.
func (c *Cluster) AuditLog() string { return c.path("audit.log") }

// controlPlane says how the control plane runs.
func (c *Cluster) controlPlane() kubelab.Options {
	policy := c.path("audit.json")
	_ = os.WriteFile(policy, []byte(auditPolicy), 0o600) // the API server says so when it is not there
	return kubelab.Options{
		Folder: c.Folder, Net: c.net, Outlives: c.kept, Accounts: true, Log: c.o.Log,
		Addresses: []string{apiAddress, gateway},
		Flags: []string{
			"--advertise-address=" + gateway, "--enable-admission-plugins=NodeRestriction", "--kubelet-preferred-address-types=InternalIP",
			"--audit-policy-file=" + policy, "--audit-log-path=" + c.AuditLog(),
		},
	}
}

// startManagers starts the controller manager and the scheduler. A node that is silent for six seconds counts as lost.
func (c *Cluster) startManagers(ctx context.Context) error {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		user := c.path(name)
		if err := c.control.CA.Issue(user, "system:"+name, nil); err != nil {
			return err
		}
		config := user + ".kubeconfig"
		if err := c.control.Kubeconfig(config, "https://"+apiAddress, kubelab.User{Certificate: user}); err != nil {
			return err
		}
		args := []string{
			"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
			"--bind-address=127.0.0.1", "--leader-elect=false",
		}
		if name == "kube-controller-manager" {
			args = append(args, "--service-account-private-key-file="+c.path("sa.key"), "--root-ca-file="+c.path("ca.crt"),
				"--use-service-account-credentials=true", "--node-monitor-grace-period=6s", "--node-monitor-period=1s")
		}
		if _, err := c.control.Run(name, args...); err != nil {
			return err
		}
	}
	return lab.Until(ctx, "service accounts are made", func(ctx context.Context) (bool, error) {
		return c.Do(ctx, http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", nil, nil) == nil, nil
	})
}

// startDNS starts CoreDNS at an address of the control plane: nothing stands between it and the pods.
func (c *Cluster) startDNS(ctx context.Context) error {
	dir, err := tools.Path(ctx, "coredns", c.o.Log)
	if err != nil {
		return err
	}
	config := fmt.Sprintf(".:53 {\n bind %s\n errors\n cache 2\n kubernetes cluster.local in-addr.arpa {\n  kubeconfig %s\n  ttl 2\n }\n}\n",
		dnsAddress, c.control.AdminKubeconfig())
	if err := os.WriteFile(c.path("Corefile"), []byte(config), 0o600); err != nil {
		return err
	}
	_, err = kubelab.Run(kubelab.Spec{
		Args: []string{filepath.Join(dir, "coredns"), "-conf", c.path("Corefile")}, Dir: c.Folder, Net: c.net,
		Env: []string{"PATH=" + os.Getenv("PATH")}, Log: c.path("coredns.log"), PID: c.path("coredns.pid"), Outlives: c.kept,
	})
	return err
}

// Node is node-a or node-b.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	panic("there is no " + name)
}

// Nodes are both.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// Metadata is the metadata service of a node.
func (c *Cluster) Metadata(node string) *Metadata { return c.Node(node).Metadata }

// Do sends one request to the API server as an administrator, as kubelab's Do does.
func (c *Cluster) Do(ctx context.Context, method, path string, in, out any) error {
	return c.control.Do(ctx, method, path, in, out)
}

// API is the control plane's API server, for what Do, StopAPIServer and StartAPIServer don't do.
func (c *Cluster) API() *kubelab.Cluster { return c.control }

// StopAPIServer kills the API server; StartAPIServer starts it again.
func (c *Cluster) StopAPIServer() { c.control.StopAPIServer() }

// StartAPIServer starts the API server after StopAPIServer and waits until it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error { return c.control.StartAPIServer(ctx) }

// HTTP is a client in the control plane's network, from where all nodes and pods can be reached by their addresses.
func (c *Cluster) HTTP() *http.Client { return client(c.net) }

// Kubectl runs kubectl as an administrator and returns what it wrote.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.KubectlInput(ctx, nil, args...)
}

// KubectlInput is Kubectl with something to read, as for apply -f -.
func (c *Cluster) KubectlInput(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := c.kubectl(ctx, args...)
	cmd.Stdin = in
	return run(ctx, c.net, cmd)
}

// Apply applies manifests.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	_, err := c.KubectlInput(ctx, strings.NewReader(manifests), "apply", "-f", "-")
	return err
}

// Close ends the cluster and removes all that it has left, unless it is kept: then it goes on.
func (c *Cluster) Close() error {
	for _, n := range c.nodes {
		n.Metadata.close()
	}
	if c.kept {
		return c.owner.Close()
	}
	return c.remove()
}

func (c *Cluster) remove() error {
	err := removeFolder(c.Folder)
	if c.owner != nil {
		err = errors.Join(err, c.owner.Close())
	}
	return err
}

// removeFolder ends what runs in a cluster's folder and removes the folder, with its namespaces and control groups.
func removeFolder(folder string) error {
	if folder == "" {
		return nil
	}
	for _, pattern := range []string{"node-*/*.pid", "*.pid"} {
		found, _ := filepath.Glob(filepath.Join(folder, pattern))
		for _, file := range found {
			p, err := kubelab.Find(file, "")
			if err == nil {
				p.Kill()
			}
		}
	}
	held, _ := filepath.Glob(filepath.Join(folder, "*.net"))
	var errs []error
	for _, n := range held {
		errs = append(errs, kubelab.Net(n).Remove())
	}
	errs = append(errs, removeCgroups(filepath.Base(folder)+"-"))
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), folder+"/") {
		return errors.Join(append(errs, err, fmt.Errorf("something is still mounted in %s: it is left in place", folder))...)
	}
	return errors.Join(append(errs, os.RemoveAll(folder))...)
}

// removeLeftovers removes the clusters whose programs have ended.
func removeLeftovers(log io.Writer) error {
	found, err := removable()
	for _, folder := range found {
		fmt.Fprintf(log, "[cluster] removing what an earlier run has left: %s\n", folder)
		err = errors.Join(err, removeFolder(folder))
	}
	return err
}

// removable are the folders of clusters whose programs have ended: the lock on the folder is free.
func removable() (folders []string, err error) {
	found, err := filepath.Glob(temporary() + "*")
	if err != nil {
		return nil, err
	}
	for _, folder := range found {
		f, err := os.Open(filepath.Join(folder, "owner"))
		if err != nil {
			continue // it is being made
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			folders = append(folders, folder)
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return folders, nil
}
