package agent

import (
	"testing"
	"time"
)

// TestHolderStops: a peer that no longer answers when the executor is to be ended is not trusted with the only copies.
func TestHolderStops(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	one := app.member("1", plain)
	three, four := app.peer("3", "node-b"), app.peer("4", "node-c")
	one.commits(0, 20, 100)
	one.set(func(x *sparkExecutor) { x.tasks = 1 })
	d := s.daemon()
	s.send(notice("n", 20*time.Second))
	s.awaitN("index", 20)
	if three.holds() == 0 {
		t.Fatal("nothing lies at the peer that is to stop")
	}
	three.set(func(x *sparkExecutor) { x.silent = true })
	one.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 20)
	if n := four.holds(); n != 20 {
		t.Errorf("the living peer holds %d outputs, want 20", n)
	}
	if places := rep.Applications[0].Destinations; len(places) != 1 || places[0].Outputs != 20 {
		t.Errorf("reported as %+v", places)
	}
	s.inOrder("index", "ended")
	d.stop()
}

// TestHolderStopsAlone: without another peer the executor stays as long as it may, and the acknowledgements count.
func TestHolderStopsAlone(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	one := app.member("1", plain)
	three := app.peer("3", "node-b")
	one.commits(0, 20, 100)
	one.set(func(x *sparkExecutor) { x.tasks = 1 })
	s.daemon()
	s.send(notice("n", 6*time.Second))
	s.awaitN("index", 20)
	three.set(func(x *sparkExecutor) { x.silent = true })
	one.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := s.report(1)
	saved(t, rep, 20)
	if left := rep.SecondsLeft; left > 1.5 || left < 0 {
		t.Errorf("over %.1f s before the deadline, want about the margin of a second", left)
	}
}

// TestMovedAreAnnouncedAgain: outputs that other executors have made are announced once more when the driver has lost
// the executor that they lay on; no others are.
func TestMovedAreAnnouncedAgain(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	one := app.member("1", plain)
	three := app.peer("3", "node-b")
	one.commits(0, 20, 100)
	one.age(time.Minute)
	app.made = map[int]string{}
	for i := range 20 {
		app.made[i] = "1"
	}
	app.made[4], app.made[7] = "9", "10"
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 20)
	if took := rep.Ended.Sub(rep.Began); took > 10*time.Second {
		t.Errorf("took %v although the driver lost the executor at once", took)
	}
	again := s.seen("index")[20:]
	if len(again) != 2 || three.holds() != 20 {
		t.Errorf("announced again: %q", again)
	}
	if s.last("index") < s.last("ended") {
		t.Errorf("announced again before the driver had lost the executor: %q", s.seen("index", "ended"))
	}
}
