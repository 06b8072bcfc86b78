//go:build integration

// Package alerts runs promtool on the alerts: Prometheus' own judgement of the rules, and their tests in deploy/alerts.
package alerts

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/lifeboat/lifeboat/integration/chart"
	"github.com/lifeboat/lifeboat/integration/tools"
)

const folder = "../../deploy/alerts"

func TestPromtool(t *testing.T) {
	tests, err := filepath.Glob(filepath.Join(folder, "*_test.yaml"))
	if err != nil || len(tests) < 3 {
		t.Fatalf("%d files with tests, %v", len(tests), err)
	}
	promtool(t, "check", "rules", "--lint-fatal", filepath.Join(folder, "lifeboat.rules.yaml"))
	promtool(t, append([]string{"test", "rules"}, tests...)...)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	dir, err := tools.Path(t.Context(), "promtool", t.Output())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "promtool"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
	t.Logf("%s", out)
}

// TestChartShipsTheAlerts as they are: a template of Prometheus in them must not be taken for one of Helm.
func TestChartShipsTheAlerts(t *testing.T) {
	renderer, err := chart.New(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := renderer.Manifests(t.Context(), chart.Release{Values: map[string]any{
		"metrics": map[string]any{"enabled": true, "prometheusRule": map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, read(t, filepath.Join(folder, "lifeboat.rules.yaml")))
	for document := range strings.SplitSeq(string(manifests), "\n---") {
		m := decode(t, []byte(document))
		if m["kind"] != "PrometheusRule" {
			continue
		}
		if !reflect.DeepEqual(m["spec"], any(want)) {
			t.Errorf("the chart has %v, want %v", m["spec"], want)
		}
		if labels := m["metadata"].(map[string]any)["labels"].(map[string]any); labels["release"] != "prometheus" {
			t.Errorf("labels %v", labels)
		}
		return
	}
	t.Error("the chart has no PrometheusRule")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestQueriesOfTheDashboard are understood by Prometheus, with the variables that Grafana fills in.
func TestQueriesOfTheDashboard(t *testing.T) {
	var d struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(read(t, "../../deploy/dashboard/lifeboat.json"), &d); err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var queries []rule
	for i, p := range d.Panels {
		for j, target := range p.Targets {
			expr := strings.NewReplacer("$__range", "6h", "$__rate_interval", "2m").Replace(target.Expr)
			queries = append(queries, rule{Record: fmt.Sprintf("panel:%d:%d", i, j), Expr: expr})
		}
	}
	data, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": queries}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
