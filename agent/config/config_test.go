package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden parts of files")

func TestEmptyFilesAreTheDefaults(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":  "",
		"comment":  "# later\n",
		"marker":   "---\n",
		"null":     "null\n",
		"bare key": "node:\nmigrate:\n  backoff:\nlisten:\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("f.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if want := Default(); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	c := Default()
	if c.Migrate.Stall != 4*time.Second || c.Shutdown.Grace != 110*time.Second || !c.Spark.EndExecutors {
		t.Errorf("defaults changed: %+v", c)
	}
}

func TestValuesAreRead(t *testing.T) {
	got, err := Parse("f.yaml", []byte(`
node: {name: n1, addresses: [10.0.0.7, spark-1]}
providers:
  aws: {enabled: false}
  file: {enabled: true, path: /tmp/notice, lead: 90s}
listen: ""
migrate: {backoff: {initial: 50ms}}
destinations: [objects]
objects: {path: s3a://b/p, pathStyle: true, partSizeMiB: 16, keep: 48h}
spark: {restPorts: [4040, 4050], trigger: sigpwr, dialect: spark-3.5-scala-2.12}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Node = Node{Name: "n1", Addresses: []string{"10.0.0.7", "spark-1"}}
	want.Providers.AWS.Enabled = Off
	want.Providers.File = File{Enabled: true, Path: "/tmp/notice", Lead: 90 * time.Second}
	want.Listen = ""
	want.Migrate.Backoff.Initial = 50 * time.Millisecond
	want.Destinations = []string{DestinationObjects}
	want.Objects.Path, want.Objects.PathStyle, want.Objects.PartSize, want.Objects.Keep = "s3a://b/p", "true", 16, 48*time.Hour
	want.Spark.RESTPorts = []int{4040, 4050}
	want.Spark.Trigger = TriggerSIGPWR
	want.Spark.Dialect = "spark-3.5-scala-2.12"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestProvidersAsOneWord: the word is the cloud, and everything else keeps its default.
func TestProvidersAsOneWord(t *testing.T) {
	for text, want := range map[string]string{
		"providers: auto\n": "auto", "providers: none\n": "none", "providers: gcp\n": "gcp", "providers:\n": "auto",
		"providers: {azure: {poll: 2s}}\n": "auto", "providers: {cloud: aws}\n": "aws",
	} {
		c, err := Parse("f.yaml", []byte(text))
		if err != nil || c.Providers.Cloud != want || c.Providers.AWS != Default().Providers.AWS {
			t.Errorf("%q: %v %+v", text, err, c.Providers)
		}
	}
}

// TestMirrorAsOneWord: the word is the mode. off is no truth value here.
func TestMirrorAsOneWord(t *testing.T) {
	for text, want := range map[string]Mirror{
		"mirror: always\n": {"always", 20}, "mirror: off\n": {"off", 20}, "mirror: on-rebalance\n": {"on-rebalance", 20},
		"mirror: 'off'\n": {"off", 20}, "mirror:\n": {"off", 20},
		"mirror: {mode: off}\n": {"off", 20}, "mirror: {bandwidth: 5}\n": {"off", 5}, "mirror: {mode: always, bandwidth: 5}\n": {"always", 5},
	} {
		c, err := Parse("f.yaml", []byte(text))
		if err != nil || c.Mirror != want {
			t.Errorf("%q: %v %+v", text, err, c.Mirror)
		}
	}
}

func TestTogglesAreReadBack(t *testing.T) {
	for _, text := range []string{"auto", "true", "false"} {
		c, err := Parse("f.yaml", []byte("providers: {azure: {enabled: "+text+"}}\n"))
		if err != nil || string(c.Providers.Azure.Enabled) != text {
			t.Errorf("%s: %v %q", text, err, c.Providers.Azure.Enabled)
		}
		data, err := json.Marshal(c)
		want := map[string]string{"auto": `"enabled":"auto"`, "true": `"enabled":true`, "false": `"enabled":false`}[text]
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%v, %s lacks %s", err, data, want)
		}
	}
}

func TestUses(t *testing.T) {
	for _, tt := range []struct {
		cloud   string
		enabled Toggle
		want    bool
	}{
		{"auto", Auto, true}, {"aws", Auto, true}, {"gcp", Auto, false}, {"none", Auto, false},
		{"gcp", On, true}, {"none", On, true}, {"aws", Off, false}, {"auto", Off, false},
	} {
		if got := (Providers{Cloud: tt.cloud}).Uses("aws", tt.enabled); got != tt.want {
			t.Errorf("cloud %s, enabled %s: %v", tt.cloud, tt.enabled, got)
		}
	}
}

func TestMistakesNameTheLineAndTheKey(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "scan: 5s\nproviders:\n  aws:\n    pol: 2s\n", "f.yaml:4: providers.aws.pol: unknown key; do you mean providers.aws.poll?"},
		{"unknown at top", "\nworkers: 3\n", "f.yaml:2: workers: unknown key"},
		{"misplaced", "stall: 3s\n", "f.yaml:1: stall: unknown key; do you mean migrate.stall?"},
		{"duration as number", "scan: 5\n", `f.yaml:1: scan: want a duration such as 500ms, 2s or 1m30s, not "5"`},
		{"duration as words", "scan: soon\n", `f.yaml:1: scan: want a duration such as 500ms, 2s or 1m30s, not "soon"`},
		{"number as text", "migrate:\n  connections: many\n", `f.yaml:2: migrate.connections: want a whole number, not "many"`},
		{"text for group", "log: debug\n", `f.yaml:1: log: want keys below this one, not "debug"`},
		{"keys for text", "state:\n  path: /x\n", "want text, not keys"},
		{"list item", "spark:\n  restPorts:\n  - 4040\n  - x\n", `f.yaml:4: spark.restPorts: want a whole number, not "x"`},
		{"twice", "scan: 5s\nlog: {level: info}\nscan: 6s\n", "f.yaml:3: scan: already set in line 1"},
		{"not a mapping", "- a\n", "want keys below this one, not a list"},
		{"broken", "scan: [\n", "f.yaml: "},
		{"two documents", "scan: 5s\n---\nscan: 6s\n", "more than one YAML document"},
		{"out of range", "migrate: {connections: 99}\n", "f.yaml: migrate.connections: 99 is out of range: set it from 1 to 16"},
		{"short scan", "scan: 1ms\n", "scan: 1ms is out of range: set it from 1s to 10m"},
		{"not one of", "spark: {trigger: sigterm}\n", `spark.trigger: "sigterm" is not known: set it to one of auto, rpc, sigpwr`},
		{"relative state", "state: var\n", "state: \"var\" can't be used"},
		{"root as state", "state: /\n", "state: \"/\" can't be used"},
		{"no port", "listen: localhost\n", "listen: \"localhost\" is not host:port"},
		{"bad port", "listen: ':99999'\n", "is not host:port"},
		{"margin", "deadline: {margin: 30s, default: 20s}\n", "deadline.margin: 30s leaves no time to copy: set it below deadline.default (20s)"},
		{"margin and lead", "providers: {file: {enabled: true, lead: 5s}}\ndeadline: {margin: 5s}\n", "set it below providers.file.lead (5s)"},
		{"margin and ahead", "deadline: {margin: 10s, ahead: 5s}\n", "set it below deadline.ahead (5s)"},
		{"margin and a cloud's lead", "providers: {cloud: azure, azure: {lead: 5s}}\ndeadline: {margin: 5s}\n", "set it below providers.azure.lead (5s)"},
		{"cloud", "providers: {cloud: ec2}\n", `providers.cloud: "ec2" is not known: set it to one of auto, aws, gcp`},
		{"cloud alone", "providers: ec2\n", `providers.cloud: "ec2" is not known`},
		{"list of clouds", "providers: [aws]\n", "f.yaml:1: providers: want keys below this one, not a list"},
		{"toggle", "providers: {gcp: {enabled: maybe}}\n", `providers.gcp.enabled: "maybe" is not known: set it to one of auto, true, false`},
		{"toggle as list", "providers: {gcp: {enabled: [true]}}\n", "f.yaml:1: providers.gcp.enabled: want true, false or auto, not a list"},
		{"unknown in providers", "providers:\n  cloud: auto\n  gpc: {}\n", "f.yaml:3: providers.gpc: unknown key"},
		{"mode", "mirror: sometimes\n", `mirror.mode: "sometimes" is not known: set it to one of off, on-rebalance, always`},
		{"mode below", "mirror: {mode: 'on'}\n", `mirror.mode: "on" is not known`},
		{"modes", "mirror: [always]\n", "f.yaml:1: mirror: want keys below this one, not a list"},
		{"unknown in mirror", "mirror:\n  mode: always\n  band: 5\n", "f.yaml:3: mirror.band: unknown key"},
		{"bandwidth", "mirror: {mode: always, bandwidth: 0}\n", "mirror.bandwidth: 0 is out of range: set it from 1 to 100000"},
		{"kind", "notices: {pause: ignore}\n", `notices.pause: "ignore" is not known: set it to one of rescue, mirror, record`},
		{"no file and no folder", "providers: {file: {enabled: true, path: ''}}\n", "providers.file.path: empty, and providers.file.folder too"},
		{"file folder", "providers: {file: {enabled: true, folder: notices}}\n", "providers.file.folder: \"notices\" can't be used"},
		{"file path", "providers: {file: {enabled: true, path: notice}}\n", "providers.file.path: \"notice\" can't be used"},
		{"backoff", "migrate: {backoff: {initial: 2s, max: 1s}}\n", "migrate.backoff.max: 1s is less than the first pause"},
		{"dialect", "spark: {dialect: '4.1'}\n", "spark.dialect: \"4.1\" is no dialect"},
		{"REST port", "spark: {restPorts: [0]}\n", "spark.restPorts: 0 is no port"},
		{"address", "node: {addresses: [10.0.0.0/8]}\n", "node.addresses: \"10.0.0.0/8\" is neither"},
		{"no destination", "destinations: []\n", "destinations: empty: name peers, objects, or both"},
		{"unknown destination", "destinations: [peers, tape]\n", `destinations: "tape" is not known`},
		{"destination twice", "destinations: [peers, peers]\n", `destinations: "peers" is named twice`},
		{"objects path", "objects: {path: /copies}\n", "objects.path: can't be used: set a URL"},
		{"objects scheme", "objects: {path: 'hdfs://name/copies'}\n", "objects.path: can't be used: set a URL"},
		{"nothing to override with", "objects: {override: true}\n", "objects.override: there is nothing to override with"},
		{"endpoint", "objects: {endpoint: 'minio:9000'}\n", "objects.endpoint: not a URL of a service"},
		{"endpoint with a password", "objects: {endpoint: 'http://a:b@minio'}\n", "objects.endpoint: not a URL of a service"},
		{"path style", "objects: {pathStyle: yes please}\n", `objects.pathStyle: "yes please" is not known`},
		{"adopt", "kubernetes: {volumes: {adopt: copy}}\n", `kubernetes.volumes.adopt: "copy" is not known: set it to one of link, upload, off`},
		{"grace", "kubernetes: {grace: 0s}\n", "kubernetes.grace: 0s is out of range: set it from 1s to 5m"},
		{"blank name", "node: {name: ' '}\n", "node.name: empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant …%s…", err, tt.want)
			}
		})
	}
}

// TestOnlySurvivorsMindTheirKeys: one file serves the agents, too, which run whatever it says of survivors.
func TestOnlySurvivorsMindTheirKeys(t *testing.T) {
	for text, want := range map[string][]string{
		"":           {"survivor.nodes: empty"},
		"nodes: a=b": nil,
		"nodes: a=b, forceDelete: false, failPods: false, deletePods: false": nil,
		"nodes: a=b, deletePods: false, forceDelete: false":                  {"survivor.failPods: a pod whose status is Failed"},
		"nodes: a=b, deletePods: false, failPods: false":                     {"survivor.forceDelete: nothing is deleted by force"},
		"nodes: a=b, after: 2h":                                              {"survivor.after: 2h is out of range: set it from 1s to 1h"},
		"deletePods: false":                                                  {"survivor.nodes", "survivor.failPods", "survivor.forceDelete"},
	} {
		c, err := Parse("f.yaml", []byte("survivor: {"+text+"}\n"))
		if err != nil {
			t.Errorf("%q: an agent says: %v", text, err)
		}
		err = c.Survivor.Check()
		if (err == nil) != (want == nil) {
			t.Errorf("%q: %v", text, err)
		}
		for _, w := range want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v lacks %q", text, err, w)
			}
		}
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Parse("f.yaml", []byte("nod: 1\nscan: x\n"))
	for _, want := range []string{"f.yaml:1: nod: unknown key", "f.yaml:2: scan: want"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	_, err = Parse("f.yaml", []byte("scan: 1ms\nlisten: x\n"))
	var ke *KeyError
	if !errors.As(err, &ke) || !strings.Contains(err.Error(), "scan:") || !strings.Contains(err.Error(), "listen:") {
		t.Errorf("%v is not both", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "l.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a named file that is missing: %v", err)
	}
	if err := os.WriteFile(path, []byte("scan: 7s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || c.Scan != 7*time.Second {
		t.Errorf("%v %v", c.Scan, err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("#"), maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Error("a huge file was read")
	}
}

func TestPrintIsReadBack(t *testing.T) {
	changed := Default()
	changed.Node = Node{Name: "no", Addresses: []string{"10.0.0.7", "fe80::1"}}
	changed.Listen = ""
	changed.Providers.Kube.Taints = []string{"example.com/leaving:drain:5m"}
	changed.Spark.RESTPorts = []int{4040}
	changed.Scan = 90 * time.Second
	for name, c := range map[string]Config{"default": Default(), "changed": changed} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := c.Print(&b); err != nil {
				t.Fatal(err)
			}
			got, err := Parse("printed", b.Bytes())
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			if len(got.Node.Addresses) == 0 {
				got.Node.Addresses = nil
			}
			if len(got.Providers.Kube.Taints) == 0 {
				got.Providers.Kube.Taints = nil
			}
			if len(got.Spark.RESTPorts) == 0 {
				got.Spark.RESTPorts = nil
			}
			if !reflect.DeepEqual(got, c) {
				t.Errorf("got %+v\nwant %+v\n%s", got, c, b.String())
			}
		})
	}
}

func TestJSONHasTheSameKeys(t *testing.T) {
	data, err := json.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("json", data) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	if got.Scan != Default().Scan || got.Migrate != Default().Migrate || got.Listen != Default().Listen {
		t.Errorf("%s", data)
	}
}

func TestPrintGolden(t *testing.T) {
	c := Default()
	c.Node.Name = "node-1"
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "default.yaml"), b.Bytes())
}

// TestEveryKeyIsDocumented also proves that the range tags can be read.
func TestEveryKeyIsDocumented(t *testing.T) {
	for _, f := range Default().fields() {
		if f.doc == "" || !strings.HasSuffix(f.doc, ".") {
			t.Errorf("%s: doc %q is no sentence", f.key, f.doc)
		}
		switch f.value.Interface().(type) {
		case time.Duration:
			if mustDuration(f.min) >= mustDuration(f.max) {
				t.Errorf("%s: empty range", f.key)
			}
		case int:
			if mustInt(f.min) >= mustInt(f.max) {
				t.Errorf("%s: empty range", f.key)
			}
		}
	}
}

const (
	refBegin = "<!-- keys: written by `go test ./agent/config -update` -->\n"
	refEnd   = "<!-- end of keys -->\n"
)

func TestReferenceIsInStep(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte(refBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(refEnd))
	if !ok || !ok2 {
		t.Fatalf("%s has lost its markers", path)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(refBegin)
	if err := Reference(&b); err != nil {
		t.Fatal(err)
	}
	b.WriteString(refEnd)
	b.Write(after)
	golden(t, path, b.Bytes())
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not in step: run go test -update\ngot:\n%s", path, got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("scan: 5s\n"))
	f.Add([]byte("a: &a {b: *a}\n"))
	f.Add([]byte("node: {addresses: [1, {}]}\nnope: [x, y]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Errorf("accepted but not valid: %v", err)
			}
		}
	})
}
