package status

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Mirror are the numbers of the copies that are made before any notice: what they cost, and how far they are. All
// methods may be called by many goroutines at once.
type Mirror struct {
	outputs  *prometheus.CounterVec
	bytes    prometheus.Counter
	requests prometheus.Counter
	failures prometheus.Counter
	waiting  prometheus.Gauge
	waitingB prometheus.Gauge

	mu      sync.Mutex
	backlog map[string]size // by application
}

type size struct {
	outputs int
	bytes   int64
}

// Results of a copy ahead; values of the label result of lifeboat_mirror_outputs_total.
const (
	mirrored = "stored"
	vanished = "vanished" // Spark removed it before it was stored
)

// NewMirror makes the metrics and registers them; it panics when they are registered already.
func NewMirror(reg prometheus.Registerer) *Mirror {
	f := factory{reg}
	m := &Mirror{
		outputs:  f.counters("mirror_outputs_total", "Map outputs that were to be copied ahead, by result.", "result"),
		bytes:    f.counter("mirror_bytes_total", "Bytes of map outputs that were copied ahead."),
		requests: f.counter("mirror_requests_total", "Writing requests to object storage that copies ahead needed, with one for each output's files; parts of large ones are not counted."),
		failures: f.counter("mirror_failures_total", "Times that copying ahead had to pause because of an error."),
		waiting:  f.gauge("mirror_waiting_outputs", "Map outputs that wait to be copied ahead."),
		waitingB: f.gauge("mirror_waiting_bytes", "Bytes of the map outputs that wait to be copied ahead."),
		backlog:  map[string]size{},
	}
	m.outputs.WithLabelValues(mirrored)
	m.outputs.WithLabelValues(vanished)
	return m
}

// Stored counts an output that took so many requests.
func (m *Mirror) Stored(bytes int64, requests int) {
	m.outputs.WithLabelValues(mirrored).Inc()
	m.bytes.Add(float64(bytes))
	m.Requests(requests)
}

// Vanished counts an output that was gone before it was stored.
func (m *Mirror) Vanished() { m.outputs.WithLabelValues(vanished).Inc() }

// Requests counts writing requests to object storage.
func (m *Mirror) Requests(n int) { m.requests.Add(float64(n)) }

// Failed counts a pause because of an error.
func (m *Mirror) Failed() { m.failures.Inc() }

// Backlog says how much of one application waits.
func (m *Mirror) Backlog(app string, outputs int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if outputs == 0 {
		delete(m.backlog, app)
	} else {
		m.backlog[app] = size{outputs, bytes}
	}
	var sum size
	for _, s := range m.backlog {
		sum.outputs += s.outputs
		sum.bytes += s.bytes
	}
	m.waiting.Set(float64(sum.outputs))
	m.waitingB.Set(float64(sum.bytes))
}
