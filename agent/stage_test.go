package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/providers"
)

// home is the host name of the node on stage.
const home = "node-a"

// stage is a node with an agent and scripted Spark applications. The processes of the node are real, since they are
// signalled and watched, but do nothing; its /proc is a folder, and drivers and other executors are scripts.
// What they see and do is written down in one list, in order.
type stage struct {
	t      *testing.T
	proc   string // a proc file system
	files  string // the root directory of all processes of the node
	cfg    config.Config
	source *script
	dial   func(ctx context.Context, host string) error // may refuse or delay; nil: nothing of that
	others []providers.Source                           // beside source

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever something happens
	events  []string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	t.Parallel()
	return newStageAlone(t)
}

// newStageAlone is for a test that other tests would disturb.
func newStageAlone(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, proc: t.TempDir(), files: t.TempDir(), cfg: config.Default(), source: newScript(), changed: make(chan struct{})}
	s.cfg.Node.Name, s.cfg.Listen = home, ""
	s.cfg.State = filepath.Join(t.TempDir(), "state")
	s.cfg.Deadline.Margin = time.Second
	s.cfg.Spark.KillAfter = 5 * time.Second
	s.cfg.Migrate.Backoff.Initial = 5 * time.Millisecond
	return s
}

// agent makes a fresh agent, as a restart does.
func (s *stage) agent() *Agent {
	s.t.Helper()
	a, err := New(s.cfg, Deps{
		Log: s.logger(), Registry: prometheus.NewRegistry(), Version: "test", Dialer: s, Proc: s.proc,
		Sources: append([]providers.Source{s.source}, s.others...),
	})
	must(s.t, err)
	return a
}

// logger shows the agent's log with go test -v.
func (s *stage) logger() *zap.Logger {
	began := time.Now()
	encoder := zap.NewDevelopmentEncoderConfig()
	encoder.EncodeTime = func(at time.Time, e zapcore.PrimitiveArrayEncoder) {
		e.AppendString(fmt.Sprintf("%8.3f", at.Sub(began).Seconds()))
	}
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(encoder), zapcore.AddSync(logWriter{s}), zap.DebugLevel))
}

// logWriter makes the agent's log part of the test's, and of what happened.
type logWriter struct{ s *stage }

func (w logWriter) Write(p []byte) (int, error) {
	if w.s.t.Context().Err() == nil {
		w.s.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	}
	_, message, _ := strings.Cut(string(p), "\t")
	_, message, _ = strings.Cut(message, "\t")
	w.s.happened("log: %s", strings.TrimSpace(message))
	return len(p), nil
}

// DialContext finds every host of the stage on this machine.
func (s *stage) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if s.dial != nil {
		if err := s.dial(ctx, host); err != nil {
			return nil, err
		}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

// happened writes an event down.
func (s *stage) happened(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(format, args...)
}

func (s *stage) note(format string, args ...any) {
	s.events = append(s.events, fmt.Sprintf(format, args...))
	close(s.changed)
	s.changed = make(chan struct{})
}

// seen are the events that begin with one of the words.
func (s *stage) seen(words ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for _, e := range s.events {
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(e, w) }) {
			found = append(found, e)
		}
	}
	return found
}

// await waits for an event.
func (s *stage) await(word string) {
	s.t.Helper()
	s.awaitN(word, 1)
}

func (s *stage) awaitN(word string, n int) {
	s.t.Helper()
	s.until(fmt.Sprintf("%d times %q", n, word), func() bool { return len(s.seen(word)) >= n })
}

// until waits for something to be true.
func (s *stage) until(what string, isTrue func() bool) {
	s.t.Helper()
	timeout := time.After(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond) // for what is no event
	defer tick.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if isTrue() {
			return
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-timeout:
			s.t.Fatalf("not in time: %s; %q", what, s.seen(""))
		}
	}
}

// first is the position of the first event that begins with the word, last of the last; -1 for none.
func (s *stage) first(word string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.IndexFunc(s.events, func(e string) bool { return strings.HasPrefix(e, word) })
}

func (s *stage) last(word string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range slices.Backward(s.events) {
		if strings.HasPrefix(e, word) {
			return i
		}
	}
	return -1
}

// inOrder fails the test unless all events that begin with a come before all that begin with b, and there are some of both.
func (s *stage) inOrder(a, b string) {
	s.t.Helper()
	s.await(a)
	s.await(b)
	if s.last(a) > s.first(b) {
		s.t.Errorf("not all %q come before all %q: %q", a, b, s.seen(""))
	}
}

// never fails the test if there is such an event.
func (s *stage) never(words ...string) {
	s.t.Helper()
	if got := s.seen(words...); len(got) > 0 {
		s.t.Errorf("there must be no %q: %q", words, got)
	}
}

// rescue does one by hand, of the whole node.
func (s *stage) rescue(within time.Duration) *report.Report {
	s.t.Helper()
	rep, err := s.agent().Rescue(s.t.Context(), Request{Deadline: time.Now().Add(within)})
	must(s.t, err)
	return rep
}

// daemon runs an agent until the test ends, or until stop.
type daemon struct {
	*Agent
	stop func() // as SIGTERM does
	kill func() // as a second one does
	done chan struct{}
	err  error
}

func (s *stage) daemon() *daemon {
	s.t.Helper()
	return s.run(s.agent())
}

func (s *stage) run(a *Agent) *daemon {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	var once sync.Once
	d := &daemon{Agent: a, stop: func() { once.Do(func() { close(stopped) }) }, kill: cancel, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.err = d.Run(ctx, stopped)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-d.done
	})
	return d
}

// report waits for the nth report, counted from 1.
func (s *stage) report(n int) *report.Report {
	s.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		list, err := report.List(s.cfg.State, 0)
		if err == nil && len(list) >= n {
			slices.SortFunc(list, func(a, b *report.Report) int { return a.Ended.Compare(b.Ended) })
			return list[n-1]
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no report %d: %v; %q", n, err, s.seen(""))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// journal is the text of all journals.
func (s *stage) journal() string {
	paths, _ := filepath.Glob(filepath.Join(s.cfg.State, "rescues", "*", "journal.jsonl"))
	var all strings.Builder
	for _, p := range paths {
		data, _ := os.ReadFile(p)
		all.Write(data)
	}
	return all.String()
}

// script is a source of notices that a test sends.
type script struct {
	notices chan providers.Notice
	fail    chan error
}

func newScript() *script {
	return &script{notices: make(chan providers.Notice), fail: make(chan error)}
}

func (s *script) Name() string { return "script" }

func (s *script) Run(ctx context.Context, to chan<- providers.Notice) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.fail:
			return err
		case n := <-s.notices:
			to <- n
		}
	}
}

// notice is one for the whole node.
func notice(id string, within time.Duration) providers.Notice {
	return providers.Notice{ID: id, Source: "script", Kind: providers.Preemption, Deadline: time.Now().Add(within), Seen: time.Now()}
}

// send gives a notice to the agent.
func (s *stage) send(n providers.Notice) {
	s.t.Helper()
	select {
	case s.source.notices <- n:
	case <-time.After(10 * time.Second):
		s.t.Fatal("nobody takes the notice")
	}
}

// saved fails the test unless the report says that all of n outputs were saved, and all executors told and ended.
func saved(t *testing.T, rep *report.Report, n int) {
	t.Helper()
	found, savedAmount, lost := rep.Total()
	if rep.Outcome != report.All || found.Outputs != n || savedAmount.Outputs != n || lost.Outputs != 0 {
		t.Errorf("outcome %s, found %d, saved %d, lost %d; want all of %d saved", rep.Outcome, found.Outputs, savedAmount.Outputs, lost.Outputs, n)
	}
	for _, a := range rep.Applications {
		for _, e := range a.Executors {
			if !e.Told || !e.Ended {
				t.Errorf("executor %s: told %v, ended %v", e.ID, e.Told, e.Ended)
			}
		}
	}
}

// noREST makes the agent look where no driver serves. (A port that was closed may be somebody else's the next moment.)
func (s *stage) noREST() { s.cfg.Spark.RESTPorts = []int{1} }

// write puts a file of the fake proc in place.
func (s *stage) write(pid int, name, content string) {
	s.t.Helper()
	path := filepath.Join(s.proc, strconv.Itoa(pid), name)
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(s.t, os.WriteFile(path, []byte(content), 0o644))
}

// dup puts an open file in the place of a descriptor.
func dup(f *os.File, descriptor string) error {
	n, err := strconv.Atoi(descriptor)
	if err != nil {
		return err
	}
	return unix.Dup3(int(f.Fd()), n, unix.O_CLOEXEC)
}
