package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NodeOptions describe a node: one Spark worker.
type NodeOptions struct {
	Address string // a loopback address that no other living node has: "127.0.0.2"
	Cores   int    // 0: 1; they bound how many executors run here, not how much they compute
	// MemoryMB is what executors may be given in all; 0: 4096.
	MemoryMB int
	// Conf are settings of the worker itself, as spark.decommission.enabled or
	// spark.shuffle.service.enabled and spark.shuffle.service.port.
	Conf map[string]string
	// Disks is the number of local dirs; 0: 1.
	Disks int
	// ShufflePort makes the worker run the external shuffle service on this port, and tells its executors so. All nodes of
	// this machine share their ports: the service listens at every address.
	ShufflePort int
	// DiskMB makes each of them a file system of that size, which only the node's own processes see; 0: a folder of
	// this machine.
	DiskMB int
}

// Node is one worker with its executors and their Python workers.
type Node struct {
	Address string

	cluster *Cluster
	proc    *process
	dir     string
	local   []string
	port    string // of the worker's RPC endpoint: it tells this worker from a dead one at the same address
}

// AddNode starts a worker and waits until the master counts on it.
func (c *Cluster) AddNode(ctx context.Context, o NodeOptions) (*Node, error) {
	o = o.withDefaults()
	dir, err := c.mkdir("node-" + o.Address)
	if err != nil {
		return nil, err
	}
	n := &Node{Address: o.Address, cluster: c, dir: dir}
	for i := range o.Disks {
		n.local = append(n.local, filepath.Join(dir, "local"+strconv.Itoa(i)))
	}
	for _, sub := range append(slices.Clone(n.local), filepath.Join(dir, "tmp"), filepath.Join(dir, "work")) {
		if err := os.Mkdir(sub, 0o755); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	if n.proc, err = startProcess(c.spawner, n.spec(o)); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	if err := n.waitRegistered(ctx); err != nil {
		return nil, err
	}
	c.printf("node %s up in %.1f s", o.Address, time.Since(start).Seconds())
	return n, nil
}

func (o NodeOptions) withDefaults() NodeOptions {
	o.Cores, o.Disks = max(o.Cores, 1), max(o.Disks, 1)
	if o.MemoryMB == 0 {
		o.MemoryMB = 4096
	}
	return o
}

func (n *Node) spec(o NodeOptions) processSpec {
	c, tmp := n.cluster, filepath.Join(n.dir, "tmp")
	worker := []string{c.spark + "/bin/spark-class", "org.apache.spark.deploy.worker.Worker",
		"--host", o.Address, "--port", "0", "--webui-port", "0", "--work-dir", filepath.Join(n.dir, "work"),
		"--cores", strconv.Itoa(o.Cores), "--memory", strconv.Itoa(o.MemoryMB) + "m", c.Master}
	return processSpec{
		args: append(n.smallDisks(o.DiskMB), worker...),
		env: c.base(tmp, "SPARK_LOCAL_IP="+o.Address, "SPARK_LOCAL_DIRS="+strings.Join(n.local, ","),
			"SPARK_DAEMON_JAVA_OPTS="+c.quickJVM(),
			"SPARK_WORKER_OPTS="+strings.TrimSpace(definitions(o.Conf)), "JDK_JAVA_OPTIONS="+c.everyJVM(tmp)+o.shuffleService()),
		dir: n.dir, log: filepath.Join(n.dir, "log"),
	}
}

// shuffleService are the options of the worker, which its executors inherit with the environment. They keep their own
// port: a port that is set when an executor starts is not taken from the application (SparkConf.isExecutorStartupConf).
func (o NodeOptions) shuffleService() string {
	if o.ShufflePort == 0 {
		return ""
	}
	return definitions(map[string]string{
		"spark.shuffle.service.enabled": "true", "spark.shuffle.service.port": strconv.Itoa(o.ShufflePort),
	})
}

// smallDisks is a command that gives the node local dirs of a limited size and then runs its arguments.
func (n *Node) smallDisks(megabytes int) []string {
	if megabytes == 0 {
		return nil
	}
	script := ""
	for _, dir := range n.local {
		script += fmt.Sprintf("mount -t tmpfs -o size=%dm tmpfs '%s' && ", megabytes, dir)
	}
	return []string{"bash", "-c", script + `exec "$@"`, "disks"}
}

func (n *Node) waitRegistered(ctx context.Context) (err error) {
	n.port, err = n.proc.logMatch(ctx, "the worker of "+n.Address+" listens", `Starting Spark worker [0-9.]+:(\d+)`)
	if err != nil {
		return err
	}
	return n.proc.waitFor(ctx, "the master counts on "+n.Address, func(ctx context.Context) (bool, error) {
		state, err := n.cluster.workerState(ctx, n)
		return err == nil && state == "ALIVE", nil
	})
}

// workerState is what the master thinks of a node: ALIVE, DECOMMISSIONED, DEAD …
func (c *Cluster) workerState(ctx context.Context, n *Node) (string, error) {
	var state struct {
		Workers []struct {
			Host  string
			Port  int
			State string
		}
	}
	if err := getJSON(ctx, c.WebUI+"/json/", &state); err != nil {
		return "", err
	}
	for _, w := range state.Workers {
		if w.Host == n.Address && strconv.Itoa(w.Port) == n.port {
			return w.State, nil
		}
	}
	return "", ErrNotFound
}

// State is what the master thinks of the node's worker: ALIVE, DECOMMISSIONED or DEAD.
func (n *Node) State(ctx context.Context) (string, error) { return n.cluster.workerState(ctx, n) }

// LocalDirs are the node's local dirs (SPARK_LOCAL_DIRS).
func (n *Node) LocalDirs() []string { return slices.Clone(n.local) }

// Root is the node's file system as its own processes see it.
func (n *Node) Root() string { return fmt.Sprintf("/proc/%d/root", n.proc.cmd.Process.Pid) }

// Log is the path of the worker's log.
func (n *Node) Log() string { return n.proc.log }

// Pids are all processes of the node: the worker, its executors, their Python workers.
func (n *Node) Pids() []int { return n.proc.pids() }

// Process is one JVM of a node.
type Process struct {
	PID  int
	App  string // executors only
	ID   string // executors only: the executor id
	Args []string
}

// Worker is the worker's process id.
func (n *Node) Worker() (int, error) {
	for _, p := range n.jvms("org.apache.spark.deploy.worker.Worker") {
		return p.PID, nil
	}
	return 0, fmt.Errorf("the worker of %s: %w", n.Address, ErrNotFound)
}

// Executors are the executor processes of the node, of all applications.
func (n *Node) Executors() []Process {
	found := n.jvms("org.apache.spark.executor.CoarseGrainedExecutorBackend")
	for i := range found {
		found[i].App = argAfter(found[i].Args, "--app-id")
		found[i].ID = argAfter(found[i].Args, "--executor-id")
	}
	return found
}

func (n *Node) jvms(class string) []Process {
	var found []Process
	for _, pid := range n.Pids() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		if strings.HasSuffix(args[0], "/java") && slices.Contains(args, class) {
			found = append(found, Process{PID: pid, Args: args})
		}
	}
	return found
}

func argAfter(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// Kill takes the node away as a cloud does: every process gets SIGKILL in the same moment, then its
// files are removed. When it returns nothing of the node is left but its log.
func (n *Node) Kill() error {
	n.forget()
	n.proc.kill()
	return n.wipe()
}

// Stop ends the node in good order: SIGTERM first. The files are removed all the same.
func (n *Node) Stop() error {
	n.forget()
	n.proc.stop(10 * time.Second)
	return n.wipe()
}

func (n *Node) forget() {
	c := n.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(m *Node) bool { return m == n })
}

func (n *Node) wipe() error {
	var errs []error
	for _, dir := range append(n.LocalDirs(), filepath.Join(n.dir, "tmp")) {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
