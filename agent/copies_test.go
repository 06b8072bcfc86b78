package agent

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/folder"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
)

// copyStage is a node with two executors that copies ahead into a folder.
type copyStage struct {
	*stage
	app     *sparkApp
	dying   *sparkExecutor
	alive   [2]*sparkExecutor // one elsewhere, one here
	storage string
	catalog *catalog.Catalog
}

func newCopyStage(t *testing.T, n int) *copyStage {
	t.Helper()
	c := &copyStage{storage: t.TempDir()}
	c.stage, c.app, c.dying, c.alive[0] = usual(t, n)
	c.alive[1] = c.app.member("5", plain) // it stays, so that an agent with an executor of the application looks out
	c.cfg.Objects.Path, c.cfg.Mirror.Mode, c.cfg.Scan = "file://"+c.storage, config.MirrorAlways, 20*time.Millisecond
	b, err := folder.Open(t.Context(), folder.Options{Place: bucket.Place{Scheme: "file", Prefix: c.storage}})
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	c.catalog = catalog.New(b)
	return c
}

// given is how many outputs living executors were given.
func (c *copyStage) given() int { return c.alive[0].holds() + c.alive[1].holds() }

// until waits for a condition.
func (c *copyStage) until(what string, holds func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not in time", what)
		}
		_ = pause(c.t.Context(), 10*time.Millisecond)
	}
}

// copied is how many indexes lie in the storage.
func (c *copyStage) copied() int {
	n := 0
	_ = filepath.WalkDir(c.storage, func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, ".index") {
			n++
		}
		return nil
	})
	return n
}

func (c *copyStage) salvages() []*report.Report {
	list, err := report.List(SalvageState(c.cfg.State), 0)
	must(c.t, err)
	return list
}

func TestMirrorCopiesAhead(t *testing.T) {
	c := newCopyStage(t, 3)
	c.daemon()
	c.until("what was there is copied", func() bool { return c.copied() == 3 })
	c.dying.commits(10, 2, 50)
	c.until("what came later is copied", func() bool { return c.copied() == 5 })
	entries := map[catalog.Ref]catalog.Entry{}
	must(t, c.catalog.Manifests(t.Context(), catalog.Place{App: "app-1", Node: home}, func(m *catalog.Manifest) error {
		if m.Application.Driver != c.app.driverURL() || m.Application.Spark == "" || len(m.Executors) != 2 {
			t.Errorf("manifest %+v", m)
		}
		for _, e := range m.Outputs {
			entries[e.Ref] = e
		}
		return nil
	}))
	if len(entries) != 5 {
		t.Errorf("%d outputs are listed", len(entries))
	}
	for _, e := range entries {
		if e.Executor != "1" {
			t.Errorf("output %v is said to be of executor %q", e.Ref, e.Executor)
		}
	}
	c.never("told", "ended", "data")
}

// TestMirrorGoesOnAfterRestart: what is stored is not stored again by the next run of the agent.
func TestMirrorGoesOnAfterRestart(t *testing.T) {
	c := newCopyStage(t, 3)
	first := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	first.stop()
	<-first.done
	before := c.modified()
	c.dying.commits(10, 1, 50)
	c.daemon()
	c.until("copied", func() bool { return c.copied() == 4 })
	for path, at := range before {
		if now := c.modified()[path]; !now.Equal(at) {
			t.Errorf("%s was stored again", path)
		}
	}
}

// modified is when each copy was stored.
func (c *copyStage) modified() map[string]time.Time {
	times := map[string]time.Time{}
	_ = filepath.WalkDir(c.storage, func(path string, d fs.DirEntry, _ error) error {
		if info, err := d.Info(); err == nil && strings.Contains(d.Name(), "shuffle_") {
			times[path] = info.ModTime()
		}
		return nil
	})
	return times
}

// TestRescueKnowsWhatAMirrorStored: also when another process was the mirror. What is there is announced, and not stored again.
func TestRescueKnowsWhatAMirrorStored(t *testing.T) {
	c := &copyStage{stage: newStage(t)}
	c.app = c.stage.app("app-1")
	c.storage = c.app.fallback()
	c.dying = c.app.member("1", plain)
	c.dying.commits(0, 3, 1000)
	c.cfg.Mirror.Mode, c.cfg.Scan = config.MirrorAlways, 20*time.Millisecond
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	d.stop()
	<-d.done
	before := c.modified()
	saved(t, c.rescue(30*time.Second), 3)
	for path, at := range c.modified() {
		if !before[path].Equal(at) {
			t.Errorf("%s was stored again", path)
		}
	}
	if n := len(c.seen("announced")); n < 2*3 {
		t.Errorf("%d blocks were announced", n)
	}
}

// TestLookoutSalvages: an executor dies, and an agent that has another one of its application gives its copies to
// living ones. Nothing on the node is touched, and nothing is done twice.
func TestLookoutSalvages(t *testing.T) {
	c := newCopyStage(t, 3)
	c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	c.dying.set(func(x *sparkExecutor) { x.unknown = true })
	c.until("salvaged", func() bool { return c.given() == 3 })
	c.await("log: copies salvaged")
	rep := c.salvages()[0]
	saved(t, rep, 3)
	if rep.Notice.Source != "salvage" || len(rep.Notice.Executors) != 1 || rep.Notice.Executors[0] != "1" {
		t.Errorf("notice %+v", rep.Notice)
	}
	c.never("told", "ended")
	_, err := c.agent().Salvage(t.Context(), SalvageRequest{App: "app-1", Deadline: time.Now().Add(10 * time.Second)})
	if !errors.Is(err, ErrNoCopies) {
		t.Errorf("salvaged a second time: %v", err)
	}
}

// TestSalvageLeavesTheLivingAlone: copies of an executor that lives are none to salvage.
func TestSalvageLeavesTheLivingAlone(t *testing.T) {
	c := newCopyStage(t, 3)
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	_, err := d.Salvage(t.Context(), SalvageRequest{App: "app-1", Deadline: time.Now().Add(10 * time.Second)})
	if !errors.Is(err, ErrNoCopies) {
		t.Errorf("salvaged: %v", err)
	}
	if _, err := d.Salvage(t.Context(), SalvageRequest{App: "app-2", Deadline: time.Now().Add(time.Second)}); !errors.Is(err, ErrNoCopies) {
		t.Errorf("an unknown application: %v", err)
	}
}

func TestSalvageDryRun(t *testing.T) {
	c := newCopyStage(t, 3)
	c.cfg.Objects.Salvage = false
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	req := SalvageRequest{App: "app-1", Executors: []string{"1"}, Deadline: time.Now().Add(15 * time.Second), DryRun: true}
	rep, err := d.Salvage(t.Context(), req)
	must(t, err)
	if _, would, _ := rep.Total(); would.Outputs != 3 || c.given() != 0 {
		t.Errorf("would have saved %d, %d were sent", would.Outputs, c.given())
	}
	req.DryRun = false
	rep, err = d.Salvage(t.Context(), req)
	must(t, err)
	saved(t, rep, 3)
}

// TestCleanUp: what is needed stays, and of a driver that was never reached only old copies go.
func TestCleanUp(t *testing.T) {
	c := newCopyStage(t, 3)
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	clean := func(o CleanUpOptions) Copies {
		t.Helper()
		list, err := (&Cleaner{Config: c.cfg, Log: c.logger(), Dialer: c.stage}).CleanUpPath(t.Context(), o)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0]
	}
	age := func(by time.Duration) {
		t.Helper()
		at := time.Now().Add(-by)
		must(t, filepath.WalkDir(c.storage, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			return os.Chtimes(path, at, at)
		}))
	}
	yes := CleanUpOptions{Reached: func(catalog.Application) bool { return true }}
	age(365 * 24 * time.Hour)
	if got := clean(yes); got.State != CopiesLive || got.Removed || got.Outputs != 3 {
		t.Errorf("of a job that runs: %+v", got)
	}
	d.stop()
	<-d.done
	c.dial = func(context.Context, string) error { return errors.New("the network is elsewhere") }
	age(time.Minute)
	if got := clean(yes); got.State != CopiesUnsure || got.Removed {
		t.Errorf("of a driver that can't be reached: %+v", got)
	}
	age(2 * c.cfg.Objects.Keep)
	if got := clean(CleanUpOptions{ListOnly: true}); got.State != CopiesExpired || got.Removed || c.copied() != 3 {
		t.Errorf("listed: %+v", got)
	}
	if got := clean(CleanUpOptions{}); !got.Removed || c.copied() != 0 {
		t.Errorf("expired: %+v, %d left", got, c.copied())
	}
}

// TestLivingApplicationsNeverExpire: whoever can't reach the driver hears from the catalog that the application lives. Old
// copies of a driver that refuses go only where it is known to have been reachable.
func TestLivingApplicationsNeverExpire(t *testing.T) {
	c := newCopyStage(t, 3)
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	p := catalog.Place{App: "app-1", Node: "node-b"}
	d.stop()
	<-d.done
	refuse := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	c.dial = func(context.Context, string) error { return refuse }
	old := time.Now().Add(-2 * c.cfg.Objects.Keep)
	must(t, filepath.WalkDir(c.storage, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chtimes(path, old, old)
	}))
	clean := func(o CleanUpOptions) Copies {
		t.Helper()
		list, err := (&Cleaner{Config: c.cfg, Log: c.logger(), Dialer: c.stage}).CleanUpPath(t.Context(), o)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0]
	}
	note, err := c.catalog.Seen(t.Context(), p, "")
	must(t, err)
	if got := clean(CleanUpOptions{}); got.State != CopiesUnsure || got.Removed {
		t.Errorf("seen just now: %+v", got)
	}
	must(t, os.Chtimes(filepath.Join(c.storage, note), old, old))
	if ours, err := c.catalog.Claim(t.Context(), catalog.Place{App: "app-1", Node: home}, rescueClaim(home), claimTime); !ours || err != nil {
		t.Fatal(ours, err)
	}
	never := CleanUpOptions{Reached: newStorages().gone}
	if got := clean(never); got.State != CopiesExpired || got.Removed {
		t.Errorf("in the middle of a rescue: %+v", got)
	}
	giveUpClaim(t.Context(), c.catalog, catalog.Place{App: "app-1", Node: home}, rescueClaim(home))
	if got := clean(never); !got.Removed || c.copied() != 0 {
		t.Errorf("expired: %+v, %d left", got, c.copied())
	}
	if places, err := c.catalog.Places(t.Context(), ""); len(places) != 0 || err != nil {
		t.Errorf("left %v, %v", places, err)
	}
}

// TestNothingIsRemovedByAWrongClock: the storage's clock decides.
func TestNothingIsRemovedByAWrongClock(t *testing.T) {
	c := newCopyStage(t, 3)
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	d.stop()
	<-d.done
	c.dial = func(context.Context, string) error { return errors.New("the network is elsewhere") }
	cleaner := &Cleaner{Config: c.cfg, Log: c.logger(), Dialer: c.stage}
	run := &cleaning{Cleaner: cleaner, catalog: c.catalog, states: map[catalog.Application]string{}}
	e := Copies{State: CopiesExpired} // as one thinks whose clock is days ahead
	run.remove(t.Context(), catalog.Place{App: "app-1", Node: home}, &e)
	if e.Removed || e.Problem == "" || c.copied() != 3 {
		t.Errorf("%+v, %d left", e, c.copied())
	}
}

// TestAgentsTakeTurnsCleaningUp: each reads the whole catalog, so that thousands of agents must not all do it.
func TestAgentsTakeTurnsCleaningUp(t *testing.T) {
	c := newCopyStage(t, 3)
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	d.stop()
	<-d.done
	c.dial = func(context.Context, string) error { return errors.New("the network is elsewhere") }
	old := time.Now().Add(-2 * c.cfg.Objects.Keep)
	must(t, filepath.WalkDir(c.storage, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chtimes(path, old, old)
	}))
	a := c.agent()
	cleaner := &Cleaner{Config: c.cfg, Log: c.logger(), Dialer: c.stage}
	place := objectPlace{url: "file://" + c.storage}
	if ours, err := c.catalog.Claim(t.Context(), sweepPlace(), cleanUpClaim("node-b"), sweepApart); !ours || err != nil {
		t.Fatal(ours, err)
	}
	if must(t, a.sweepOne(t.Context(), cleaner, place)); c.copied() != 3 {
		t.Error("cleaned up although it was another's turn")
	}
	giveUpClaim(t.Context(), c.catalog, sweepPlace(), cleanUpClaim("node-b"))
	if must(t, a.sweepOne(t.Context(), cleaner, place)); c.copied() != 0 {
		t.Errorf("%d copies are left", c.copied())
	}
	claims, err := filepath.Glob(filepath.Join(c.storage, ".lifeboat", "clean-up", "all", "*"))
	if err != nil || len(claims) != 1 {
		t.Errorf("claims left: %v, %v", claims, err)
	}
}
