package agent

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
)

// newcomer adds an executor on the node whose process starts later.
func (a *sparkApp) newcomer(id string) *sparkExecutor {
	a.t.Helper()
	x := a.peer(id, home)
	x.commits(100*mapsOf(id), 2, 100)
	return x
}

// mapsOf keeps the map ids of executors apart.
func mapsOf(id string) int {
	n, _ := strconv.Atoi(id)
	return n
}

func TestWorkerIsDecommissionedBetweenTellingAndEnding(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.member("5", plain).commits(10, 2, 100)
	s.worker(handler)
	began := time.Now()
	saved(t, s.rescue(20*time.Second), 5)
	s.inOrder("told", "worker decommissioned")
	s.awaitN("ended", 2)
	s.inOrder("worker decommissioned", "ended")
	s.never("worker ended")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestExecutorThatStartsWhileTheWorkerGoes(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	late := app.newcomer("5")
	pid := s.worker(handler)
	go func() {
		s.await("told 1") // just before the worker goes
		late.start(plain)
	}()
	began := time.Now()
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 5)
	s.await("told 5")
	s.await("ended 5")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v: nothing new can start, so there is nothing to wait for", took)
	}
	_ = pid
}

func TestExecutorsThatStartOnANodeWhoseWorkerStays(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	s.worker(plain)
	late := app.newcomer("5")
	second := s.app("app-2")
	second.peer("2", "node-b")
	other := second.newcomer("7")
	go func() {
		s.await("ended 1")
		late.start(plain)
		other.start(plain)
		s.await("told 5")
		late.commit(1, 0, 100)
	}()
	deadline := time.Now().Add(9 * time.Second)
	rep := s.rescue(9 * time.Second)
	saved(t, rep, 8)
	s.awaitN("ended", 3)
	s.never("asked 1", "worker")
	if len(s.seen("told")) != 3 {
		t.Errorf("told %q", s.seen("told"))
	}
	if rep.Ended.Before(deadline.Add(-2*time.Second)) || rep.Ended.After(deadline) {
		t.Errorf("ended %v before the deadline: the master can still start executors here", deadline.Sub(rep.Ended))
	}
	if len(rep.Problems) != 1 || !strings.Contains(rep.Problems[0], "SIGPWR") {
		t.Errorf("problems %q", rep.Problems)
	}
}

func TestNodeWithoutExecutors(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.peer("2", "node-b")
	s.worker(handler)
	began := time.Now()
	rep := s.rescue(20 * time.Second)
	s.await("worker decommissioned")
	if rep.Outcome != report.Nothing || time.Since(began) > 10*time.Second {
		t.Errorf("outcome %s after %v", rep.Outcome, time.Since(began))
	}
}

func TestWorkerStaysWhereAnApplicationIsNotRescued(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	alone := s.app("app-2") // it has no executor elsewhere
	alone.member("1", plain).commits(0, 2, 100)
	s.worker(handler)
	rep := s.rescue(8 * time.Second)
	s.await("ended 1")
	s.never("worker")
	for _, a := range rep.Applications {
		if want := map[string]report.Outcome{"app-1": report.All, "app-2": report.None}[a.ID]; a.Outcome != want {
			t.Errorf("%s: outcome %s, want %s", a.ID, a.Outcome, want)
		}
	}
	if len(s.seen("told")) != 1 || len(s.seen("ended")) != 1 {
		t.Errorf("told %q, ended %q", s.seen("told"), s.seen("ended"))
	}
}

func TestApplicationWithoutADriverHoldsNobodyUp(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	gone := s.app("app-2")
	gone.member("1", plain).commits(0, 2, 100)
	gone.peer("2", "node-b")
	gone.driver.Close()
	s.worker(handler)
	began := time.Now()
	rep := s.rescue(20 * time.Second)
	s.await("worker decommissioned")
	if time.Since(began) > 10*time.Second {
		t.Errorf("took %v", time.Since(began))
	}
	if a := rep.Applications[1]; a.Outcome != report.None || !strings.Contains(a.Error, "the driver is gone") || a.Executors[0].Told || a.Executors[0].Ended {
		t.Errorf("%+v", a)
	}
}

// TestExecutorThatVanishes: it is in /proc when the node is looked at, and has gone when it is taken hold of.
func TestExecutorThatVanishes(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	for _, a := range []*sparkApp{app, s.app("app-2")} {
		cmd := exec.Command("sleep", "60")
		must(t, cmd.Start())
		s.write(cmd.Process.Pid, "environ", "SPARK_EXECUTOR_DIRS=/local/x\x00")
		s.write(cmd.Process.Pid, "status", "SigCgt:\t0\n")
		s.show(cmd.Process.Pid, "org.apache.spark.executor.CoarseGrainedExecutorBackend", "--driver-url", a.driverURL(),
			"--executor-id", "9", "--hostname", home, "--app-id", a.id)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 3)
	if len(rep.Applications) != 1 {
		t.Errorf("%d applications", len(rep.Applications))
	}
}
