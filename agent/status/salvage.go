package status

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/agent/report"
)

// Salvages are the numbers of salvages, or of adoptions. Its method may be called by many goroutines at once.
type Salvages struct {
	salvages *prometheus.CounterVec
	outputs  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
}

// NewSalvages makes the metrics and registers them; it panics when they are registered already.
func NewSalvages(reg prometheus.Registerer) *Salvages {
	f := factory{reg}
	return (&Salvages{
		salvages: f.counters("salvages_total", "Salvages of dead executors' copies that ended, by outcome.", "outcome"),
		outputs:  f.counters("salvaged_outputs_total", "Map outputs whose copies were to be salvaged, by result.", "result"),
		bytes:    f.counters("salvaged_bytes_total", "Bytes of map outputs whose copies were to be salvaged, by result.", "result"),
	}).begin()
}

// NewAdoptions makes the metrics of what executors take over with the volumes of earlier ones, like NewSalvages.
func NewAdoptions(reg prometheus.Registerer) *Salvages {
	f := factory{reg}
	return (&Salvages{
		salvages: f.counters("adoptions_total", "Adoptions of old volumes' map outputs by executors of this node that ended, by outcome.", "outcome"),
		outputs:  f.counters("adopted_outputs_total", "Map outputs on old volumes that were to be adopted, by result.", "result"),
		bytes:    f.counters("adopted_bytes_total", "Bytes of map outputs on old volumes that were to be adopted, by result.", "result"),
	}).begin()
}

// begin shows all series from the first moment.
func (s *Salvages) begin() *Salvages {
	for _, o := range []report.Outcome{report.All, report.Some, report.None, report.Nothing} {
		s.salvages.WithLabelValues(string(o))
	}
	for _, r := range []string{saved, lost} {
		s.outputs.WithLabelValues(r)
		s.bytes.WithLabelValues(r)
	}
	return s
}

// Done counts a salvage.
func (s *Salvages) Done(r *report.Report) {
	s.salvages.WithLabelValues(string(r.Outcome)).Inc()
	_, savedAmount, lostAmount := r.Total()
	for result, amount := range map[string]report.Amount{saved: savedAmount, lost: lostAmount} {
		s.outputs.WithLabelValues(result).Add(float64(amount.Outputs))
		s.bytes.WithLabelValues(result).Add(float64(amount.Bytes))
	}
}
