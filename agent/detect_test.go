package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers"
)

// saying makes a cloud that is detected, or not, when asked.
func saying(name string, detect func(ctx context.Context) bool) cloud {
	return cloud{name: name, enabled: config.Auto, detect: func(ctx context.Context, _ string) bool { return detect(ctx) }}
}

func yes(context.Context) bool { return true }

func no(context.Context) bool { return false }

// blackHole never answers, as an address that no route leads to.
func blackHole(ctx context.Context) bool {
	<-ctx.Done()
	return false
}

func TestFirmwareNamesTheCloud(t *testing.T) {
	for _, tt := range []struct{ name, file, text, want string }{
		{"EC2 Nitro", "sys_vendor", "Amazon EC2\n", "aws"},
		{"EC2 Xen", "bios_version", "4.11.amazon\n", "aws"},
		{"Compute Engine", "product_name", "Google Compute Engine\n", "gcp"},
		{"Azure", "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n", "azure"},
		{"ECS", "sys_vendor", "Alibaba Cloud\n", "alibaba"},
		{"CVM", "sys_vendor", "Tencent Cloud\n", "tencent"},
		{"Hyper-V elsewhere", "sys_vendor", "Microsoft Corporation\n", ""},
		{"a laptop", "sys_vendor", "LENOVO\n", ""},
		{"nothing", "other", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o600))
			if got := firmware(dir); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestDetectionIsQuick: a cloud that answers is found at once beside others where nothing does, and where there is none the look
// ends in less than two seconds.
func TestDetectionIsQuick(t *testing.T) {
	for name, tt := range map[string]struct {
		clouds []cloud
		want   string
		within time.Duration
	}{
		"one of many":          {[]cloud{saying("aws", blackHole), saying("gcp", yes), saying("azure", blackHole)}, "gcp", 0},
		"none, and no route":   {[]cloud{saying("aws", blackHole), saying("gcp", blackHole)}, "", 2 * time.Second},
		"none, and it says so": {[]cloud{saying("aws", no), saying("gcp", no)}, "", 0},
		"one that never returns": {[]cloud{saying("aws", no), saying("gcp", func(context.Context) bool {
			time.Sleep(time.Minute)
			return true
		})}, "", 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &detector{clouds: tt.clouds, dmi: t.TempDir(), log: zap.NewNop()}
				began := time.Now()
				c, found := d.once(t.Context())
				if c.name != tt.want || found != (tt.want != "") {
					t.Errorf("found %q", c.name)
				}
				if took := time.Since(began); took > tt.within {
					t.Errorf("took %v", took)
				}
				time.Sleep(time.Minute) // the one that never returns, does
			})
		})
	}
}

func TestWhoIsBelieved(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "sys_vendor"), []byte("Amazon EC2"), 0o600))
	named := func(c cloud) cloud {
		c.named = true
		return c
	}
	for name, tt := range map[string]struct {
		clouds []cloud
		want   string
	}{
		"the firmware, while the metadata is late":   {[]cloud{saying("aws", no), saying("gcp", yes)}, "aws"},
		"an endpoint that was set, if it answers":    {[]cloud{saying("aws", yes), named(saying("gcp", yes))}, "gcp"},
		"not one that was set and does not answer":   {[]cloud{saying("aws", no), named(saying("gcp", no))}, "aws"},
		"not the firmware on a cloud that is off":    {[]cloud{saying("gcp", yes)}, "gcp"},
		"nobody, when nobody says so, and it is off": {[]cloud{saying("gcp", no)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &detector{clouds: tt.clouds, dmi: dir, log: zap.NewNop()}
			if c, _ := d.once(t.Context()); c.name != tt.want {
				t.Errorf("%q, want %q", c.name, tt.want)
			}
		})
	}
}

// TestMetadataThatComesLate is found in the background.
func TestMetadataThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(10 * time.Minute)
		d := &detector{dmi: t.TempDir(), log: zap.NewNop(), clouds: []cloud{
			saying("aws", func(context.Context) bool { return time.Now().After(up) }), saying("gcp", blackHole),
		}}
		c, err := d.run(t.Context())
		if err != nil || c.name != "aws" || time.Since(up) > detectPause+2*time.Second {
			t.Errorf("%q after %v, %v", c.name, time.Since(up), err)
		}
	})
}

func TestWhatIsLookedFor(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "aws, gcp, azure, alibaba, tencent",
		"providers: auto\n":                 "aws, gcp, azure, alibaba, tencent",
		"providers: none\n":                 "",
		"providers: gcp\n":                  "",
		"providers: {aws: {enabled: true}}": "",
		"providers: {gcp: {enabled: false}, azure: {enabled: false}, tencent: {enabled: false}}": "aws, alibaba",
	} {
		cfg, err := config.Parse("test", []byte(text))
		must(t, err)
		got := ""
		if d := newDetector(cfg, zap.NewNop()); d != nil {
			got = names(d.clouds)
		}
		if got != want {
			t.Errorf("%q looks for %q, want %q", text, got, want)
		}
	}
}

// TestSourcesOfEachCloud: one word in the configuration starts all that the cloud has.
func TestSourcesOfEachCloud(t *testing.T) {
	for cloud, want := range map[string][]string{
		"aws":     {"aws-spot", "aws-rebalance", "aws-asg", "aws-scheduled"},
		"gcp":     {"gcp-preempted", "gcp-maintenance"},
		"azure":   {"azure-events"},
		"alibaba": {"alibaba-spot"},
		"tencent": {"tencent-spot"},
		"none":    nil,
		"auto":    nil,
	} {
		cfg, err := config.Parse("test", []byte("providers: "+cloud+"\n"))
		must(t, err)
		list, err := newSources(cfg, Deps{Log: zap.NewNop(), Registry: prometheus.NewRegistry()})
		must(t, err)
		var got []string
		for _, s := range list {
			got = append(got, s.Name())
			if _, can := s.(providers.Sight); !can {
				t.Errorf("%s does not say what it sees", s.Name())
			}
			if _, can := s.(providers.Acknowledger); can {
				t.Errorf("%s would acknowledge without being asked to", s.Name())
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %q, want %q", cloud, got, want)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %q, want %q", cloud, got, want)
			}
		}
	}
	cfg := config.Default()
	cfg.Providers.Azure.Acknowledge = true
	list, err := azureCloud(cfg.Providers.Azure).sources(Deps{Log: zap.NewNop(), Registry: prometheus.NewRegistry()})
	must(t, err)
	if _, can := list[0].(providers.Acknowledger); !can {
		t.Error("azure-events does not acknowledge although it is to")
	}
}

// TestNoCloudHoldsTheAgentUp: the agent is there at once, and says what it misses. The address takes
// connections and says nothing.
func TestNoCloudHoldsTheAgentUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	s := newStage(t)
	s.others = nil
	p := &s.cfg.Providers
	for _, endpoint := range []*string{&p.AWS.Endpoint, &p.GCP.Endpoint, &p.Azure.Endpoint, &p.Alibaba.Endpoint, &p.Tencent.Endpoint} {
		*endpoint = "http://" + silent.Addr().String()
	}
	p.Kube.Enabled = config.Off
	a, err := New(s.cfg, Deps{Log: s.logger(), Registry: prometheus.NewRegistry(), Version: "test", Dialer: s, Proc: s.proc})
	must(t, err)
	began := time.Now()
	s.run(a)
	s.until("the agent says what it misses", func() bool {
		return len(a.Status(t.Context()).NotReady()) > 0 && a.detection() != ""
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestFoundCloudIsWatched: its sources start, and the agent is ready.
func TestFoundCloudIsWatched(t *testing.T) {
	s := newStage(t)
	answered := make(chan struct{}, 1)
	a, err := New(s.cfg, Deps{Log: s.logger(), Registry: prometheus.NewRegistry(), Version: "test", Dialer: s, Proc: s.proc})
	must(t, err)
	a.detector = &detector{dmi: t.TempDir(), log: s.logger(), clouds: []cloud{{
		name: "test", detect: func(context.Context, string) bool { answered <- struct{}{}; return true },
		sources: func(Deps) ([]providers.Source, error) { return []providers.Source{s.source}, nil },
	}}}
	s.run(a)
	<-answered
	s.await("log: cloud found")
	s.send(notice("n1", time.Second))
	s.await("log: notice\t")
	if a.detection() != "test" {
		t.Errorf("detected %q", a.detection())
	}
}

// TestKubernetesIsWatchedWhereItCanBe: without an address or a name, auto leaves it alone and true says what is missing.
func TestKubernetesIsWatchedWhereItCanBe(t *testing.T) {
	access := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(access, []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
"contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}], "users": [{"name": "u", "user": {"token": "t"}}]}`), 0o600))
	for name, tt := range map[string]struct {
		kube    config.Kube
		node    string // NODE_NAME
		sources int
		wrong   string
	}{
		"nothing is known":       {config.Kube{Enabled: config.Auto}, "", 0, ""},
		"off":                    {config.Kube{Enabled: config.Off, Kubeconfig: access, Node: "n"}, "", 0, ""},
		"the name is missing":    {config.Kube{Enabled: config.Auto, Kubeconfig: access}, "", 0, ""},
		"both are known":         {config.Kube{Enabled: config.Auto, Kubeconfig: access, Node: "n"}, "", 2, ""},
		"the name from the pod":  {config.Kube{Enabled: config.Auto, Kubeconfig: access}, "n", 2, ""},
		"on, without a name":     {config.Kube{Enabled: config.On, Kubeconfig: access}, "", 0, "NODE_NAME"},
		"on, without an address": {config.Kube{Enabled: config.On, Node: "n"}, "", 0, "providers.kube: "},
		"taints":                 {config.Kube{Enabled: config.Auto, Kubeconfig: access, Node: "n", Taints: []string{"example.com/x:drain:5m"}}, "", 2, ""},
		"a taint that is none":   {config.Kube{Enabled: config.Auto, Kubeconfig: access, Node: "n", Taints: []string{"example.com/x"}}, "", 0, "providers.kube.taints"},
		"auto, and no such file": {config.Kube{Enabled: config.Auto, Kubeconfig: access + "x", Node: "n"}, "", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NODE_NAME", tt.node)
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			cfg := config.Default()
			cfg.Providers.Kube = tt.kube
			_, list, err := openKubernetes(cfg, Deps{Log: zap.NewNop(), Registry: prometheus.NewRegistry()}, nil)
			if len(list) != tt.sources || (err != nil) != (tt.wrong != "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%d sources, %v", len(list), err)
			}
		})
	}
}
