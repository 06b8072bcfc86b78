package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A few notices of each source go through the agent, and end up in the results.
func TestReactionsAreMeasured(t *testing.T) {
	out := filepath.Join(t.TempDir(), "results.json")
	var text strings.Builder
	if err := run(t.Context(), &text, options{only: "notices", notices: 5, out: out}); err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var rs []result
	if err := json.Unmarshal(raw, &rs); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{
		"aws-spot", "aws-asg", "aws-rebalance", "aws-scheduled", "gcp-preempted", "gcp-maintenance", "azure-events", "alibaba-spot", "tencent-spot", "file",
	} {
		if !strings.Contains(text.String(), source) {
			t.Errorf("%s is not in the table:\n%s", source, text.String())
		}
		i := slices.IndexFunc(rs, func(r result) bool { return r.Name == "reaction-"+source+"-max" })
		if i < 0 || rs[i].Ours <= 0 || rs[i].Unit != "ms" || rs[i].Other != 70 {
			t.Errorf("result of %s: %v", source, rs)
		}
	}
}

func TestBareLoopIsNoResultOfOurs(t *testing.T) {
	b := &bench{reactions: []reaction{
		{source: bareName, times: []time.Duration{10 * time.Millisecond}}, {source: "aws-spot", times: []time.Duration{5 * time.Millisecond}},
	}}
	var names []string
	for _, r := range b.results() {
		names = append(names, r.Name)
		if r.Name == "reaction-aws-spot-max-beside" && (r.Other != 10 || r.Ratio != 0.5) {
			t.Errorf("%+v", r)
		}
	}
	if len(names) != 6 || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, bareName) }) {
		t.Errorf("results: %q", names)
	}
}

func TestQuantiles(t *testing.T) {
	r := reaction{times: make([]time.Duration, 1000)}
	for i := range r.times {
		r.times[i] = time.Duration(1000-i) * time.Millisecond
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := r.at(q); got != want {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
}

func TestPartsHaveNames(t *testing.T) {
	if err := run(t.Context(), &strings.Builder{}, options{only: "everything"}); err == nil || !strings.Contains(err.Error(), "notices") {
		t.Errorf("an unknown part: %v", err)
	}
}
