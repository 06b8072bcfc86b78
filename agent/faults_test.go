package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
)

// untouched fails the test unless everything was lost, and nobody was told or ended.
func (s *stage) untouched(rep *report.Report, why string) {
	s.t.Helper()
	if rep.Outcome != report.None || rep.ExitCode() != 4 {
		s.t.Errorf("outcome %s, exit code %d", rep.Outcome, rep.ExitCode())
	}
	if a := rep.Applications[0]; !strings.Contains(a.Error, why) {
		s.t.Errorf("error %q, want %q in it", a.Error, why)
	}
	s.never("told", "asked", "sigpwr", "ended", "data", "index", "worker")
}

func TestNoDestination(t *testing.T) {
	for name, prepare := range map[string]func(a *sparkApp){
		"no other executor":         func(*sparkApp) {},
		"one on this node":          func(a *sparkApp) { a.peer("9", home) },
		"one that does not answer":  func(a *sparkApp) { a.peer("9", "node-b").server.Close() },
		"one that is leaving, too":  func(a *sparkApp) { a.peer("9", "node-b").set(func(x *sparkExecutor) { x.marked = true }) },
		"one that does not know us": func(a *sparkApp) { a.peer("9", "node-b").id = "10" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			app := s.app("app-1")
			app.member("1", plain).commits(0, 3, 100)
			prepare(app)
			s.worker(handler)
			s.untouched(s.rescue(3*time.Second), "no usable destination")
		})
	}
}

func TestDialectThatIsRefused(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	member := app.peer("1", home)
	member.version = "2.12-3.5.9-vendor-1" // not one that was checked
	member.commits(0, 3, 100)
	member.start(plain)
	app.peer("2", "node-b") // it refuses everything but uploads
	began := time.Now()
	s.untouched(s.rescue(time.Minute), "understands none of our dialects")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v: that will not get better", took)
	}
}

func TestDriverOnThisNode(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.host = home
	app.member("1", plain).commits(0, 3, 100)
	app.peer("2", "node-b")
	s.worker(handler)
	s.untouched(s.rescue(3*time.Second), "the driver runs on this node")
}

func TestDriverOfAnotherApplication(t *testing.T) {
	s, app, _, _ := usual(t, 3)
	app.props["spark.app.id"] = "app-99"
	s.untouched(s.rescue(20*time.Second), "the driver of app-99 has its address")
}

func TestFilesThatCanNotBeRead(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	must(t, os.Remove(filepath.Join(s.proc, strconv.Itoa(member.process.Pid), "root")))
	began := time.Now()
	rep := s.rescue(20 * time.Second)
	if rep.Outcome != report.Nothing || !strings.Contains(rep.Applications[0].Error, "can't be read") {
		t.Errorf("outcome %s, error %q", rep.Outcome, rep.Applications[0].Error)
	}
	s.never("told", "asked", "ended")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestSomeFilesCanNotBeRead: an executor may hold more than what was found, so it stays as long as it may.
func TestSomeFilesCanNotBeRead(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.peer("2", "node-b")
	member := app.peer("1", home)
	member.dirs = ":/local/file"
	member.commits(0, 3, 100)
	must(t, os.WriteFile(filepath.Join(s.files, "local", "file"), nil, 0o600))
	member.start(plain)
	deadline := time.Now().Add(6 * time.Second)
	rep := s.rescue(6 * time.Second)
	saved(t, rep, 3)
	if left := deadline.Sub(rep.Ended); left < 0 || left > 2*time.Second {
		t.Errorf("ended %v before the deadline", left)
	}
	if len(rep.Problems) != 1 || !strings.Contains(rep.Problems[0], "can't be read") {
		t.Errorf("problems %q", rep.Problems)
	}
}

func TestExecutorThatDoesNotExit(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.peer("2", "node-b")
	app.member("1", stubborn).commits(0, 3, 100)
	s.cfg.Spark.KillAfter = 300 * time.Millisecond
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 3)
	if how := rep.Applications[0].Executors[0].EndedBy; how != "SIGKILL" {
		t.Errorf("ended by %s", how)
	}
	s.await("ended 1 by killed")
}

// TestStoppedWhileAnExecutorExits: it keeps the time that it was given.
func TestStoppedWhileAnExecutorExits(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.peer("2", "node-b")
	app.member("1", stubborn).commits(0, 3, 100)
	d := s.daemon()
	s.send(notice("n1", 20*time.Second))
	for !strings.Contains(s.journal(), `"type":"ended-intent"`) {
		time.Sleep(time.Millisecond)
	}
	d.kill()
	<-d.done
	s.never("ended")
	if strings.Contains(s.journal(), `"type":"ended"`) {
		t.Error("the journal says that it has ended")
	}
}

// TestExecutorThatExitsByItself removes its files as it goes; what was pinned is saved all the same.
func TestExecutorThatExitsByItself(t *testing.T) {
	s, app, member, peer := usual(t, 30)
	app.onTell = func(string) {
		_ = member.process.Signal(syscall.SIGTERM)
		s.await("ended 1")
	}
	began := time.Now()
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 30)
	if peer.holds() != 30 || rep.Applications[0].Executors[0].EndedBy != "by itself" || time.Since(began) > 10*time.Second {
		t.Errorf("%d at the peer, %+v, after %v", peer.holds(), rep.Applications[0].Executors[0], time.Since(began))
	}
}

// TestOnlyOneExecutorLeaves: the other one on the node keeps its files, and takes those of the first.
func TestOnlyOneExecutorLeaves(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	app.member("1", plain).commits(0, 3, 100)
	other := app.member("5", plain)
	other.commits(10, 4, 100)
	s.worker(handler)
	rep, err := s.agent().Rescue(t.Context(), Request{Executors: []string{"1"}, Deadline: time.Now().Add(20 * time.Second)})
	must(t, err)
	saved(t, rep, 3)
	if n := other.holds(); n != 3 {
		t.Errorf("the other executor took %d", n)
	}
	if notes := rep.Applications[0].Notes; len(notes) != 1 || !strings.Contains(notes[0], "on this host") {
		t.Errorf("notes %q", notes)
	}
	s.await("ended 1")
	s.never("told 5", "ended 5", "worker")
}

func TestDriverThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	deaf := s.app("app-2")
	deaf.member("7", plain).commits(0, 2, 100)
	deaf.peer("2", "node-b")
	deaf.setDeaf(true)
	began := time.Now()
	done := make(chan *report.Report, 1)
	a := s.agent()
	go func() {
		rep, _ := a.Rescue(t.Context(), Request{Deadline: began.Add(8 * time.Second)})
		done <- rep
	}()
	s.await("ended 1")
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the other application's executor was ended after %v", took)
	}
	rep := <-done
	s.never("told 7", "ended 7")
	if a := rep.Applications[0]; a.Outcome != report.All {
		t.Errorf("app-1: %s", a.Outcome)
	}
	if a := rep.Applications[1]; a.Outcome != report.None || a.Lost.Outputs != 2 {
		t.Errorf("app-2: %s, lost %d", a.Outcome, a.Lost.Outputs)
	}
}

func TestWithoutREST(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	s.noREST()
	deadline := time.Now().Add(6 * time.Second)
	go func() {
		s.awaitN("index", 3)
		member.commit(0, 3, 100)
	}()
	rep := s.rescue(6 * time.Second)
	saved(t, rep, 4)
	if left := deadline.Sub(rep.Ended); left < 0 || left > 2*time.Second {
		t.Errorf("ended %v before the deadline", left)
	}
	if notes := rep.Applications[0].Notes; len(notes) != 1 || !strings.Contains(notes[0], "REST") {
		t.Errorf("notes %q", notes)
	}
}

func TestPeersThatFail(t *testing.T) {
	for name, harm := range map[string]func(x *sparkExecutor){
		"disk full": func(x *sparkExecutor) { x.refuse = "java.io.IOException: No space left on device" },
		"leaving": func(x *sparkExecutor) {
			x.refuse = "org.apache.spark.storage.BlockSavedOnDecommissionedBlockManagerException: x"
		},
		"killed": func(x *sparkExecutor) { go x.server.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, app, _, bad := usual(t, 40)
			good := app.peer("3", "node-c")
			app.onTell = func(string) { bad.set(harm) }
			saved(t, s.rescue(20*time.Second), 40)
			if good.holds() != 40 || bad.holds() != 0 {
				t.Errorf("%d at the good peer, %d at the bad one", good.holds(), bad.holds())
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.worker(handler)
	j := s.otherRescue() // it neither waits for a rescue nor stands in its way
	rep, err := s.agent().Rescue(t.Context(), Request{Deadline: time.Now().Add(20 * time.Second), DryRun: true})
	must(t, err)
	if found, saved, _ := rep.Total(); rep.Outcome != report.All || !rep.DryRun || found.Outputs != 3 || saved.Outputs != 3 {
		t.Errorf("%+v", rep)
	}
	s.never("told", "asked", "ended", "data", "index", "worker")
	must(t, j.Close())
	s.unlocked()
	saved(t, s.rescue(20*time.Second), 3)
}

// TestNothingRunsAfterARescue runs alone: it looks at all goroutines.
func TestNothingRunsAfterARescue(t *testing.T) {
	s := newStageAlone(t)
	app := s.app("app-1")
	app.member("1", plain).commits(0, 3, 100)
	app.peer("2", "node-b")
	gone := s.app("app-2")
	gone.member("1", plain).commits(0, 2, 100)
	gone.driver.Close()
	s.app("app-3").member("1", plain).commits(0, 2, 100) // without a peer
	s.worker(plain)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.agent().Rescue(ctx, Request{Deadline: time.Now().Add(20 * time.Second)})
	}()
	s.awaitN("index", 3)
	cancel()
	<-done
	rep := s.rescueAgain(3 * time.Second)
	if rep == nil {
		t.Fatal("no report")
	}
	var left []string
	for range 200 { // connections take a moment to end
		if left = agentGoroutines(); len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("still running:\n%s", strings.Join(left, "\n\n"))
}

// rescueAgain is a second rescue of the same stage.
func (s *stage) rescueAgain(within time.Duration) *report.Report {
	s.t.Helper()
	s.unlocked()
	return s.rescue(within)
}

// agentGoroutines are those that run the product's code, and not a fake's.
func agentGoroutines() []string {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	return slices.DeleteFunc(strings.Split(b.String(), "\n\n"), func(g string) bool {
		return !strings.Contains(g, "lifeboat/agent.(") && !strings.Contains(g, "lifeboat/migrate") ||
			strings.Contains(g, "wiretest.") || strings.Contains(g, "agent.(*sparkApp)") || strings.Contains(g, "agent.(*stage)") ||
			strings.Contains(g, "agent.agentGoroutines")
	})
}

// TestPlaceOfADeadPeerIsTaken: the driver takes minutes to notice that an executor has died; its place among the few peers that
// are used is needed before.
func TestPlaceOfADeadPeerIsTaken(t *testing.T) {
	s, app, _, two := usual(t, 60)
	three := app.peer("3", "node-c")
	s.cfg.Migrate.MaxPeers, s.cfg.Migrate.InFlight = 1, 1
	go func() {
		s.await("data")
		used := two
		if strings.HasSuffix(s.seen("data")[0], "at 3") {
			used = three
		}
		used.server.Close()
		s.happened("killed %s", used.id)
	}()
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 60)
	if two.holds() != 60 && three.holds() != 60 || rep.SecondsLeft < 5 {
		t.Errorf("%d and %d at the peers, %.1f s left", two.holds(), three.holds(), rep.SecondsLeft)
	}
}

func TestPeersThatDoNotAnswerKeepNobodyOut(t *testing.T) {
	s, app, _, two := usual(t, 10)
	var dead []*sparkExecutor
	for i := range 5 {
		dead = append(dead, app.peer(strconv.Itoa(10+i), "node-x"))
	}
	for _, x := range dead {
		x.server.Close()
	}
	s.cfg.Migrate.MaxPeers = 1
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 10)
	if two.holds() != 10 || rep.SecondsLeft < 5 {
		t.Errorf("%d at the peer, %.1f s left", two.holds(), rep.SecondsLeft)
	}
}

// TestDriverThatGoesInTheMiddle, as at the end of the job: what is left is worth nothing, and is not waited for.
func TestDriverThatGoesInTheMiddle(t *testing.T) {
	s, app, member, _ := usual(t, 3)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.worker(handler)
	go func() {
		s.awaitN("index", 3)
		app.driver.Close()
	}()
	rep := s.rescue(30 * time.Second)
	if a := rep.Applications[0]; !strings.Contains(a.Error, "the driver is gone") || a.Saved.Outputs != 3 || rep.SecondsLeft < 10 {
		t.Errorf("error %q, %d saved, %.1f s left", a.Error, a.Saved.Outputs, rep.SecondsLeft)
	}
	s.never("ended")
}
