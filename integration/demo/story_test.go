package main

import (
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name          string
		without, with lab.Round
		broken        string
	}{
		{"kept", lab.Round{MapTasks: 16, Exact: true}, lab.Round{Exact: true}, ""},
		{"recomputed", lab.Round{MapTasks: 16, Exact: true}, lab.Round{MapTasks: 1, Exact: true}, "1 map tasks ran again"},
		{"wrong", lab.Round{MapTasks: 16, Exact: true}, lab.Round{}, "result is wrong"},
		{"nothing at risk", lab.Round{Exact: true}, lab.Round{Exact: true}, "shows nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			err := compare(&b, &outcome{after: tt.without}, &outcome{after: tt.with, report: &report.Report{}})
			if (err != nil) != (tt.broken != "") || err != nil && !strings.Contains(err.Error(), tt.broken) {
				t.Errorf("error %v, want %q; printed:\n%s", err, tt.broken, b.String())
			}
		})
	}
}
