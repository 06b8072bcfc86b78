package agent

import (
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
)

// departed makes the agent remember an application whose only executor here has ended without removing its files, as with
// the external shuffle service.
func (a *sparkApp) departed(id string, outputs int) {
	a.t.Helper()
	x := a.member(id, plain)
	x.commits(10, outputs, 100)
	d := a.daemon()
	for len(d.known.list()) == 0 {
		time.Sleep(time.Millisecond)
	}
	d.stop()
	<-d.done
	must(a.t, x.process.Kill())
	a.await("ended " + id)
}

// TestLeftFolders rescues what an application has left on a node without executors.
func TestLeftFolders(t *testing.T) {
	for name, peers := range map[string][]string{"one living executor": {"2"}, "two": {"2", "3"}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			app := s.app("app-1")
			app.departed("1", 3)
			held := 0
			var all []*sparkExecutor
			for _, id := range peers {
				all = append(all, app.peer(id, "node-"+id))
			}
			s.worker(handler)
			rep := s.rescue(10 * time.Second)
			saved(t, rep, 3)
			for _, x := range all {
				held += x.holds()
			}
			if held != 3 || rep.SecondsLeft < 5 {
				t.Errorf("%d outputs at the peers, want 3; %.1f s left", held, rep.SecondsLeft)
			}
			s.never("told", "asked")
		})
	}
}

func TestLeftFoldersWithoutAnyExecutor(t *testing.T) {
	s := newStage(t)
	s.app("app-1").departed("1", 3)
	s.worker(handler)
	if rep := s.rescue(2 * time.Second); rep.Outcome != report.None {
		t.Errorf("outcome %s, want none", rep.Outcome)
	}
}

// TestLeftFoldersBesideALivingExecutor needs no memory: executors of one worker share the application's local dirs.
func TestLeftFoldersBesideALivingExecutor(t *testing.T) {
	s, app, _, peer := usual(t, 2)
	x := app.member("5", plain)
	x.commits(10, 3, 100)
	must(t, x.process.Kill())
	s.await("ended 5")
	saved(t, s.rescue(10*time.Second), 5)
	if n := peer.holds(); n != 5 {
		t.Errorf("%d outputs at the peer, want 5", n)
	}
}
