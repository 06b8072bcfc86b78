package providers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// origin is a poll function whose answer a test can change.
type origin struct {
	mu      sync.Mutex
	notices []Notice
	err     error
	polls   int
	hang    bool
}

func (o *origin) set(err error, notices ...Notice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err, o.notices = err, notices
}

func (o *origin) poll(ctx context.Context) ([]Notice, error) {
	o.mu.Lock()
	o.polls++
	hang, n, err := o.hang, o.notices, o.err
	o.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, fmt.Errorf("poll: %w", ctx.Err())
	}
	return n, err
}

// running is a poller in a synctest bubble.
type running struct {
	*Poller
	o       *origin
	notices chan Notice
	logs    *observer.ObservedLogs
	wake    chan struct{}
	stop    context.CancelFunc
	done    chan error
}

func start(t *testing.T, reg prometheus.Registerer, buffer int) *running {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	r := &running{o: &origin{}, notices: make(chan Notice, buffer), logs: logs, wake: make(chan struct{}, 1), done: make(chan error, 1)}
	p, err := NewPoller(PollerOptions{
		Source: "test", Poll: r.o.poll, Interval: 2 * time.Second, Timeout: 3 * time.Second, Wake: r.wake,
		Log: zap.New(core), Metrics: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Poller = p
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.done <- p.Run(ctx, r.notices) }()
	t.Cleanup(cancel)
	return r
}

// drain returns what is in the channel now.
func (r *running) drain() []Notice {
	var out []Notice
	for {
		select {
		case n := <-r.notices:
			out = append(out, n)
		default:
			return out
		}
	}
}

func event(id string, d time.Time) Notice {
	return Notice{ID: id, Source: "test", Kind: Preemption, Deadline: d, Seen: time.Now()}
}

func TestFirstPollIsAtOnceAndEachLaterWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, 10)
		synctest.Wait()
		if r.o.polls != 1 {
			t.Fatalf("%d polls at the start, want 1", r.o.polls)
		}
		var worst time.Duration
		for i := range 200 {
			// The notice becomes visible at another point of the interval each time.
			time.Sleep(time.Duration(i) * 37 * time.Millisecond)
			visible := time.Now()
			r.o.set(nil, event(fmt.Sprint(i), visible))
			<-r.notices
			worst = max(worst, time.Since(visible))
		}
		if worst > 2*time.Second {
			t.Errorf("a notice was sent %v after it was visible", worst)
		}
	})
}

func TestDefect02NoticeIsSentOncePerRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		r := start(t, reg, 10)
		deadline := time.Now().Add(time.Minute)
		for range 100 {
			r.o.set(nil, event("a", deadline)) // Seen differs from poll to poll
			time.Sleep(2 * time.Second)
		}
		if got := r.drain(); len(got) != 1 {
			t.Fatalf("sent %d times", len(got))
		}
		r.o.set(nil, event("a", deadline.Add(time.Second)))
		time.Sleep(4 * time.Second)
		if got := r.drain(); len(got) != 1 || got[0].ID != "a" || !got[0].Deadline.Equal(deadline.Add(time.Second)) {
			t.Fatalf("new deadline of the same event: %v", got)
		}
		if n := testutil.ToFloat64(r.m.notices.WithLabelValues("test", "preemption")); n != 1 {
			t.Errorf("lifeboat_notices_total = %v, want 1: one event", n)
		}
	})
}

func TestDefect04MinutesOfTroubleAreSurvivedAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, prometheus.NewPedanticRegistry(), 10)
		synctest.Wait()
		if h := r.Health(); !h.OK || h.LastAnswer.IsZero() || h.Source != "test" {
			t.Errorf("health at the start: %+v", h)
		}
		r.o.set(&PollError{Result: Status, Err: errors.New("503")})
		time.Sleep(30 * time.Minute)
		if h := r.Health(); h.OK || h.Error != "503" || time.Since(h.LastAnswer) < 29*time.Minute {
			t.Errorf("health in trouble: %+v", h)
		}
		if up := testutil.ToFloat64(r.m.up); up != 0 {
			t.Errorf("up = %v", up)
		}
		if n := testutil.ToFloat64(r.m.polls.WithLabelValues("test", "status")); n < 890 {
			t.Errorf("%v failed polls in 30 minutes", n)
		}
		r.o.set(nil, event("a", time.Now()))
		time.Sleep(2 * time.Second)
		if got := r.drain(); len(got) != 1 {
			t.Errorf("after the trouble: %v", got)
		}
		if up := testutil.ToFloat64(r.m.up); up != 1 || !r.Health().OK {
			t.Errorf("up = %v, health %+v", up, r.Health())
		}
		var lines []string
		for _, e := range r.logs.All() {
			lines = append(lines, e.Message)
		}
		want := []string{"source of notices up", "source of notices down", "source of notices up", "notice"}
		if fmt.Sprint(lines) != fmt.Sprint(want) {
			t.Errorf("log: %q, want %q", lines, want)
		}
	})
}

func TestPollHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, 10)
		r.o.mu.Lock()
		r.o.hang = true
		r.o.mu.Unlock()
		time.Sleep(time.Minute)
		if n := testutil.ToFloat64(r.m.polls.WithLabelValues("test", "timeout")); n < 18 || n > 20 {
			t.Errorf("%v timeouts in a minute of polls that last 3 s", n)
		}
		r.stop()
		if err := <-r.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if n := testutil.ToFloat64(r.m.polls.WithLabelValues("test", "unreachable")); n != 0 {
			t.Error("the poll that the end of the run interrupted was counted")
		}
	})
}

func TestDefect07ReaderThatComesLateGetsEveryNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, 0)
		d := time.Now().Add(time.Hour)
		r.o.set(nil, event("a", d), event("b", d), event("c", d))
		time.Sleep(time.Minute)
		for _, want := range []string{"a", "b", "c"} {
			if n := <-r.notices; n.ID != want {
				t.Fatalf("got %s, want %s", n.ID, want)
			}
		}
		// Nobody reads the next one: the end of the run must still be an end.
		r.o.set(nil, event("d", d))
		time.Sleep(time.Minute)
		r.stop()
		if err := <-r.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestDefect11NoneFromOneSourceWithdrawsNothingOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		a, b := start(t, reg, 10), start(t, reg, 10)
		a.o.set(nil, event("a", time.Now().Add(time.Hour)))
		b.o.set(nil)
		time.Sleep(time.Minute)
		a.o.set(nil) // and "none" of its own source is no withdrawal either: only the source says so
		time.Sleep(time.Minute)
		if got := a.drain(); len(got) != 1 || got[0].Withdrawn {
			t.Errorf("source with the notice sent %v", got)
		}
		if got := b.drain(); len(got) != 0 {
			t.Errorf("source without a notice sent %v", got)
		}
	})
}

func TestWhatIsLongOverIsForgotten(t *testing.T) {
	now := time.Now()
	day := func(n int) time.Time { return now.Add(time.Duration(n) * 25 * time.Hour) }
	sent := map[string]Notice{}
	for id, when := range map[string]struct{ seen, deadline int }{
		"over": {-2, -1}, "shown still": {-2, -1}, "seen lately": {0, -2}, "to come": {-3, 1}, "now": {-2, 0},
	} {
		sent[id] = Notice{ID: id, Seen: day(when.seen), Deadline: day(when.deadline)}
	}
	forget(sent, []Notice{{ID: "shown still"}})
	if got := slices.Sorted(maps.Keys(sent)); !slices.Equal(got, []string{"now", "seen lately", "shown still", "to come"}) {
		t.Errorf("remembered: %v", got)
	}
}

func TestWakePollsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, 1)
		synctest.Wait()
		r.o.set(nil, event("a", time.Now()))
		visible := time.Now()
		r.wake <- struct{}{}
		<-r.notices
		if d := time.Since(visible); d != 0 {
			t.Errorf("sent after %v", d)
		}
	})
}

func TestSight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, 10)
		synctest.Wait()
		if got := r.Notices(); len(got) != 0 {
			t.Errorf("at the start: %v", got)
		}
		gone := event("b", time.Now())
		gone.Withdrawn = true
		r.o.set(nil, event("a", time.Now()), gone)
		time.Sleep(2 * time.Second)
		r.SetSkew(time.Minute)
		if got := r.Notices(); len(got) != 1 || got[0].ID != "a" {
			t.Errorf("shown: %v", got)
		}
		r.o.set(errors.New("away"))
		time.Sleep(2 * time.Second)
		if got := r.Notices(); len(got) != 1 || r.Health().Skew != time.Minute {
			t.Errorf("after a failure: %v, %+v", got, r.Health())
		}
		r.o.set(nil)
		time.Sleep(2 * time.Second)
		if got := r.Notices(); len(got) != 0 {
			t.Errorf("after an answer without a notice: %v", got)
		}
	})
}

func TestEventsWithoutEndAreNotKept(t *testing.T) {
	sent := make(map[string]Notice)
	shown := event("shown", time.Now().Add(time.Hour))
	for i := range 3 * maxBook {
		n := event(fmt.Sprint(i), time.Now().Add(time.Hour))
		sent[n.ID], sent[shown.ID] = n, shown
		forget(sent, []Notice{n, shown})
	}
	if _, known := sent[shown.ID]; !known || len(sent) > maxBook {
		t.Errorf("%d notices are kept; the one that is shown: %v", len(sent), known)
	}
}

func TestSameNotice(t *testing.T) {
	a := event("a", time.Unix(2e9, 0))
	for name, change := range map[string]func(*Notice){
		"id":        func(n *Notice) { n.ID = "b" },
		"source":    func(n *Notice) { n.Source = "x" },
		"kind":      func(n *Notice) { n.Kind = Pause },
		"app":       func(n *Notice) { n.App = "app-1" },
		"executors": func(n *Notice) { n.Executors = []string{"1"} },
		"deadline":  func(n *Notice) { n.Deadline = n.Deadline.Add(1) },
		"withdrawn": func(n *Notice) { n.Withdrawn = true },
		"drill":     func(n *Notice) { n.Drill = true },
	} {
		b := a
		change(&b)
		if sameNotice(a, b) {
			t.Errorf("another %s is no change", name)
		}
	}
	b := a
	b.Seen = b.Seen.Add(time.Hour)
	if !sameNotice(a, b) {
		t.Error("the time of seeing is a change")
	}
}

func TestNewPollerRefusesWhatCannotWork(t *testing.T) {
	poll := (&origin{}).poll
	for name, o := range map[string]PollerOptions{
		"no source":   {Poll: poll, Interval: 1, Timeout: 1},
		"no poll":     {Source: "x", Interval: 1, Timeout: 1},
		"no interval": {Source: "x", Poll: poll, Timeout: 1},
		"no timeout":  {Source: "x", Poll: poll, Interval: 1},
	} {
		if _, err := NewPoller(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "lifeboat_notices_total"}))
	if _, err := NewPoller(PollerOptions{Source: "x", Poll: poll, Interval: 1, Timeout: 1, Metrics: reg}); err == nil {
		t.Error("metrics of another kind under our name: accepted")
	}
}

func TestResultOf(t *testing.T) {
	for want, err := range map[Result]error{
		Timeout:     fmt.Errorf("x: %w", context.DeadlineExceeded),
		Denied:      fmt.Errorf("x: %w", &PollError{Result: Denied, Err: errors.New("y")}),
		Unreachable: errors.New("z"),
	} {
		if got := resultOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}
