package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers"
)

// cordon is a notice that nothing has to go yet.
func cordon(id string) providers.Notice {
	return providers.Notice{ID: id, Kind: providers.Cordon, Seen: time.Now()}
}

// removes is what an executor does with its files as it ends.
func (x *sparkExecutor) removes() {
	x.app.t.Helper()
	must(x.app.t, os.RemoveAll(filepath.Join(x.ofProcess("root"), x.folder())))
}

func (x *sparkExecutor) ofProcess(name string) string {
	return filepath.Join(x.app.proc, strconv.Itoa(x.process.Pid), name)
}

// inPodOfItsOwn moves the files of an executor to where no other one sees them.
func (x *sparkExecutor) inPodOfItsOwn() {
	t, root := x.app.t, x.app.t.TempDir()
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, x.folder())), 0o755))
	must(t, os.Rename(filepath.Join(x.app.files, x.folder()), filepath.Join(root, x.folder())))
	must(t, os.Remove(x.ofProcess("root")))
	must(t, os.Symlink(root, x.ofProcess("root")))
	must(t, os.MkdirAll(x.ofProcess("ns"), 0o755))
	must(t, os.Symlink(fmt.Sprintf("mnt:[%d]", x.process.Pid), x.ofProcess("ns/mnt")))
}

func (s *stage) untilPinned(d *daemon, files int) {
	s.t.Helper()
	s.until(fmt.Sprintf("%d files are open", files), func() bool { return d.pinLimit.Used() == files })
}

// TestCordonOpensFiles at once, and those that are committed later; nobody is told, and nothing copied, until a notice says
// that the node goes. What its executor has removed by then is saved all the same.
func TestCordonOpensFiles(t *testing.T) {
	s, _, member, _ := usual(t, 3)
	s.cfg.Scan = time.Hour
	d := s.daemon()
	s.await("log: source of notices up")
	s.send(cordon("c1"))
	s.untilPinned(d, 6)
	member.commits(3, 2, 100)
	s.untilPinned(d, 10)
	s.never("told", "ended", "data", "log: rescue begins")
	member.removes()
	s.send(notice("n1", 20*time.Second))
	rep := s.report(1)
	if found, saved, lost := rep.Total(); rep.Outcome != report.All || found.Outputs != 5 || saved.Outputs != 5 || lost.Outputs != 0 {
		t.Errorf("outcome %s, found %d, saved %d, lost %d", rep.Outcome, found.Outputs, saved.Outputs, lost.Outputs)
	}
	s.untilPinned(d, 0)
}

// TestCordonTakenBack lets go of the files.
func TestCordonTakenBack(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	d := s.daemon()
	s.send(cordon("c1"))
	s.send(cordon("c2"))
	s.untilPinned(d, 6)
	s.send(withdrawn(cordon("c1")))
	s.send(withdrawn(cordon("c2")))
	s.untilPinned(d, 0)
	s.never("told", "ended", "data", "log: rescue begins")
}

// TestCordonMayBeRecordedOnly: nothing is opened then.
func TestCordonMayBeRecordedOnly(t *testing.T) {
	s, _, _, _ := usual(t, 3)
	s.cfg.Notices.Cordon = config.ActRecord
	d := s.daemon()
	s.send(cordon("c1"))
	s.leadsTo("c1", NoticeRecorded)
	if d.pins.wanted["c1"] {
		t.Error("files are opened for a notice that is only to be recorded")
	}
}

// TestRescueOfOnePodLeavesTheOthersOpen, and takes those over when they go, too.
func TestRescueOfOnePodLeavesTheOthersOpen(t *testing.T) {
	s, app, first, _ := usual(t, 3)
	second := app.member("5", plain)
	second.commits(10, 2, 100)
	first.inPodOfItsOwn()
	second.inPodOfItsOwn()
	d := s.daemon()
	s.send(cordon("c1"))
	s.untilPinned(d, 10)
	first.removes()
	s.send(of(notice("n1", 20*time.Second), "app-1", "1"))
	if found, saved, _ := s.report(1).Total(); found.Outputs != 3 || saved.Outputs != 3 {
		t.Errorf("found %d, saved %d of the first", found.Outputs, saved.Outputs)
	}
	if n := d.pinLimit.Used(); n < 4 {
		t.Errorf("%d files of the other one are open", n)
	}
	second.removes()
	s.send(of(notice("n2", 20*time.Second), "app-1", "5"))
	if found, saved, _ := s.report(2).Total(); found.Outputs < 2 || saved.Outputs != found.Outputs {
		t.Errorf("found %d, saved %d of the second", found.Outputs, saved.Outputs)
	}
}

// heldOpen is one executor's files, as pins hold them under a cap; 0 is the default.
func heldOpen(t *testing.T, most int) (s *stage, p *pins, member *sparkExecutor, e executor.Executor) {
	t.Helper()
	s, _, member, _ = usual(t, 3)
	s.cfg.Migrate.MaxPinned = most
	a := s.agent()
	found, err := a.scanner.Scan(t.Context())
	must(t, err)
	a.pins.want(cordon("c1"))
	a.pins.saw(t.Context(), found.Executors)
	t.Cleanup(a.pins.close)
	s.until("all files are open", func() bool { return a.pinLimit.Used() == 6 })
	return s, a.pins, member, found.Executors[0]
}

// alone ends what a group does by itself, but not the group.
func alone(t *testing.T, p *pins, e executor.Executor) *pinned {
	t.Helper()
	held := p.groups[pinGroup{e.App, ""}]
	held.taken.Store(true)
	held.cancel()
	<-held.done
	t.Cleanup(func() { held.store.Close() })
	return held
}

// TestHalfOfTheCapIsLeft to rescues: what is committed beyond it is opened when one begins.
func TestHalfOfTheCapIsLeft(t *testing.T) {
	_, p, member, e := heldOpen(t, 12)
	held := alone(t, p, e)
	member.commits(3, 1, 100)
	held.scan(t.Context())
	if n := p.limit.Used(); n != 6 {
		t.Errorf("%d files open", n)
	}
}

// TestRemovedFilesAreLetGo when they have been gone for a while: Spark removes what no job needs any more.
func TestRemovedFilesAreLetGo(t *testing.T) {
	_, p, member, e := heldOpen(t, 0)
	held := alone(t, p, e)
	for _, file := range []string{"shuffle_0_1_0.index", "shuffle_0_1_0.data"} {
		must(t, os.Remove(filepath.Join(member.app.files, member.folder(), "0c", file)))
	}
	gone := held.tidy(t.Context(), nil)
	if len(gone) != 1 || p.limit.Used() != 6 {
		t.Errorf("gone %v, %d files open: a notice may follow at once", gone, p.limit.Used())
	}
	if gone = held.tidy(t.Context(), gone); len(gone) != 0 || p.limit.Used() != 4 {
		t.Errorf("gone %v, %d files open", gone, p.limit.Used())
	}
}

// TestFilesOfExecutorsThatHaveGone are let go at once, by themselves: a disk can't leave the node before.
func TestFilesOfExecutorsThatHaveGone(t *testing.T) {
	s, p, member, _ := heldOpen(t, 0)
	must(t, member.process.Kill())
	s.until("all is closed", func() bool { return p.limit.Used() == 0 })
}

// TestRescueBegunAnewKeepsWhatIsOpen: its executors may have removed their files meanwhile.
func TestRescueBegunAnewKeepsWhatIsOpen(t *testing.T) {
	s, app, first, _ := usual(t, 3)
	app.member("5", plain).commits(10, 2, 100)
	app.setDeaf(true)
	d := s.daemon()
	s.send(of(notice("n1", 30*time.Second), "app-1", "1"))
	s.untilPinned(d, 10)
	first.removes()
	s.send(notice("n2", 30*time.Second))
	s.leadsTo("n2", NoticeWidens)
	app.setDeaf(false)
	if found, saved, _ := s.report(1).Total(); found.Outputs != 5 || saved.Outputs != 5 {
		t.Errorf("found %d, saved %d", found.Outputs, saved.Outputs)
	}
	s.untilPinned(d, 0)
}

// TestNothingIsOpenedBesideARescue, and all again after it, for executors that it has left.
func TestNothingIsOpenedBesideARescue(t *testing.T) {
	s, p, _, e := heldOpen(t, 0)
	stores, release := p.take(e.App, e.PID)
	_, releaseToo := p.take(e.App, e.PID)
	if len(stores) != 1 {
		t.Fatalf("%d handed over", len(stores))
	}
	must(t, stores[0].Close())
	p.saw(t.Context(), []executor.Executor{e})
	release()
	release()
	p.saw(t.Context(), []executor.Executor{e})
	releaseToo()
	p.saw(t.Context(), []executor.Executor{e})
	if len(p.groups) != 0 || p.limit.Used() != 0 {
		t.Errorf("%d groups, %d files: it may be about to end", len(p.groups), p.limit.Used())
	}
	p.mu.Lock()
	p.taken[e.PID] = rescued{freed: time.Now().Add(-time.Minute)}
	p.mu.Unlock()
	p.saw(t.Context(), []executor.Executor{e})
	s.until("all files are open again", func() bool { return p.limit.Used() == 6 })
}
