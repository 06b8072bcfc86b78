package agent

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
)

func TestForecast(t *testing.T) {
	began := time.Now()
	nothing := migrate.Progress{Saved: migrate.Count{Outputs: 5}}
	moving := migrate.Progress{Queued: migrate.Count{Outputs: 5}, Left: 20 * time.Second}
	quiet := migrate.Progress{InFlight: migrate.Count{Outputs: 1}, Left: -1}
	unknown, never := math.NaN(), math.Inf(1)
	type look struct {
		after time.Duration
		at    migrate.Progress
		want  float64
	}
	for name, looks := range map[string][]look{
		"nothing left":             {{0, nothing, 0}},
		"by the speed of late":     {{0, moving, 20}},
		"no speed yet":             {{0, quiet, unknown}, {9 * time.Second, quiet, unknown}},
		"never any speed":          {{0, quiet, unknown}, {10 * time.Second, quiet, never}, {time.Minute, quiet, never}},
		"it comes":                 {{0, quiet, unknown}, {10 * time.Second, quiet, never}, {11 * time.Second, moving, 20}},
		"the speed is gone":        {{0, moving, 20}, {time.Second, quiet, never}},
		"new outputs after a rest": {{0, moving, 20}, {time.Second, nothing, 0}, {time.Minute, quiet, unknown}, {65 * time.Second, quiet, unknown}},
	} {
		t.Run(name, func(t *testing.T) {
			f := forecast{}
			for i, l := range looks {
				got := f.one(began.Add(l.after), "app-1", l.at)
				if got != l.want && !(math.IsNaN(got) && math.IsNaN(l.want)) {
					t.Errorf("look %d: %v, want %v", i, got, l.want)
				}
			}
		})
	}
}

func TestForecastOfSeveralApplications(t *testing.T) {
	unknown, never := math.NaN(), math.Inf(1)
	for _, tt := range []struct{ a, b, want float64 }{
		{0, 3, 3}, {5, 3, 5}, {unknown, 3, unknown}, {3, unknown, unknown}, {never, 3, never}, {unknown, never, never}, {never, unknown, never},
	} {
		if got := slower(tt.a, tt.b); got != tt.want && !(math.IsNaN(got) && math.IsNaN(tt.want)) {
			t.Errorf("slower(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// metric reads one of the agent's metrics that has no labels.
func (d *daemon) metric(s *stage, name string) float64 {
	s.t.Helper()
	_, page := d.ask(s, "GET", "/metrics", "")
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			must(s.t, err)
			return v
		}
	}
	s.t.Errorf("no metric %s", name)
	return 0
}

// TestForecastOfARunningRescue: what alerts compare is there while a rescue runs, and only then.
func TestForecastOfARunningRescue(t *testing.T) {
	const left, expected = "lifeboat_rescue_time_left_seconds", "lifeboat_rescue_expected_seconds"
	s, _, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	d := s.daemon()
	if a, b := d.metric(s, left), d.metric(s, expected); !math.IsNaN(a) || !math.IsNaN(b) {
		t.Errorf("before the rescue: %v left, %v expected", a, b)
	}
	s.send(notice("n1", time.Hour))
	s.until("all is saved", func() bool { return d.metric(s, expected) == 0 })
	if v := d.metric(s, left); v < 3000 || v > 3600 {
		t.Errorf("%v s left", v)
	}
	member.set(func(x *sparkExecutor) { x.tasks = 0 })
	saved(t, s.report(1), 3)
	s.until("it is over", func() bool { return math.IsNaN(d.metric(s, expected)) && math.IsNaN(d.metric(s, left)) })
}

// TestForecastOfAPeerThatStandsStill: the rescue says itself that it will not be done.
func TestForecastOfAPeerThatStandsStill(t *testing.T) {
	s, _, _, peer := usual(t, 3)
	peer.set(func(x *sparkExecutor) { x.refuse = "no room" })
	d := s.daemon()
	s.send(notice("n1", time.Hour))
	for over := time.Now().Add(time.Minute); !math.IsInf(d.metric(s, "lifeboat_rescue_expected_seconds"), 1); {
		if time.Now().After(over) {
			t.Fatal("it still hopes")
		}
		<-time.After(20 * time.Millisecond)
	}
	peer.set(func(x *sparkExecutor) { x.refuse = "" })
	saved(t, s.report(1), 3)
}

// TestSourcesUp counts sources that would hear a real notice.
func TestSourcesUp(t *testing.T) {
	const up = "lifeboat_notice_sources_up"
	s, _, _, _ := usual(t, 1)
	o := s.withOrigin()
	d := s.daemon()
	s.await("log: source of notices up") // that of drills
	answered := func(at time.Time) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.answered = at
	}
	if v := d.metric(s, up); v != 0 {
		t.Errorf("%v sources before any answer", v)
	}
	answered(time.Now())
	if v := d.metric(s, up); v != 1 {
		t.Errorf("%v sources with an answer", v)
	}
	answered(time.Now().Add(-2 * silence))
	if v := d.metric(s, up); v != 0 {
		t.Errorf("%v sources although nobody asks any more", v)
	}
	if _, ready := d.ask(s, "GET", "/readyz", ""); !strings.Contains(ready, "origin does not answer: it was not asked for 10m0s") {
		t.Error(ready)
	}
}
