package main

import (
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
