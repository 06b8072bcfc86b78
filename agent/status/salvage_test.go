package status

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lifeboat/lifeboat/agent/report"
)

func TestSalvagesAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := NewSalvages(reg)
	s.Done(&report.Report{Outcome: report.Some, Applications: []report.Application{
		{Saved: report.Amount{Outputs: 3, Bytes: 300}, Lost: report.Amount{Outputs: 1, Bytes: 10}},
	}})
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP lifeboat_salvaged_bytes_total Bytes of map outputs whose copies were to be salvaged, by result.
# TYPE lifeboat_salvaged_bytes_total counter
lifeboat_salvaged_bytes_total{result="lost"} 10
lifeboat_salvaged_bytes_total{result="saved"} 300
# HELP lifeboat_salvaged_outputs_total Map outputs whose copies were to be salvaged, by result.
# TYPE lifeboat_salvaged_outputs_total counter
lifeboat_salvaged_outputs_total{result="lost"} 1
lifeboat_salvaged_outputs_total{result="saved"} 3
# HELP lifeboat_salvages_total Salvages of dead executors' copies that ended, by outcome.
# TYPE lifeboat_salvages_total counter
lifeboat_salvages_total{outcome="all"} 0
lifeboat_salvages_total{outcome="none"} 0
lifeboat_salvages_total{outcome="nothing-to-save"} 0
lifeboat_salvages_total{outcome="some"} 1
`))
	if err != nil {
		t.Error(err)
	}
}
