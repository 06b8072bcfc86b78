package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	tests := []struct {
		name, events string
		want         counts
	}{
		{"passed", `{"Action":"pass","Package":"p","Test":"A"}{"Action":"pass","Package":"p"}`, counts{packages: 1, passed: 1}},
		{"failed", `{"Action":"fail","Package":"p","Test":"A"}{"Action":"fail","Package":"p"}`, counts{packages: 1, failed: 1}},
		{"build failed", `{"Action":"fail","Package":"p"}`, counts{packages: 1, failed: 1}},
		{"skipped", `{"Action":"skip","Package":"p","Test":"A"}{"Action":"pass","Package":"p"}`, counts{packages: 1, skipped: 1}},
		{"no test files", `{"Action":"skip","Package":"p"}{"Action":"output","Package":"p"}`, counts{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := count(io.Discard, strings.NewReader(test.events), map[string]bool{})
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

// TestFailedTestsSayWhy: what they said themselves is among the last lines, and the logs that they showed are not.
func TestFailedTestsSayWhy(t *testing.T) {
	var events strings.Builder
	say := func(test, line string) {
		text, err := json.Marshal(map[string]string{"Action": "output", "Package": "p", "Test": test, "Output": line + "\n"})
		if err != nil {
			t.Fatal(err)
		}
		events.Write(text)
	}
	for i := range 20 {
		say("A", fmt.Sprintf("    a_test.go:%d: step", i))
		say("B", "    b_test.go:1: all is well")
	}
	say("A", "        a line of a log")
	say("A", "    a_test.go:20: "+strings.Repeat("long ", 200))
	say("A", "panic: at last")
	events.WriteString(`{"Action":"pass","Package":"p","Test":"B"}{"Action":"fail","Package":"p","Test":"A"}{"Action":"fail","Package":"p"}`)
	var out strings.Builder
	if _, err := count(&out, strings.NewReader(events.String()), map[string]bool{}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 1+lastLines || lines[1] != "    a_test.go:10: step" || lines[lastLines] != "panic: at last" || len(lines[lastLines-1]) != lineChars {
		t.Errorf("%q", lines)
	}
}

func TestRunNeedsTests(t *testing.T) {
	if _, err := run(io.Discard, []string{"no such file"}, nil, 0); err == nil {
		t.Error("a lane that left no file is a success")
	}
	file := filepath.Join(t.TempDir(), "events")
	events := `{"Action":"pass","Package":"m/a","Test":"A"}{"Action":"pass","Package":"m/a"}{"Action":"pass","Package":"m/b"}`
	if err := os.WriteFile(file, []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	for need, want := range map[string]bool{"": true, "a": true, "b": false, "c": false} {
		ok, err := run(io.Discard, []string{file}, strings.Fields(need), 0)
		if !ok || (err == nil) != want {
			t.Errorf("%q is needed: %t, %v", need, ok, err)
		}
	}
}
