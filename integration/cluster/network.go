package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// Addresses of the cluster. The control plane answers at those of its services itself: no kube-proxy runs.
const (
	apiAddress = "10.96.0.1"
	dnsAddress = "10.96.0.10"
	gateway    = "10.200.0.1" // of all nodes, and the control plane's own
	// metadataAddress is where the clouds' metadata services are.
	metadataAddress = "169.254.169.254"
)

// makeNetwork makes the namespace of the control plane, with the bridge that joins the nodes.
func (c *Cluster) makeNetwork() error {
	if _, err := kubelab.NewNet(string(c.net)); err != nil {
		return err
	}
	return errors.Join(
		ip(c.net, "link set lo up", "link add br0 type bridge", "address add "+gateway+"/24 dev br0", "link set br0 up",
			"address add "+apiAddress+"/32 dev lo", "address add "+dnsAddress+"/32 dev lo"),
		forward(c.net),
	)
}

// forward lets a namespace pass on what is not for itself.
func forward(n kubelab.Net) error {
	return n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
}

// ip runs commands of the program of that name in a namespace.
func ip(n kubelab.Net, commands ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, c := range commands {
		if _, err := output(ctx, n, append([]string{"ip"}, strings.Fields(c)...)...); err != nil {
			return err
		}
	}
	return nil
}

// output runs a program in a network namespace. What it wrote is in the error too.
func output(ctx context.Context, n kubelab.Net, args ...string) (string, error) {
	return run(ctx, n, exec.CommandContext(ctx, args[0], args[1:]...))
}

func run(ctx context.Context, n kubelab.Net, cmd *exec.Cmd) (string, error) {
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.WaitDelay = time.Second
	if err := n.Do(cmd.Start); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), errors.Join(err, ctx.Err()), out.String(), complaints.String())
	}
	return out.String(), nil
}

// cgroups is where the kernel shows control groups.
const cgroups = "/sys/fs/cgroup"

// hierarchies of control groups: several with version 1, the root alone with version 2.
func hierarchies() []string {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return []string{cgroups}
	}
	var found []string
	for _, name := range []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "perf_event", "systemd"} {
		if _, err := os.Stat(filepath.Join(cgroups, name)); err == nil {
			found = append(found, filepath.Join(cgroups, name))
		}
	}
	return found
}

// makeCgroup makes a group for the pods of a node. In version 1 a new group has no processors and no memory of its own; in version 2
// the groups above say what those below may limit.
func makeCgroup(name string) error {
	for _, h := range hierarchies() {
		dir := filepath.Join(h, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if h == cgroups {
			if err := delegate(h, dir); err != nil {
				return err
			}
		}
		if filepath.Base(h) != "cpuset" {
			continue
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			all, err := os.ReadFile(filepath.Join(h, f))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, f), all, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// delegate lets groups below these limit what the kubelet limits.
func delegate(groups ...string) error {
	for _, g := range groups {
		if err := os.WriteFile(filepath.Join(g, "cgroup.subtree_control"), []byte("+cpu +cpuset +memory +io +pids"), 0o644); err != nil {
			return fmt.Errorf("control groups of version 2: %w", err)
		}
	}
	return nil
}

// removeCgroups removes all groups whose name begins so. Their processes have been killed and may take a moment to go.
func removeCgroups(prefix string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var last error
	err := lab.Until(ctx, "the control groups are empty", func(context.Context) (bool, error) {
		last = nil
		for _, h := range hierarchies() {
			found, _ := filepath.Glob(filepath.Join(h, prefix+"*"))
			for _, dir := range found {
				last = errors.Join(last, removeTree(dir))
			}
		}
		return last == nil, nil
	})
	return errors.Join(err, last)
}

// removeTree removes the folders of a group, the innermost first; the files in them are the kernel's.
func removeTree(dir string) error {
	inner, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range inner {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// kubectl is its command as an administrator.
func (c *Cluster) kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.control.Programs(), "kubectl"), append([]string{"--kubeconfig", c.control.AdminKubeconfig()}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Folder}
	return cmd
}

// client connects from within a namespace. What it waits for longest is a round of a job whose fetches wait for network timeouts.
func client(from kubelab.Net) *http.Client {
	return &http.Client{Timeout: 10 * time.Minute, Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
}

// maxPage is the most that is read of a page, in bytes.
const maxPage = 8 << 20

// get reads a page, as JSON unless out is nil.
func get(ctx context.Context, from *http.Client, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := from.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.2000s", url, resp.Status, body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}
