package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

// TestChartKnowsEveryKey: the chart refuses wrong values by the schema of this package.
func TestChartKnowsEveryKey(t *testing.T) {
	path := filepath.Join("..", "..", "deploy", "chart", "values.schema.json")
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(was, &schema); err != nil {
		t.Fatal(err)
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		t.Fatalf("%s has no properties", path)
	}
	properties["config"] = Schema()
	var now bytes.Buffer
	enc := json.NewEncoder(&now)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(schema); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, now.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(was, now.Bytes()) {
		t.Errorf("%s is out of date: go test ./agent/config -update", path)
	}
}

func TestSchemaOfValues(t *testing.T) {
	at := func(keys ...string) map[string]any {
		t.Helper()
		s := Schema()
		for _, k := range keys {
			if either, ok := s["anyOf"].([]any); ok {
				s = either[1].(map[string]any)
			}
			s = s["properties"].(map[string]any)[k].(map[string]any)
		}
		return s
	}
	if s := at("migrate", "connections"); s["type"] != "integer" || s["minimum"] != 1 || s["maximum"] != 16 {
		t.Errorf("number: %v", s)
	}
	if s := at("providers", "aws", "enabled"); !slices.Equal(s["enum"].([]any), []any{"auto", "true", true, "false", false}) {
		t.Errorf("toggle: %v", s)
	}
	if s := at("destinations"); s["type"] != "array" || s["items"].(map[string]any)["type"] != "string" {
		t.Errorf("list: %v", s)
	}
	word, ok := at("providers")["anyOf"].([]any)
	if !ok || !slices.Contains(word[0].(map[string]any)["enum"].([]any), "gcp") {
		t.Errorf("one word: %v", at("providers"))
	}
	if s := at("migrate"); s["additionalProperties"] != false {
		t.Errorf("unknown keys are let in: %v", s)
	}
}

// TestDurationsAreThoseOfGo: what the schema takes for a duration, the agent can read, and every default is one.
func TestDurationsAreThoseOfGo(t *testing.T) {
	pattern := regexp.MustCompile(durationPattern)
	for _, s := range []string{"1s", "1m30s", "1.5h", "200ms", "4m10.5s"} {
		if _, err := time.ParseDuration(s); err != nil || !pattern.MatchString(s) {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "5", "1 s", "2d", "s", "1.s", "-1s", "1s "} {
		if pattern.MatchString(s) {
			t.Errorf("%q is taken for a duration", s)
		}
	}
	for _, f := range Default().fields() {
		if _, ok := f.value.Interface().(time.Duration); ok && !pattern.MatchString(f.text()) {
			t.Errorf("%s: the default %s is refused", f.key, f.text())
		}
	}
}
