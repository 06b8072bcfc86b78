package survivor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the survivor's own numbers.
type metrics struct {
	nodes, silent, dead, held, leader, lastLook prometheus.Gauge
	declared, back                              *prometheus.CounterVec
	actions                                     *prometheus.CounterVec
	took                                        prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "lifeboat", Subsystem: "survivor", Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lifeboat", Subsystem: "survivor", Name: name, Help: help}, labels)
	}
	m := &metrics{
		nodes:    gauge("nodes", "Nodes that are looked after."),
		silent:   gauge("silent_nodes", "Nodes that the control plane does not hear."),
		dead:     gauge("dead_nodes", "Nodes that were declared dead by this replica and are not back."),
		held:     gauge("held", "1 while so many nodes are silent at once that only those are declared dead of which the cloud says so."),
		leader:   gauge("leader", "1 while this replica is the one that acts."),
		lastLook: gauge("last_look_timestamp_seconds", "When the nodes were looked at last, with a watch that works."),
		declared: counters("nodes_declared_dead_total", "Nodes that were declared dead, by who said so beside their silence.", "witness"),
		back:     counters("nodes_back_total", "Nodes that were there again after they had been tainted as dead, by whether they had booted again.", "booted"),
		actions:  counters("actions_total", "What was done about dead nodes, by verb and result.", "verb", "result"),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "lifeboat", Subsystem: "survivor", Name: "act_seconds",
			Help: "Time from certainty that a node is dead until all was done.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 12),
		}),
	}
	reg.MustRegister(m.nodes, m.silent, m.dead, m.held, m.leader, m.lastLook, m.declared, m.back, m.actions, m.took)
	for _, w := range []Witness{WitnessShutdown, WitnessDeleted, WitnessLastWord, WitnessNone} {
		m.declared.WithLabelValues(string(w))
	}
	for _, verb := range []string{verbDelete, verbFail, verbForce, verbTaint, verbUntaint, verbEvent} {
		m.actions.WithLabelValues(verb, resultOK)
		m.actions.WithLabelValues(verb, resultFailed)
	}
	return m
}

// Values of the label result.
const (
	resultOK     = "ok"
	resultFailed = "failed"
)

func (m *metrics) action(verb string, err error) {
	result := resultOK
	if err != nil {
		result = resultFailed
	}
	m.actions.WithLabelValues(verb, result).Inc()
}

// looked notes one look at the fleet.
func (m *metrics) looked(c *census, dead int, healthy bool) {
	m.nodes.Set(float64(c.all.nodes))
	m.silent.Set(float64(c.all.silent))
	m.dead.Set(float64(dead))
	if healthy {
		m.lastLook.Set(float64(time.Now().UnixNano()) / 1e9)
	}
}

func set(g prometheus.Gauge, on bool) {
	if on {
		g.Set(1)
		return
	}
	g.Set(0)
}
