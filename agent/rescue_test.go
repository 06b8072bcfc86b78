package agent

import (
	"strings"
	"testing"
	"time"
)

// TestWayOfARescue is one rescue without trouble, with the order of things.
func TestWayOfARescue(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	one, two := app.member("1", plain), app.member("2", plain)
	three, four := app.peer("3", "node-b"), app.peer("4", "node-c")
	one.commits(0, 20, 100)
	two.commits(20, 20, 0)
	app.onTell = func(id string) {
		if !strings.Contains(s.journal(), `"type":"told-intent","app":"app-1","executor":"`+id+`","trigger":"rpc"`) {
			t.Errorf("executor %s was told before the journal knew", id)
		}
	}
	began := time.Now()
	rep := s.rescue(30 * time.Second)
	saved(t, rep, 40)
	if a, b := three.holds(), four.holds(); a+b != 40 || a == 0 || b == 0 {
		t.Errorf("the peers hold %d and %d outputs", a, b)
	}
	s.inOrder("told", "data")
	s.inOrder("told", "index")
	s.inOrder("data", "ended")
	s.never("asked", "sigpwr")
	s.awaitN("ended", 2)
	if got := s.seen("ended"); len(got) != 2 || !strings.Contains(got[0], "terminated") {
		t.Errorf("%q", got)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("took %v", took)
	}
	j := s.journal()
	for _, id := range []string{"1", "2"} {
		intent := strings.Index(j, `"type":"ended-intent","app":"app-1","executor":"`+id+`"`)
		if end := strings.Index(j, `"type":"ended","app":"app-1","executor":"`+id+`"`); intent < 0 || end < intent {
			t.Errorf("journal of the end of %s: intent at %d, end at %d", id, intent, end)
		}
	}
}

// TestOrderOfCopies: where the notice leaves little time, the first copy is that of the output that cost most per byte;
// else small ones go first, until the rescue takes its time.
func TestOrderOfCopies(t *testing.T) {
	for name, c := range map[string]struct {
		within time.Duration
		first  string
	}{
		"half a minute": {30 * time.Second, "data shuffle_0_1_"},
		"ten minutes":   {10 * time.Minute, "data shuffle_0_0_"},
	} {
		t.Run(name, func(t *testing.T) {
			s, app, member, _ := usual(t, 1)
			member.commit(0, 1, 1000)
			app.made, app.took = map[int]string{0: "1", 1: "1"}, map[int]int{1: 60_000}
			s.cfg.Migrate.InFlight, s.cfg.Migrate.Connections = 1, 1
			rep := s.rescue(c.within)
			saved(t, rep, 2)
			if got := s.seen("data"); len(got) != 2 || !strings.HasPrefix(got[0], c.first) {
				t.Errorf("copied in the order %q, want %s first", got, c.first)
			}
			if a := rep.Applications[0]; !a.Recompute.Known || a.Recompute.Avoided != 61 {
				t.Errorf("recompute %+v", a.Recompute)
			}
		})
	}
}

// TestFreshOutputsAreAnnouncedAgain while a task runs: the driver may have dropped the first announcement, and nobody knows
// when the task will end.
func TestFreshOutputsAreAnnouncedAgain(t *testing.T) {
	s, _, member, _ := usual(t, 2)
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	member.age(time.Minute) // long known
	go func() {
		s.await("told 1")
		member.commit(0, 3, 100)
		s.awaitN("index shuffle_0_3_", 2)
		member.set(func(x *sparkExecutor) { x.tasks = 0 })
	}()
	saved(t, s.rescue(30*time.Second), 3)
	for index, want := range map[string]int{"index shuffle_0_0_": 1, "index shuffle_0_1_": 1, "index shuffle_0_3_": 2} {
		if got := s.seen(index); len(got) != want {
			t.Errorf("%q, want %d times", got, want)
		}
	}
	if n := len(s.seen("data")); n != 3 {
		t.Errorf("data was sent %d times", n)
	}
}

// TestFreshOutputsAreAnnouncedAgainAtTheDeadline: what is committed in the last second has no other chance.
func TestFreshOutputsAreAnnouncedAgainAtTheDeadline(t *testing.T) {
	s, _, member, _ := usual(t, 2)
	s.cfg.Deadline.Margin = 3 * time.Second
	member.set(func(x *sparkExecutor) { x.tasks = 1 })
	const within = 15 * time.Second
	late := time.AfterFunc(within-s.cfg.Deadline.Margin-time.Second, func() { member.commit(0, 5, 100) })
	defer late.Stop()
	saved(t, s.rescue(within), 3)
	if got := s.seen("index shuffle_0_5_"); len(got) != 2 {
		t.Errorf("%q, want it twice", got)
	}
	s.inOrder("index shuffle_0_5_", "ended")
}
