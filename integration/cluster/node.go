package cluster

import (
	"context"
	_ "embed" // the node's first process
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/integration/lab"
)

//go:embed node.sh
var nodeScript string

// Node is a machine of the cluster: its own network, processes, mounts and host name, its own containerd and kubelet.
type Node struct {
	Name    string
	Address string
	// Folder holds what the node keeps when its power goes, and its logs.
	Folder string
	// Metadata is its cloud's metadata service.
	Metadata *Metadata

	c     *Cluster
	index int
	net   kubelab.Net
	init  *kubelab.Program
}

// disks are folders below /mnt of each node that pods of any user may write to, for hostPath volumes.
func disks() []string { return []string{"disk1", "disk2"} }

// newNode says where a node is; make makes it.
func (c *Cluster) newNode(index int, name string) *Node {
	n := &Node{
		Name: name, Address: fmt.Sprintf("10.200.0.%d", 10+index), Folder: filepath.Join(c.Folder, name),
		c: c, index: index, net: kubelab.Net(filepath.Join(c.Folder, name+".net")),
	}
	n.Metadata = &Metadata{node: n}
	return n
}

// link is the other end of the node's cable.
func (n *Node) link() string { return fmt.Sprintf("node%d", n.index) }

// cgroup is the folder of all its pods in each hierarchy.
func (n *Node) cgroup() string { return filepath.Base(n.c.Folder) + "-" + n.Name }

// pods is the network of its pods.
func (n *Node) pods() string { return fmt.Sprintf("10.244.%d.0/24", n.index) }

// make makes the node's network, files and credentials, and starts it.
func (n *Node) make(store string) error {
	if err := os.MkdirAll(filepath.Join(n.Folder, "cni"), 0o755); err != nil {
		return err
	}
	if err := n.cable(); err != nil {
		return err
	}
	if err := cloneStore(store, filepath.Join(n.Folder, "containerd")); err != nil {
		return fmt.Errorf("images of %s: %w", n.Name, err)
	}
	if err := n.makeDisks(); err != nil {
		return err
	}
	if err := n.configure(); err != nil {
		return err
	}
	return n.boot()
}

func (n *Node) makeDisks() error {
	for _, disk := range disks() {
		dir := filepath.Join(n.Folder, "mnt", disk)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(dir, os.ModeSticky|0o777); err != nil {
			return err
		}
	}
	return nil
}

// cable makes the node's network, joined to all others by the bridge beside the control plane.
func (n *Node) cable() error {
	if _, err := kubelab.NewNet(string(n.net)); err != nil {
		return err
	}
	return errors.Join(
		ip(n.net, "link add eth0 type veth peer name "+n.link()+" netns "+string(n.c.net)),
		ip(n.c.net, "link set "+n.link()+" master br0 up"),
		ip(n.net, "link set lo up", "link set eth0 up",
			"address add "+n.Address+"/24 dev eth0", "address add "+metadataAddress+"/32 dev lo", "route add default via "+gateway),
		ip(n.c.net, "route add "+n.pods()+" via "+n.Address),
		forward(n.net),
	)
}

// object is a document.
type object map[string]any

// configure writes what containerd and the kubelet read.
func (n *Node) configure() error {
	user := filepath.Join(n.Folder, "kubelet-client")
	if err := n.c.control.CA.Issue(user, "system:node:"+n.Name, []string{"system:nodes"}); err != nil {
		return err
	}
	if err := n.c.control.Kubeconfig(filepath.Join(n.Folder, "kubeconfig"), "https://"+gateway, kubelab.User{Certificate: user}); err != nil {
		return err
	}
	bridge := object{
		"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
		"ipam": object{
			"type": "host-local", "dataDir": "/run/cni-ipam",
			"ranges": [][]object{{{"subnet": n.pods()}}}, "routes": []object{{"dst": "0.0.0.0/0"}},
		},
	}
	return errors.Join(
		writeJSON(filepath.Join(n.Folder, "cni", "10-lab.conflist"), object{"cniVersion": "0.4.0", "name": "lab", "plugins": []object{bridge}}),
		writeJSON(filepath.Join(n.Folder, "kubelet.yaml"), n.kubelet()), // JSON is YAML
		os.WriteFile(filepath.Join(n.Folder, "containerd.toml"), []byte(n.containerd()), 0o600),
	)
}

// kubelet is its configuration: a node that dies is noticed after seconds, and nothing is evicted for want of room.
func (n *Node) kubelet() object {
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupRoot": "/" + n.cgroup(),
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"address":                  n.Address, "healthzBindAddress": "127.0.0.1",
		"authentication": object{
			"anonymous": object{"enabled": false}, "webhook": object{"enabled": true},
			"x509": object{"clientCAFile": filepath.Join(n.c.Folder, "ca.crt")},
		},
		"authorization": object{"mode": "Webhook"},
		"failSwapOn":    false, "makeIPTablesUtilChains": false,
		"clusterDomain": "cluster.local", "clusterDNS": []string{dnsAddress}, "resolvConf": "",
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"evictionHard":             object{"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
		"nodeLeaseDurationSeconds": 4, "nodeStatusUpdateFrequency": "2s",
		"serializeImagePulls": false, "maxPods": 110,
	}
}

// containerd is its configuration.
func (n *Node) containerd() string {
	containers := n.c.parts.containers
	return fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
netns_mounts_under_state_dir = true
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = %q
SystemdCgroup = false
`, BusyboxImage, filepath.Join(containers, "cni"), filepath.Join(n.Folder, "cni"), filepath.Join(containers, "bin", "runc"))
}

// boot starts the node's first process, with a boot id that no boot had before.
func (n *Node) boot() (err error) {
	if err := makeCgroup(n.cgroup()); err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/uuid") // another one at each reading
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.path("boot_id"), boot, 0o644); err != nil {
		return err
	}
	env := append(containerEnv(n.c.parts.containers),
		"NODE="+n.Folder, "NAME="+n.Name, "ADDRESS="+n.Address, "KUBELET="+filepath.Join(n.c.control.Programs(), "kubelet"),
		"LABELS="+strings.Join(n.c.o.NodeLabels, ","), "CSI="+filepath.Join(n.c.parts.csi, "csi"), "DISKS="+n.c.disks(), "HOME=/root")
	n.init, err = kubelab.Run(kubelab.Spec{
		Args: []string{"bash", "-c", nodeScript, "node"}, Env: env, Dir: n.Folder, Log: n.path("init.log"), PID: n.path("init.pid"),
		Net: n.net, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS, Outlives: n.c.kept,
	})
	return err
}

func (n *Node) path(name string) string { return filepath.Join(n.Folder, name) }

// PowerOff takes the node's power, as seen from everybody else: first its cable, so that no dying process says goodbye, then its
// processes. When it returns they have gone. Its disks and its Node object stay.
func (n *Node) PowerOff() error {
	if err := ip(n.c.net, "link set "+n.link()+" down"); err != nil {
		return err
	}
	n.init.Kill()
	return removeCgroups(n.cgroup()) // as a machine does; the next boot would ask for the tasks of each for seconds
}

// PowerOn starts the node again after PowerOff, with a new boot id, and waits until it is Ready. What had been scheduled to it is
// there still, as on every machine that comes back under its name.
func (n *Node) PowerOn(ctx context.Context) error {
	if err := ip(n.c.net, "link set "+n.link()+" up"); err != nil {
		return err
	}
	if err := n.boot(); err != nil {
		return err
	}
	return n.WaitReady(ctx)
}

// Replace puts a new machine in the place of one that is off, as clouds do that give it the same name: its Node object is made anew,
// its disks are empty but for images, and nothing is announced. It returns when the node is Ready.
func (n *Node) Replace(ctx context.Context) error {
	if err := n.Metadata.Reset(); err != nil {
		return err
	}
	if err := n.c.Do(ctx, http.MethodDelete, "/api/v1/nodes/"+n.Name, nil, nil); err != nil {
		return err
	}
	for _, disk := range []string{n.path("var"), n.path("var-work"), n.path("kubelet"), n.path("mnt"), filepath.Join(n.c.locals(), n.Name)} {
		if err := os.RemoveAll(disk); err != nil {
			return err
		}
	}
	if err := n.makeDisks(); err != nil {
		return err
	}
	return n.PowerOn(ctx)
}

// WaitReady waits until the node of this boot is Ready.
func (n *Node) WaitReady(ctx context.Context) error {
	boot, err := n.BootID()
	if err != nil {
		return err
	}
	var seen nodeStatus
	err = n.init.WaitFor(ctx, n.Name+" is Ready", func(ctx context.Context) (bool, error) {
		s, err := n.c.nodeStatus(ctx, n.Name)
		if err == nil {
			seen = s
		}
		return err == nil && s.NodeInfo.BootID == boot && s.condition("Ready") == "True", nil
	})
	if err != nil {
		return fmt.Errorf("%w\nof boot %s; the API server says: %+v\n%s\n%s", err, boot, seen, n.Tail("kubelet", 25), n.Tail("containerd", 10))
	}
	return nil
}

// BootID is the one of its newest boot.
func (n *Node) BootID() (string, error) {
	raw, err := os.ReadFile(n.path("boot_id"))
	return strings.TrimSpace(string(raw)), err
}

// HTTP is a client that connects from the node, to addresses of numbers only: 127.0.0.1 is the node's own.
func (n *Node) HTTP() *http.Client { return client(n.net) }

// Listen opens a listener on the node; an address of numbers.
func (n *Node) Listen(address string) (l net.Listener, err error) {
	err = n.net.Do(func() error {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// Run runs a command on the node, among its processes and mounts, and returns what it wrote.
func (n *Node) Run(ctx context.Context, args ...string) (string, error) {
	pid := fmt.Sprint(n.init.PID)
	enter := append([]string{"nsenter", "-t", pid, "-m", "-p", "-n", "-u", "env"}, containerEnv(n.c.parts.containers)...)
	return output(ctx, n.net, append(enter, args...)...)
}

// File is where a file of the node is on this machine, as long as nothing is mounted over it there: of its folders /var,
// /var/lib/kubelet, /var/lib/containerd and /mnt. It stays readable when the node is off.
func (n *Node) File(path string) (string, error) {
	for prefix, folder := range map[string]string{"/var/lib/kubelet/": "kubelet", "/var/lib/containerd/": "containerd", "/mnt/": "mnt"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return filepath.Join(n.Folder, folder, rest), nil
		}
	}
	if rest, ok := strings.CutPrefix(path, "/var/"); ok {
		return filepath.Join(n.Folder, "var", rest), nil
	}
	return "", fmt.Errorf("%s of %s is not the node's own", path, n.Name)
}

// Tail is the end of one of its logs: kubelet or containerd.
func (n *Node) Tail(name string, lines int) string { return lab.Tail(n.path(name+".log"), lines) }

func writeJSON(file string, doc any) error {
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}

// WaitCondition waits until a condition of a node has this status: True, False or Unknown.
func (c *Cluster) WaitCondition(ctx context.Context, node, condition, status string) error {
	return lab.Until(ctx, node+" is "+condition+"="+status, func(ctx context.Context) (bool, error) {
		s, err := c.nodeStatus(ctx, node)
		return err == nil && s.condition(condition) == status, nil
	})
}

// nodeStatus is what the API server says of a node.
type nodeStatus struct {
	NodeInfo   struct{ BootID string }
	Conditions []struct{ Type, Status, Reason, Message string }
}

func (c *Cluster) nodeStatus(ctx context.Context, node string) (nodeStatus, error) {
	var doc struct{ Status nodeStatus }
	err := c.Do(ctx, http.MethodGet, "/api/v1/nodes/"+node, nil, &doc)
	return doc.Status, err
}

func (s nodeStatus) condition(name string) string {
	for _, c := range s.Conditions {
		if c.Type == name {
			return c.Status
		}
	}
	return ""
}

// On says whether the node has power.
func (n *Node) On() bool {
	select {
	case <-n.init.Done():
		return false
	default:
		return true
	}
}
