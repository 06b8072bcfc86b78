package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/agent/status"
)

// scripted stands in for the agent: what it answers is given, what it is asked is kept.
type scripted struct {
	report   *report.Report
	list     []agent.ExecutorView
	sources  []status.Source
	err      error
	asked    agent.Request
	salvaged agent.SalvageRequest
	adopted  agent.AdoptRequest
	deps     agent.Deps
}

func (s *scripted) Run(context.Context, <-chan struct{}) error { return s.err }

func (s *scripted) Inventory(context.Context) ([]agent.ExecutorView, error) { return s.list, s.err }

func (s *scripted) Look(context.Context) ([]status.Source, string, error) {
	return s.sources, "", s.err
}

func (s *scripted) Salvage(_ context.Context, r agent.SalvageRequest) (*report.Report, error) {
	s.salvaged = r
	return s.report, s.err
}

func (s *scripted) Adopt(_ context.Context, r agent.AdoptRequest) (*report.Report, error) {
	s.adopted = r
	return s.report, s.err
}

func (s *scripted) Rescue(_ context.Context, r agent.Request) (*report.Report, error) {
	s.asked = r
	r.Progress(agent.Progress{Found: report.Amount{Outputs: 3}})
	s.deps.Log.Warn("a peer has gone")
	return s.report, s.err
}

// command runs one command line against s.
func command(t *testing.T, s *scripted, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lb.yaml")
	if err := os.WriteFile(path, []byte("state: "+t.TempDir()+"\nlisten: \"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c := &cli{out: &out, err: &errs, open: func(_ config.Config, d agent.Deps) (rescuer, error) {
		s.deps = d
		return s, nil
	}}
	code = c.run(t.Context(), append(args, "--config", path))
	return code, out.String(), errs.String()
}

func rescued(o report.Outcome) *report.Report {
	return &report.Report{ID: "20261121-101502-7f3a", Node: "n", Outcome: o}
}

func TestRescueExitCodes(t *testing.T) {
	interrupted := rescued(report.All)
	interrupted.Interrupted = true
	tests := []struct {
		name   string
		report *report.Report
		err    error
		code   int
		stderr string
	}{
		{"all", rescued(report.All), nil, 0, ""},
		{"nothing", rescued(report.Nothing), nil, 0, ""},
		{"some", rescued(report.Some), nil, 3, ""},
		{"none", rescued(report.None), nil, 4, ""},
		{"interrupted", interrupted, nil, 1, "interrupted"},
		{"report not written", rescued(report.All), errors.New("disk full"), 1, "disk full"},
		{"not begun", nil, agent.ErrNoExecutor, 1, agent.ErrNoExecutor.Error()},
		{"ambiguous", nil, fmt.Errorf("%w: a, b", agent.ErrAmbiguous), 2, "a, b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := command(t, &scripted{report: tt.report, err: tt.err}, "rescue")
			if code != tt.code || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("exit code %d, %s", code, stderr)
			}
			if (tt.report != nil) != strings.Contains(stdout, "Rescue 20261121-101502-7f3a") {
				t.Errorf("output %q", stdout)
			}
			if !strings.Contains(stderr, "a peer has gone") {
				t.Error("no log")
			}
		})
	}
}

func TestRescueAsksForWhatTheFlagsSay(t *testing.T) {
	s := &scripted{report: rescued(report.Some)}
	before := time.Now()
	code, stdout, stderr := command(t, s, "rescue", "--app", "app-1", "--executor", "1", "--executor", "2,3", "--deadline", "90s", "--dry-run", "-o", "json")
	if code != 3 {
		t.Errorf("%d %s", code, stderr)
	}
	q := s.asked
	if q.App != "app-1" || len(q.Executors) != 2 || q.Executors[1] != "2,3" || !q.DryRun {
		t.Errorf("%+v", q)
	}
	if d := q.Deadline.Sub(before); d < 90*time.Second || d > 100*time.Second {
		t.Errorf("deadline in %v", d)
	}
	var got report.Report
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Outcome != report.Some {
		t.Errorf("%v in %s", err, stdout)
	}
}

func TestExecutorsTable(t *testing.T) {
	s := &scripted{list: []agent.ExecutorView{
		{App: "app-1", Executor: "0", PID: 12, Host: "10.0.0.7", Driver: "spark://x@h:1", Spark: "4.1.4", Manager: "standalone", Outputs: 200, Bytes: 200 << 20, Tasks: 4, Objects: "s3a://b/p"},
		{App: "app-1", Executor: "1\x1b[2J", PID: 13, Host: "10.0.0.7", Tasks: -1, Outputs: 1, Bytes: 1, Problems: []string{"not readable"}},
	}}
	code, stdout, _ := command(t, s, "executors")
	want := `APPLICATION  EXECUTOR  PID  HOST      SPARK  MANAGER     TASKS  OUTPUTS  SIZE       DRIVER
app-1        0         12   10.0.0.7  4.1.4  standalone  4      200      200.0 MiB  spark://x@h:1
app-1        1?[2J     13   10.0.0.7  -      -           ?      1        1 B` + "        " + `
 
2 executors, 201 map outputs, 200.0 MiB at risk
copies of app-1: s3a://b/p
executor 1?[2J of app-1: not readable
`
	if trim(stdout) != trim(want) || code != 0 {
		t.Errorf("%d\n%s", code, stdout)
	}
	s.err = errors.New("some processes are not readable")
	code, stdout, stderr := command(t, s, "executors", "-o", "json")
	if code != 1 || !strings.Contains(stderr, "not readable") || !json.Valid([]byte(stdout)) {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
}

// trim takes the blanks from the ends of lines.
func trim(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestProgress(t *testing.T) {
	deadline := time.Date(2026, 11, 21, 10, 17, 0, 0, time.UTC)
	at := deadline.Add(-100 * time.Second)
	s := agent.Progress{
		Deadline: deadline, Found: report.Amount{Outputs: 200, Bytes: 200 << 20}, Saved: report.Amount{Outputs: 50, Bytes: 50 << 20},
		Lost: report.Amount{Outputs: 2}, BytesPerSecond: 100 << 20, OutputsPerSecond: 99.6, Left: 1500 * time.Millisecond,
	}
	const line = "50 of 200 outputs, 50.0 MiB of 200.0 MiB, 100.0 MiB/s, 100 outputs/s, 2 lost, about 1.50s to go, deadline in 1m 40s"
	var b bytes.Buffer
	p := newProgress(&b, formatText)
	p.now = func() time.Time { return at }
	p.last = at
	p.update(s)
	at = at.Add(plainEvery)
	deadline = deadline.Add(plainEvery)
	s.Deadline = deadline
	p.update(s)
	p.update(s)
	if b.String() != line+"\n" {
		t.Errorf("plain: %q", b.String())
	}
	b.Reset()
	p.tty = func() (int, bool) { return 40, true }
	p.update(s)
	_, _ = p.Write([]byte("log\n"))
	p.update(s)
	p.end()
	p.update(s)
	short := clearLine + line[:39]
	if want := short + clearLine + "log\n" + short + clearLine; b.String() != want {
		t.Errorf("terminal: %q\nwant      %q", b.String(), want)
	}
	b.Reset()
	p = newProgress(&b, formatJSON)
	p.tty = func() (int, bool) { return 40, true }
	p.update(s)
	if b.Len() > 0 {
		t.Errorf("beside JSON: %q", b.String())
	}
}

func TestStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 2)
		ctx, stop, done := stages(t.Context(), signals, zap.NewNop())
		defer done()
		signals <- syscall.SIGTERM
		<-stop
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatal("the first signal stopped everything")
		}
		signals <- syscall.SIGINT
		<-ctx.Done()
	})
}

func TestStagesEndWithTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop, done := stages(t.Context(), make(chan os.Signal), zap.NewNop())
		done()
		<-ctx.Done()
		synctest.Wait()
		select {
		case <-stop:
			t.Error("stopped without a signal")
		default:
		}
	})
}
