package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object"
)

// KeyError is a value that can't be used.
type KeyError struct {
	Key     string // full path, as migrate.backoff.max
	Problem string // what is wrong, and what to set instead
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Problem }

var dialectName = regexp.MustCompile(`^spark-\d+\.\d+-scala-\d+\.\d+$`)

// Validate checks every key and returns all that is wrong at once, each as a *KeyError. What only a survivor minds is left to
// Survivor.Check.
func (c Config) Validate() error {
	var all complaints
	bad := all.add
	for _, f := range c.fields() {
		if !strings.HasPrefix(f.key, survivorKeys+".") {
			f.check(bad)
		}
	}
	c.checkNode(bad)
	c.checkPaths(bad)
	c.checkObjects(bad)
	c.checkSpark(bad)
	c.checkTimes(bad)
	return errors.Join(all...)
}

type complain func(key, format string, args ...any)

// complaints are a list of *KeyError.
type complaints []error

func (c *complaints) add(key, format string, args ...any) {
	*c = append(*c, &KeyError{Key: key, Problem: fmt.Sprintf(format, args...)})
}

// check holds one value against its own tags.
func (f field) check(bad complain) {
	switch v := f.value.Interface().(type) {
	case time.Duration:
		if lo, hi := mustDuration(f.min), mustDuration(f.max); v < lo || v > hi {
			bad(f.key, "%s is out of range: set it from %s to %s", Duration(v), f.min, f.max)
		}
	case int:
		if lo, hi := mustInt(f.min), mustInt(f.max); v < lo || v > hi {
			bad(f.key, "%d is out of range: set it from %d to %d", v, lo, hi)
		}
	case string:
		f.checkWord(v, bad)
	case Toggle:
		f.checkWord(string(v), bad)
	}
}

func (f field) checkWord(v string, bad complain) {
	if f.oneof != nil && !slices.Contains(f.oneof, v) {
		bad(f.key, "%q is not known: set it to one of %s", v, strings.Join(f.oneof, ", "))
	}
}

func (c Config) checkNode(bad complain) {
	if strings.TrimSpace(c.Node.Name) == "" {
		bad("node.name", "empty: set the name of this node, or leave the key out for the host name")
	}
	for _, a := range c.Node.Addresses {
		if a == "" || strings.ContainsAny(a, " /\t\n") {
			bad("node.addresses", "%q is neither an address nor a host name: write it as in the executors' --hostname", a)
		}
	}
}

func (c Config) checkPaths(bad complain) {
	if !filepath.IsAbs(c.State) || filepath.Clean(c.State) == "/" {
		bad("state", "%q can't be used: set the full path of a folder of its own, as /var/lib/lifeboat", c.State)
	}
	c.checkFile(bad)
	if c.Listen == "" {
		return
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		bad("listen", "%q is not host:port: set it as 127.0.0.1:9420, or to \"\" for no server", c.Listen)
	}
}

func (c Config) checkObjects(bad complain) {
	if len(c.Destinations) == 0 {
		bad("destinations", "empty: name %s, %s, or both in the order of preference", DestinationPeers, DestinationObjects)
	}
	for i, d := range c.Destinations {
		switch {
		case d != DestinationPeers && d != DestinationObjects:
			bad("destinations", "%q is not known: name %s, %s, or both in the order of preference", d, DestinationPeers, DestinationObjects)
		case slices.Contains(c.Destinations[:i], d):
			bad("destinations", "%q is named twice", d)
		}
	}
	o := c.Objects
	if o.Path != "" {
		if _, err := object.SettingsFor(o.Path, nil, object.Overrides{}); err != nil {
			bad("objects.path", "can't be used: set a URL as s3a://bucket/lifeboat: %v", err)
		}
	}
	if o.Override && o.Path == "" {
		bad("objects.override", "there is nothing to override with: set objects.path")
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			bad("objects.endpoint", "not a URL of a service: set it as https://s3.example.com, without credentials")
		}
	}
}

func (c Config) checkFile(bad complain) {
	f := c.Providers.File
	switch {
	case !f.Enabled:
	case f.Path == "" && f.Folder == "":
		bad("providers.file.path", "empty, and providers.file.folder too: set one, or providers.file.enabled to false")
	case f.Path != "" && !filepath.IsAbs(f.Path):
		bad("providers.file.path", "%q can't be used: set a full path, or providers.file.enabled to false", f.Path)
	case f.Folder != "" && (!filepath.IsAbs(f.Folder) || filepath.Clean(f.Folder) == "/"):
		bad("providers.file.folder", "%q can't be used: set the full path of a folder of its own, or \"\"", f.Folder)
	}
}

func (c Config) checkSpark(bad complain) {
	if d := c.Spark.Dialect; d != DialectAuto && !dialectName.MatchString(d) {
		bad("spark.dialect", "%q is no dialect: set it to auto, or to a name such as spark-4.1-scala-2.13", d)
	}
	for _, p := range c.Spark.RESTPorts {
		if p < 1 || p > 65535 {
			bad("spark.restPorts", "%d is no port: use 1 to 65535", p)
		}
	}
}

// lead is the lead time of a source.
type lead struct {
	key  string
	used bool // the source may be used
	time time.Duration
}

func (p Providers) leads() []lead {
	return []lead{
		{"providers.aws.lead", p.Uses("aws", p.AWS.Enabled), p.AWS.Lead},
		{"providers.aws.asgLead", p.Uses("aws", p.AWS.Enabled), p.AWS.ASGLead},
		{"providers.gcp.lead", p.Uses("gcp", p.GCP.Enabled), p.GCP.Lead},
		{"providers.gcp.maintenanceLead", p.Uses("gcp", p.GCP.Enabled), p.GCP.MaintenanceLead},
		{"providers.azure.lead", p.Uses("azure", p.Azure.Enabled), p.Azure.Lead},
		{"providers.alibaba.lead", p.Uses("alibaba", p.Alibaba.Enabled), p.Alibaba.Lead},
		{"providers.tencent.lead", p.Uses("tencent", p.Tencent.Enabled), p.Tencent.Lead},
		{"providers.kube.lead", p.Kube.Enabled != Off, p.Kube.Lead},
		{"providers.file.lead", p.File.Enabled, p.File.Lead},
	}
}

// Uses is true when a cloud's source is named by the configuration, and when it may be found.
func (p Providers) Uses(cloud string, enabled Toggle) bool {
	return enabled == On || enabled == Auto && (p.Cloud == cloud || p.Cloud == CloudAuto)
}

func (c Config) checkTimes(bad complain) {
	if c.Deadline.Margin >= c.Deadline.Default {
		bad("deadline.margin", "%s leaves no time to copy: set it below deadline.default (%s)",
			Duration(c.Deadline.Margin), Duration(c.Deadline.Default))
	}
	if c.Deadline.Margin >= c.Deadline.Ahead {
		bad("deadline.margin", "%s leaves no time to copy: set it below deadline.ahead (%s)",
			Duration(c.Deadline.Margin), Duration(c.Deadline.Ahead))
	}
	for _, l := range c.Providers.leads() {
		if l.used && c.Deadline.Margin >= l.time {
			bad("deadline.margin", "%s leaves no time to copy: set it below %s (%s)", Duration(c.Deadline.Margin), l.key, Duration(l.time))
		}
	}
	if b := c.Migrate.Backoff; b.Max < b.Initial {
		bad("migrate.backoff.max", "%s is less than the first pause: set it to at least migrate.backoff.initial (%s)",
			Duration(b.Max), Duration(b.Initial))
	}
}

// mustDuration and mustInt read tags; a test walks all of them, so they can't fail in a built program.
func mustDuration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic("config: bad range tag: " + err.Error())
	}
	return d
}

func mustInt(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic("config: bad range tag: " + err.Error())
	}
	return n
}
