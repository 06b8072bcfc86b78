package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers"
)

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 15, 0, 0, time.UTC)
	file := status.Source{Health: providers.Health{Source: "file", OK: true}}
	spot := status.Source{Health: providers.Health{Source: "aws-spot", Error: "no route\x1b[2J"}}
	drill := status.Source{Health: providers.Health{Source: "drill", OK: true}, Drills: true}
	at := func(s status.Status) status.Status {
		s.Version, s.Node, s.Started = "v1", "node-a", now.Add(-2*time.Hour)
		return s
	}
	for name, tt := range map[string]struct {
		s    status.Status
		want string
	}{
		"ready": {at(status.Status{Sources: []status.Source{file, spot, drill}, Executors: []status.Executor{{}, {}}, LastReport: "20261121-101502-7f3a"}), `agent        v1 on node-a, for 2h 0m
ready        yes
sources      1 of 2 answer
executors    2
rescue       none runs
last report  20261121-101502-7f3a
`},
		"not ready": {at(status.Status{Sources: []status.Source{spot, drill}, Stopping: true}), `agent        v1 on node-a, for 2h 0m
not ready    notice source aws-spot does not answer: no route?[2J
not ready    stopping
sources      0 of 1 answer
executors    0
rescue       none runs
last report  none since the agent began
`},
		"rescue": {at(status.Status{Sources: []status.Source{file}, Rescue: &status.Rescue{
			ID: "20261121-101502-7f3a", Notice: providers.Notice{Source: "aws-spot", Kind: providers.Preemption, Drill: true}, SecondsLeft: 80,
			Found: 10, FoundBytes: 1 << 20, Saved: 4, SavedBytes: 512 << 10, Phases: []string{"app-1: copy"},
		}}), `agent        v1 on node-a, for 2h 0m
ready        yes
sources      1 of 1 answer
executors    0
rescue       20261121-101502-7f3a runs, for aws-spot (preemption), a drill
  deadline   1m 20s left
  found      10 (1.0 MiB)
  saved      4 (512.0 KiB)
  lost       0
  doing      app-1: copy
last report  none since the agent began
`},
		"too late": {at(status.Status{Sources: []status.Source{file}, Rescue: &status.Rescue{ID: "r", SecondsLeft: -3, Lost: 2, LostBytes: 2}}), `agent        v1 on node-a, for 2h 0m
ready        yes
sources      1 of 1 answer
executors    0
rescue       r runs, for  ()
  deadline   missed by 3.00s
  found      0
  saved      0
  lost       2 (2 B)
last report  none since the agent began
`},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := statusText(&b, &tt.s, now); err != nil {
				t.Fatal(err)
			}
			if b.String() != tt.want {
				t.Errorf("got\n%s\nwant\n%s", b.String(), tt.want)
			}
		})
	}
}
