package status

import (
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

// Values of the label result of lifeboat_outputs_total and, but for retried, of lifeboat_bytes_total.
const (
	saved   = "saved"   // acknowledged
	stored  = "stored"  // only stored in object storage, where the application does not look for it
	lost    = "lost"    // given up
	retried = "retried" // a copy that failed and was begun again
	unsaved = "unsaved" // was saved, but its copy has gone with its peer
)

// Values of the label destination.
const (
	toPeer    = "peer"
	toObjects = "objects"
)

// Metrics are the agent's own numbers. Names, units and labels follow the conventions of Prometheus:
// base units, _total for counters. Sources of notices and Go itself register theirs beside them.
// All methods may be called by many goroutines at once.
type Metrics struct {
	rescues           *prometheus.CounterVec
	running           prometheus.Gauge
	phaseSeconds      *prometheus.HistogramVec
	secondsLeft       prometheus.Histogram
	lastSecondsLeft   prometheus.Gauge
	timeLeft          prometheus.Gauge
	expected          prometheus.Gauge
	lostInRescues     *prometheus.CounterVec
	reaction          prometheus.Histogram
	outputs           *prometheus.CounterVec
	bytes             *prometheus.CounterVec
	destinationBytes  *prometheus.CounterVec
	destinationCount  *prometheus.CounterVec
	retries           *prometheus.CounterVec
	notices           *prometheus.CounterVec
	acknowledged      *prometheus.CounterVec
	executors         prometheus.Gauge
	outputsAtRisk     prometheus.Gauge
	bytesAtRisk       prometheus.Gauge
	pinned            prometheus.Gauge
	recomputeAvoided  prometheus.Counter
	recomputeIncurred prometheus.Counter
}

// NewMetrics makes all metrics and registers them; it panics when they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := factory{reg}
	// The lead times of the clouds: from a missed deadline to two minutes and more.
	leadBuckets := []float64{0, 1, 2, 5, 10, 20, 30, 60, 90, 120, 300}
	m := &Metrics{
		rescues:           f.counters("rescues_total", "Rescues that ended, by outcome, and whether it was a drill.", "outcome", "drill"),
		running:           f.gauge("rescue_running", "1 while a rescue runs."),
		phaseSeconds:      f.histograms("rescue_phase_seconds", "How long the phases of rescues took.", prometheus.ExponentialBuckets(0.01, 3, 10), "phase"),
		secondsLeft:       f.histogram("rescue_seconds_left", "Time from the end of a rescue to its deadline.", leadBuckets),
		lastSecondsLeft:   f.gauge("rescue_last_seconds_left", "Time from the end of the last rescue to its deadline; negative when it was missed."),
		timeLeft:          f.gauge("rescue_time_left_seconds", "Time that the running rescue has left for copies; negative when it is over, NaN while none runs."),
		expected:          f.gauge("rescue_expected_seconds", "Time that the rest of the running rescue takes at the speed of the last seconds; +Inf when nothing goes on, NaN while none runs or nobody can say."),
		lostInRescues:     f.counters("rescue_lost_outputs_total", "Map outputs that were lost in rescues that ended.", "drill"),
		reaction:          f.histogram("rescue_reaction_seconds", "Time from a notice to the first byte sent.", prometheus.ExponentialBuckets(0.01, 2.5, 9)),
		outputs:           f.counters("outputs_total", "Map outputs by result.", "result"),
		bytes:             f.counters("bytes_total", "Bytes of map outputs by result.", "result"),
		destinationCount:  f.counters("destination_outputs_total", "Map outputs that were saved, by where they went: peer or objects.", "destination"),
		destinationBytes:  f.counters("destination_bytes_total", "Bytes of map outputs that were saved, by where they went: peer or objects.", "destination"),
		retries:           f.counters("copy_retries_total", "Copies that failed and were begun again, by kind of error.", "kind"),
		notices:           f.counters("notices_handled_total", "Notices by source, kind, what was made of them, and whether it was a drill.", "source", "kind", "result", "drill"),
		acknowledged:      f.counters("notices_acknowledged_total", "Notices whose cloud was told that the node may go, by source and by whether it took that.", "source", "result"),
		executors:         f.gauge("executors", "Spark executors that run on this node."),
		outputsAtRisk:     f.gauge("outputs_at_risk", "Map outputs of the running rescue that are neither saved nor lost yet."),
		bytesAtRisk:       f.gauge("bytes_at_risk", "Bytes of the map outputs that are neither saved nor lost yet."),
		pinned:            f.gauge("pinned_files", "Open file descriptors that hold map outputs."),
		recomputeAvoided:  f.counter("recompute_avoided_task_seconds_total", "Task time that saved outputs had cost."),
		recomputeIncurred: f.counter("recompute_incurred_task_seconds_total", "Task time that lost outputs had cost."),
	}
	m.init()
	return m
}

// init makes the series of known label values appear with 0, so that the first event is an increase.
func (m *Metrics) init() {
	for _, o := range []report.Outcome{report.All, report.Stored, report.Some, report.None, report.Nothing} {
		for _, drill := range []bool{false, true} {
			m.rescues.WithLabelValues(string(o), strconv.FormatBool(drill))
		}
	}
	for _, drill := range []bool{false, true} {
		m.lostInRescues.WithLabelValues(strconv.FormatBool(drill))
	}
	m.SetForecast(math.NaN(), math.NaN())
	for _, d := range []string{toPeer, toObjects} {
		m.destinationCount.WithLabelValues(d)
		m.destinationBytes.WithLabelValues(d)
	}
	for _, r := range []string{saved, stored, lost, unsaved} {
		m.outputs.WithLabelValues(r)
		m.bytes.WithLabelValues(r)
	}
	m.outputs.WithLabelValues(retried)
}

// SetExecutors says how many executors run on this node.
func (m *Metrics) SetExecutors(n int) { m.executors.Set(float64(n)) }

// SetPinned says how many file descriptors hold map outputs.
func (m *Metrics) SetPinned(n int) { m.pinned.Set(float64(n)) }

// SetRunning says whether a rescue runs. When it ends, nothing is at risk any more, and nothing is expected.
func (m *Metrics) SetRunning(running bool) {
	if running {
		m.running.Set(1)
		return
	}
	m.running.Set(0)
	m.SetAtRisk(0, 0)
	m.SetForecast(math.NaN(), math.NaN())
}

// SetAtRisk says how much of the running rescue is neither saved nor lost yet.
func (m *Metrics) SetAtRisk(outputs int, bytes int64) {
	m.outputsAtRisk.Set(float64(outputs))
	m.bytesAtRisk.Set(float64(bytes))
}

// SetForecast says how many seconds the running rescue has left for copies, and how many it will need at its present
// speed: +Inf when nothing goes on, NaN while nobody can say. An alert compares the two.
func (m *Metrics) SetForecast(left, expected float64) {
	m.timeLeft.Set(left)
	m.expected.Set(expected)
}

// Notice counts a notice by what was made of it: rescue, merged, widens, scheduled, mirrored, recorded, repeated, rehearsed,
// withdrawn.
func (m *Metrics) Notice(n providers.Notice, result string) {
	m.notices.WithLabelValues(n.Source, n.Kind.Label(), result, strconv.FormatBool(n.Drill)).Inc()
}

// Acknowledged counts a notice whose cloud was told that the node may go, and whether it took that.
func (m *Metrics) Acknowledged(source string, ok bool) {
	result := "ok"
	if !ok {
		result = "failed"
	}
	m.acknowledged.WithLabelValues(source, result).Inc()
}

// Reacted notes the time from the moment when a source saw a notice to the first byte sent.
func (m *Metrics) Reacted(after time.Duration) { m.reaction.Observe(after.Seconds()) }

// Phase notes how long one phase of one application's rescue took.
func (m *Metrics) Phase(name string, took time.Duration) {
	m.phaseSeconds.WithLabelValues(name).Observe(took.Seconds())
}

// Saved counts an acknowledged map output, and where it went.
func (m *Metrics) Saved(bytes int64, to migrate.Target) {
	m.output(saved, bytes)
	where := toPeer
	if to.URL != "" {
		where = toObjects
	}
	m.destinationCount.WithLabelValues(where).Inc()
	m.destinationBytes.WithLabelValues(where).Add(float64(bytes))
}

// Stored counts a map output that lies in object storage where its application does not look for it.
func (m *Metrics) Stored(bytes int64) { m.output(stored, bytes) }

// Lost counts a map output that was given up.
func (m *Metrics) Lost(bytes int64) { m.output(lost, bytes) }

// Unsaved counts a map output that had been saved and whose copy has gone.
func (m *Metrics) Unsaved(bytes int64) { m.output(unsaved, bytes) }

// Retried counts a copy that failed and is begun again, by the kind of its error.
func (m *Metrics) Retried(kind migrate.Kind) {
	m.retries.WithLabelValues(kind.String()).Inc()
	m.outputs.WithLabelValues(retried).Inc()
}

func (m *Metrics) output(result string, bytes int64) {
	m.outputs.WithLabelValues(result).Inc()
	m.bytes.WithLabelValues(result).Add(float64(bytes))
}

// Rescued counts a rescue that ended. A dry run is none. What an interrupted one has not saved is not lost: the next run of the
// agent goes on with it.
func (m *Metrics) Rescued(r *report.Report) {
	if r.DryRun {
		return
	}
	m.rescues.WithLabelValues(string(r.Outcome), strconv.FormatBool(r.Notice.Drill)).Inc()
	if _, _, lost := r.Total(); !r.Interrupted {
		m.lostInRescues.WithLabelValues(strconv.FormatBool(r.Notice.Drill)).Add(float64(lost.Outputs))
	}
	m.secondsLeft.Observe(max(r.SecondsLeft, 0))
	m.lastSecondsLeft.Set(r.SecondsLeft)
	for _, a := range r.Applications {
		m.recomputeAvoided.Add(max(a.Recompute.Avoided, 0))
		m.recomputeIncurred.Add(max(a.Recompute.Incurred, 0))
	}
}

// CountSources registers the number of sources that would hear a real notice now. 0 means that the next one is missed.
func CountSources(reg prometheus.Registerer, up func() float64) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "notice_sources_up", Help: "Sources of notices that answer now, without that of drills.",
	}, up))
}

// factory makes and registers.
type factory struct{ reg prometheus.Registerer }

const namespace = "lifeboat"

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	f.reg.MustRegister(c)
	return c
}

func (f factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	f.reg.MustRegister(c)
	return c
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	f.reg.MustRegister(g)
	return g
}

func (f factory) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	f.reg.MustRegister(h)
	return h
}

func (f factory) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	f.reg.MustRegister(h)
	return h
}
