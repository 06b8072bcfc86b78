package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/integration/tools"
)

// Options say which cluster to start.
type Options struct {
	Spark string // "4.3.0"; installed into the cache when missing
	// S3A gives every JVM what it needs to read s3a:// (hadoop-aws), for 3.5.9 and 4.3.0.
	S3A bool
	// Dir holds everything that the cluster writes, and is removed by Close. Empty: a new temporary
	// folder. It is kept when KeepFiles was called.
	Dir string
	Log io.Writer // progress lines; nil: nothing
}

// Cluster is a running Spark standalone master with its nodes and applications.
type Cluster struct {
	Spark  string // version
	Master string // spark://127.0.0.1:PORT
	WebUI  string // http://127.0.0.1:PORT of the master

	dir, spark, java, python string
	jars                     string // of hadoop-aws; "" for none
	log                      io.Writer
	spawner                  *spawner
	servers                  *Servers

	mu     sync.Mutex
	nodes  []*Node
	apps   []*App
	agents []*Agent
	master *process
	keep   bool
}

// Start starts a master. The caller adds nodes and must Close the cluster.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	c := &Cluster{Spark: o.Spark, dir: o.Dir, log: o.Log}
	if err := c.prepare(ctx, o); err != nil {
		return nil, err
	}
	c.spawner = newSpawner()
	c.servers = &Servers{dir: c.dir, log: c.log, spawner: c.spawner}
	if err := c.startMaster(ctx); err != nil {
		c.KeepFiles()
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) prepare(ctx context.Context, o Options) (err error) {
	if c.spark, err = tools.Path(ctx, "spark-"+c.Spark, c.log); err != nil {
		return err
	}
	if c.java, err = tools.Path(ctx, "java", c.log); err != nil {
		return err
	}
	if o.S3A {
		if c.jars, err = tools.Path(ctx, "hadoop-aws-"+c.Spark, c.log); err != nil {
			return err
		}
	}
	if c.python, err = pythonPath(ctx); err != nil {
		return err
	}
	if c.dir == "" {
		c.dir, err = os.MkdirTemp("", "lifeboat-lab-")
	} else {
		c.dir, err = filepath.Abs(c.dir)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir, "log4j2.properties"), []byte(logging), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "job.py"), []byte(driverProgram), 0o644)
}

// logging makes PySpark drivers say as much as executors do; their own default is WARN.
const logging = `rootLogger.level = info
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n%ex
`

// pythonPath is the real interpreter: a shim in front of it would cost time in every Python worker.
func pythonPath(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return "", fmt.Errorf("python3: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (c *Cluster) startMaster(ctx context.Context) error {
	dir, err := c.mkdir("master")
	if err != nil {
		return err
	}
	opts := c.quickJVM() + " -Dspark.master.rest.enabled=false"
	master, err := startProcess(c.spawner, processSpec{
		args: []string{c.spark + "/bin/spark-class", "org.apache.spark.deploy.master.Master",
			"--host", "127.0.0.1", "--port", "0", "--webui-port", "0"},
		env: c.base(dir, "SPARK_LOCAL_IP=127.0.0.1", "SPARK_DAEMON_JAVA_OPTS="+opts),
		dir: dir, log: filepath.Join(dir, "log"),
	})
	if err != nil {
		return err
	}
	c.master = master
	start := time.Now()
	if c.Master, err = master.logMatch(ctx, "the master listens", `Starting Spark master at (spark://\S+)`); err != nil {
		return err
	}
	if c.WebUI, err = master.logMatch(ctx, "the master's web page is up", `started at (http://\S+)`); err != nil {
		return err
	}
	c.printf("master %s up in %.1f s", c.Master, time.Since(start).Seconds())
	return nil
}

// Dir is the folder that holds the cluster's files: logs, nodes, local dirs.
func (c *Cluster) Dir() string { return c.dir }

// KeepFiles makes Close leave the files: call it when a test failed.
func (c *Cluster) KeepFiles() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = true
}

// Nodes are those that were added and neither killed nor stopped.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Close ends every process of the cluster at once and removes its files.
func (c *Cluster) Close() error {
	c.mu.Lock()
	apps, nodes, agents, keep := c.apps, c.nodes, c.agents, c.keep
	c.apps, c.nodes, c.agents = nil, nil, nil
	c.mu.Unlock()
	for _, a := range agents {
		a.close()
	}
	for _, a := range apps {
		a.proc.kill()
	}
	for _, n := range nodes {
		n.proc.kill()
	}
	c.servers.kill()
	if c.master != nil {
		c.master.kill()
	}
	c.spawner.close()
	if keep {
		c.printf("files are kept in %s", c.dir)
		return nil
	}
	return os.RemoveAll(c.dir)
}

func (c *Cluster) printf(format string, args ...any) {
	fmt.Fprintf(c.log, "[lab] "+format+"\n", args...)
}

// Servers are programs beside Spark that end with the cluster.
func (c *Cluster) Servers() *Servers { return c.servers }

func (c *Cluster) mkdir(name string) (string, error) { return newFolder(c.dir, name) }

// newFolder makes a new folder below another.
func newFolder(parent, name string) (string, error) {
	dir := filepath.Join(parent, name)
	for i := 2; ; i++ {
		err := os.Mkdir(dir, 0o755)
		if !errors.Is(err, os.ErrExist) {
			return dir, err
		}
		dir = filepath.Join(parent, fmt.Sprintf("%s-%d", name, i))
	}
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
