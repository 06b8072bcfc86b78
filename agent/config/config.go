// Package config reads the one YAML file that configures the agent: strict, with a default for every
// key. It comes before everything else; a rescue only ever sees a configuration that was checked.
//
// The struct tags are the one source of truth: yaml is the key, doc what it is for, min, max and
// oneof what is accepted. Validate, Print and the reference in docs/configuration.md all read them.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// DefaultPath is read when no file is named and it exists.
const DefaultPath = "/etc/lifeboat/lifeboat.yaml"

// maxFile caps what is read: a configuration is a page, not a data set.
const maxFile = 1 << 20

// Config is everything that can be set. The zero value is not valid: start from Default.
type Config struct {
	Node         Node          `yaml:"node"`
	Providers    Providers     `yaml:"providers"`
	Notices      Notices       `yaml:"notices"`
	State        string        `yaml:"state" doc:"Folder of journals and reports. Owned by the agent's user, mode 0700."`
	Listen       string        `yaml:"listen" doc:"Address that serves /metrics, /healthz, /readyz and /status. \"\" for none."`
	Deadline     Deadline      `yaml:"deadline"`
	Shutdown     Shutdown      `yaml:"shutdown"`
	Destinations []string      `yaml:"destinations" doc:"Where map outputs may go, the first choice first: peers, objects. What is left out is never used."`
	Migrate      Migrate       `yaml:"migrate"`
	Objects      Objects       `yaml:"objects"`
	Mirror       Mirror        `yaml:"mirror"`
	Spark        Spark         `yaml:"spark"`
	Kubernetes   Kubernetes    `yaml:"kubernetes"`
	Survivor     Survivor      `yaml:"survivor"`
	Scan         time.Duration `yaml:"scan" doc:"How often /proc is looked at for executors while nothing is going on." min:"1s" max:"10m"`
	Log          Log           `yaml:"log"`
	Reports      Reports       `yaml:"reports"`
}

// Node says who this node is.
type Node struct {
	Name      string   `yaml:"name" doc:"Name of this node in reports and on the status page." shown:"the host name"`
	Addresses []string `yaml:"addresses" doc:"Only executors with one of these host names or addresses are of this node. Empty: every executor process seen on this machine."`
}

// Deadline says how the end of a notice is read.
type Deadline struct {
	Margin  time.Duration `yaml:"margin" doc:"Copies end this long before the notice's deadline; then executors are ended." min:"0s" max:"5m"`
	Default time.Duration `yaml:"default" doc:"Time from a notice to the end of the node, when the notice does not say." min:"5s" max:"24h"`
	Ahead   time.Duration `yaml:"ahead" doc:"How long before a scheduled end (maintenance, pause) its rescue begins." min:"5s" max:"24h"`
}

// Shutdown says how the agent itself ends.
type Shutdown struct {
	Grace time.Duration `yaml:"grace" doc:"How long a running rescue goes on after SIGTERM. Keep it below the pod's terminationGracePeriodSeconds." min:"0s" max:"1h"`
}

// Migrate are the limits of copying.
type Migrate struct {
	Connections int           `yaml:"connections" doc:"Connections to each peer." min:"1" max:"16"`
	InFlight    int           `yaml:"inFlight" doc:"Map outputs on their way to one peer at once." min:"1" max:"256"`
	Attempts    int           `yaml:"attempts" doc:"How often one map output is tried before it counts as lost." min:"1" max:"100"`
	Stall       time.Duration `yaml:"stall" doc:"A connection on which nothing moved for so long is given up." min:"200ms" max:"2m"`
	DialTimeout time.Duration `yaml:"dialTimeout" doc:"How long connecting to a peer or a driver may take." min:"50ms" max:"30s"`
	Backoff     Backoff       `yaml:"backoff"`
	MaxPeers    int           `yaml:"maxPeers" doc:"Peers that take map outputs of one application at once." min:"1" max:"1000"`
	MaxPinned   int           `yaml:"maxPinned" doc:"File descriptors that may hold map outputs. 0: half of RLIMIT_NOFILE." min:"0" max:"10000000"`
}

// Backoff is the pause between attempts; it doubles from Initial to Max.
type Backoff struct {
	Initial time.Duration `yaml:"initial" doc:"First pause before a map output is tried again." min:"1ms" max:"10s"`
	Max     time.Duration `yaml:"max" doc:"Longest pause between two attempts." min:"1ms" max:"1m"`
}

// Destinations; see Config.Destinations.
const (
	DestinationPeers   = "peers"   // living executors of the application
	DestinationObjects = "objects" // object storage
)

// PathStyleAuto does as the application's executors do.
const PathStyleAuto = "auto"

// Objects says how object storage is used. What an application's own Spark configuration says about its fallback
// storage counts wherever a key here is empty.
type Objects struct {
	Path        string        `yaml:"path" doc:"Where copies go of applications that name no spark.storage.decommission.fallbackStorage.path, as s3a://bucket/lifeboat. Those don't read there: their copies count once they were given back to an executor. \"\": nowhere."`
	Override    bool          `yaml:"override" doc:"Use objects.path also for applications that name a path of their own."`
	Endpoint    string        `yaml:"endpoint" doc:"URL of the storage service, as http://minio:9000. \"\": what the application's configuration says, else the provider's own."`
	Region      string        `yaml:"region" doc:"Region of the buckets. \"\": what the application's configuration says, else it is found out."`
	PathStyle   string        `yaml:"pathStyle" doc:"Whether the bucket's name stands in the path of S3 requests. auto: as the application's configuration says." oneof:"auto|true|false"`
	Credentials bool          `yaml:"credentialsFromApplication" doc:"Use keys from the application's own configuration where it holds some. Without it they are never read, and each SDK finds its own: environment, workload identity, instance role."`
	InFlight    int           `yaml:"inFlight" doc:"Map outputs of one application on their way to object storage at once." min:"1" max:"256"`
	PartSize    int           `yaml:"partSizeMiB" doc:"Size in MiB of the parts in which larger files are sent." min:"5" max:"64"`
	Parts       int           `yaml:"parts" doc:"Parts of one file that are sent at once." min:"1" max:"16"`
	Attempts    int           `yaml:"attempts" doc:"How often one request is sent while the storage asks for fewer of them, before the map output waits." min:"1" max:"100"`
	Stall       time.Duration `yaml:"stall" doc:"A request on which nothing moved for so long is given up." min:"200ms" max:"2m"`
	Timeout     time.Duration `yaml:"timeout" doc:"How long one request may take, whatever moves." min:"1s" max:"30m"`
	Keep        time.Duration `yaml:"keep" doc:"How long copies are kept whose application's end nobody has seen." min:"10m" max:"8760h"`
	Salvage     bool          `yaml:"salvage" doc:"Make copies count whose executor has died, for applications that have an executor on this node."`
}

// Triggers that tell the driver of an executor's end; see Spark.Trigger.
const (
	TriggerAuto   = "auto"
	TriggerRPC    = "rpc"
	TriggerSIGPWR = "sigpwr"
)

// DialectAuto takes the dialect from the version of the executor's Spark, and learns an unknown one.
const DialectAuto = "auto"

// Spark says how executors, drivers and workers are spoken to.
type Spark struct {
	Dialect            string        `yaml:"dialect" doc:"auto, or the name of the dialect to speak, as spark-4.1-scala-2.13."`
	RESTPorts          []int         `yaml:"restPorts" doc:"Ports where drivers serve their REST interface. Empty: 4040 and up."`
	Trigger            string        `yaml:"trigger" doc:"How the driver is told. auto: by RPC, or by SIGPWR where cached blocks are to be moved by Spark itself." oneof:"auto|rpc|sigpwr"`
	EndExecutors       bool          `yaml:"endExecutors" doc:"End an executor when its map outputs are safe, so that the driver sees it leave."`
	DecommissionWorker bool          `yaml:"decommissionWorker" doc:"Standalone: decommission the worker after its executors, so that nothing new starts here."`
	KillAfter          time.Duration `yaml:"killAfter" doc:"Time from SIGTERM to SIGKILL when an executor is ended." min:"0s" max:"1m"`
}

// Log says what is logged to standard error.
type Log struct {
	Level  string `yaml:"level" doc:"Least severe level that is logged." oneof:"debug|info|warn|error"`
	Format string `yaml:"format" doc:"json for machines, console for eyes." oneof:"json|console"`
}

// Reports says what is kept.
type Reports struct {
	Keep int `yaml:"keep" doc:"Rescues whose journal and report are kept." min:"1" max:"100000"`
}

// Uses says whether a destination is switched on.
func (c Config) Uses(destination string) bool { return slices.Contains(c.Destinations, destination) }

// Default is the configuration of an empty file.
func Default() Config {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return Config{
		Node:      Node{Name: host},
		Providers: defaultProviders(),
		Notices: Notices{
			Preemption: ActRescue, Drain: ActRescue, Maintenance: ActRescue,
			Rebalance: ActMirror, Cordon: ActMirror, Pause: ActRecord,
		},
		State:    "/var/lib/lifeboat",
		Listen:   "127.0.0.1:9420",
		Deadline: Deadline{Margin: 3 * time.Second, Default: 2 * time.Minute, Ahead: 5 * time.Minute},
		Shutdown: Shutdown{Grace: 110 * time.Second},
		Migrate: Migrate{
			Connections: 4, InFlight: 16, Attempts: 6,
			Stall: 4 * time.Second, DialTimeout: time.Second,
			Backoff:  Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second},
			MaxPeers: 16,
		},
		Destinations: []string{DestinationPeers, DestinationObjects},
		Objects: Objects{
			PathStyle: PathStyleAuto, InFlight: 16, PartSize: 8, Parts: 2, Attempts: 5,
			Stall: 5 * time.Second, Timeout: 2 * time.Minute, Keep: 24 * time.Hour, Salvage: true,
		},
		Mirror: Mirror{Mode: MirrorOff, Bandwidth: 20},
		Spark: Spark{
			Dialect: DialectAuto, Trigger: TriggerAuto,
			EndExecutors: true, DecommissionWorker: true, KillAfter: 5 * time.Second,
		},
		Kubernetes: defaultKubernetes(),
		Survivor:   defaultSurvivor(),

		Scan:    10 * time.Second,
		Log:     Log{Level: "info", Format: "json"},
		Reports: Reports{Keep: 100},
	}
}

// Load reads, parses and checks a file. An empty path means DefaultPath if that exists, else the
// defaults. A named file that does not exist is an error.
func Load(path string) (Config, error) {
	if path == "" {
		if _, err := os.Stat(DefaultPath); errors.Is(err, os.ErrNotExist) {
			return Default(), nil
		}
		path = DefaultPath
	}
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads one YAML document over the defaults and checks the result; name is used in errors only.
// An empty document is fine. Unknown and repeated keys and values of a wrong type are errors that
// name the line.
func Parse(name string, data []byte) (Config, error) {
	c := Default()
	if len(data) > maxFile {
		return Config{}, fmt.Errorf("%s: larger than %d bytes: not a configuration", name, maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, explain(name, data, err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("%s: more than one YAML document: keep the first only", name)
	}
	if c.Node.Name == "" {
		c.Node.Name = Default().Node.Name
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}
