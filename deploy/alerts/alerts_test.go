// Package alerts holds the alerts for Prometheus. These tests keep them in step with the agent's metrics and with the
// runbook; promtool runs the others (integration/alerts).
package alerts

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"sigs.k8s.io/yaml"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	rulesFile = "lifeboat.rules.yaml"
	runbook   = "../runbooks/preemption.md"
	address   = "https://github.com/lifeboat/lifeboat/blob/main/deploy/runbooks/preemption.md#"
)

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	data, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name     string `json:"name"`
			Interval string `json:"interval"`
			Rules    []rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		t.Fatal(err)
	}
	var list []rule
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	return list
}

func TestTheThreeAlerts(t *testing.T) {
	names := []string{}
	headings := anchors(t)
	for _, r := range rules(t) {
		names = append(names, r.Alert)
		if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Expr == "" || r.For == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks expr, for, summary or description", r.Alert)
		}
		anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], address)
		if !ok || !slices.Contains(headings, anchor) {
			t.Errorf("%s: runbook_url %s leads nowhere; the runbook has %q", r.Alert, r.Annotations["runbook_url"], headings)
		}
	}
	if want := []string{"LifeboatRescueLostData", "LifeboatRescueMissesDeadline", "LifeboatAgentBlind"}; !slices.Equal(names, want) {
		t.Errorf("alerts %q, want %q", names, want)
	}
}

// anchors of the runbook's headings, as GitHub makes them.
func anchors(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(runbook)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			words := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			list = append(list, strings.ReplaceAll(words, " ", "-"))
		}
	}
	return list
}

// TestMetricsOfAlertsExist: what the rules, their tests, the dashboard and the runbook name is exported by the agent.
func TestMetricsOfAlertsExist(t *testing.T) {
	exported := agentMetrics(t)
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dashboards, err := filepath.Glob("../dashboard/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range slices.Concat(files, dashboards, []string{runbook, "../../docs/notices.md", "../../docs/mirror.md"}) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\blifeboat_[a-z_]+[a-z]\b`).FindAllString(string(data), -1) {
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if !slices.Contains(exported, name) && !slices.Contains(exported, base) {
				t.Errorf("%s names %s, which no agent exports", file, name)
			}
		}
	}
}

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

// agentMetrics are the names of all metrics that an agent registers.
func agentMetrics(t *testing.T) []string {
	t.Helper()
	cfg := config.Default()
	cfg.State, cfg.Mirror.Mode = filepath.Join(t.TempDir(), "state"), config.MirrorAlways
	registry := prometheus.NewRegistry()
	if _, err := agent.New(cfg, agent.Deps{Log: zap.NewNop(), Registry: registry, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	_, err := providers.NewPoller(providers.PollerOptions{ // sources register theirs when they are made
		Source: "test", Poll: func(ctx context.Context) ([]providers.Notice, error) { return nil, nil }, Interval: time.Second, Timeout: time.Second, Metrics: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descriptions)
		close(descriptions)
	}()
	var names []string
	for d := range descriptions {
		if m := fqName.FindStringSubmatch(d.String()); m != nil {
			names = append(names, m[1])
		}
	}
	return names
}

// TestDashboard: what Grafana is given can be read, and each panel asks for something.
func TestDashboard(t *testing.T) {
	data, err := os.ReadFile("../dashboard/lifeboat.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(data, &d); err != nil || d.UID == "" || len(d.Panels) < 10 {
		t.Fatalf("%v, %d panels", err, len(d.Panels))
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: its id twice, no title, or no query", p.ID, p.Title)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			if !strings.Contains(target.Expr, "lifeboat_") {
				t.Errorf("panel %q asks for %q", p.Title, target.Expr)
			}
		}
	}
}
