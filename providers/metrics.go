package providers

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of one source, cut from the vectors that all sources share.
type metrics struct {
	source  string
	polls   *prometheus.CounterVec
	notices *prometheus.CounterVec
	up      prometheus.Gauge
	answer  prometheus.Gauge
}

// newMetrics registers the vectors, or takes those that another source registered before. A nil
// registerer leaves them unregistered.
func newMetrics(reg prometheus.Registerer, source string) (*metrics, error) {
	polls, pollsErr := register(reg, counters("lifeboat_notice_polls_total",
		"Polls of a source of interruption notices, by how they ended.", "result"))
	notices, noticesErr := register(reg, counters("lifeboat_notices_total",
		"Interruption notices seen, each event once.", "kind"))
	up, upErr := register(reg, gauges("lifeboat_notice_source_up",
		"1 when the last poll of the source was answered in a way that it understands."))
	answer, answerErr := register(reg, gauges("lifeboat_notice_last_answer_timestamp_seconds",
		"Unix time of the last poll that was answered; 0 before the first one."))
	if err := errors.Join(pollsErr, noticesErr, upErr, answerErr); err != nil {
		return nil, err
	}
	m := &metrics{source: source, polls: polls, notices: notices}
	m.up, m.answer = up.WithLabelValues(source), answer.WithLabelValues(source)
	// Rates and alerts need the series before the first event.
	for _, r := range []Result{None, Found, Timeout, Unreachable, Denied, Status, Malformed} {
		polls.WithLabelValues(source, string(r))
	}
	return m, nil
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"source", label})
}

func gauges(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"source"})
}

// register adds c to reg, or returns the equal collector that is there already.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	if reg == nil {
		return c, nil
	}
	err := reg.Register(c)
	if err == nil {
		return c, nil
	}
	var dup prometheus.AlreadyRegisteredError
	if errors.As(err, &dup) {
		if old, ok := dup.ExistingCollector.(C); ok {
			return old, nil
		}
	}
	return c, fmt.Errorf("register metrics of notices: %w", err)
}

// poll counts one finished poll.
func (m *metrics) poll(r Result, at time.Time, ok bool) {
	m.polls.WithLabelValues(m.source, string(r)).Inc()
	if !ok {
		m.up.Set(0)
		return
	}
	m.up.Set(1)
	m.answer.Set(float64(at.UnixMilli()) / 1000)
}

// notice counts one event.
func (m *metrics) notice(k Kind) { m.notices.WithLabelValues(m.source, string(k)).Inc() }
