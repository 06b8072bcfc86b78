package agent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

// TestListWithoutThisNodeProvesNothing: a driver that is new, or has lost sight of a node, lists nobody for a moment.
func TestListWithoutThisNodeProvesNothing(t *testing.T) {
	c := newCopyStage(t, 3)
	for _, x := range []*sparkExecutor{c.dying, c.alive[0], c.alive[1]} {
		x.set(func(x *sparkExecutor) { x.unknown = true })
	}
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	c.await("log: copies of dead executors can't be looked for")
	_, err := d.Salvage(t.Context(), SalvageRequest{App: "app-1", Deadline: time.Now().Add(10 * time.Second)})
	if !errors.Is(err, errListIncomplete) || c.given() != 0 || len(c.salvages()) != 0 {
		t.Errorf("%v, %d outputs were sent", err, c.given())
	}
}

// TestNoObjectsNoRequests: where there is no object storage the driver is asked once for its settings, and that is all.
func TestNoObjectsNoRequests(t *testing.T) {
	c := newCopyStage(t, 3)
	c.cfg.Objects.Path, c.cfg.Mirror.Mode = "", config.MirrorOff
	var dials atomic.Int32
	c.dial = func(_ context.Context, host string) error {
		if host == c.app.host {
			dials.Add(1)
		}
		return nil
	}
	d := c.daemon()
	c.await("log: no copies to look out for")
	d.lookout.close() // nobody looks out any more
	asked := dials.Load()
	for range 3 { // sees the same executors again
		d.lookout.saw(t.Context(), []executor.Executor{{App: "app-1", ID: "1"}})
	}
	d.lookout.close()
	if asked != 1 || dials.Load() != asked {
		t.Errorf("%d connections to the driver, then %d", asked, dials.Load())
	}
}

// TestLooksAreFewInLargeApplications: what all agents together ask of a driver does not grow with their number.
func TestLooksAreFewInLargeApplications(t *testing.T) {
	for _, n := range []int{1, 3, 20, 300, 2000} {
		alive := make([]string, n)
		for i := range alive {
			alive[i] = fmt.Sprintf("%05d", i)
		}
		l := newLookout(&Agent{})
		w := &appLookout{lookout: l, executor: executor.Executor{App: "app-1"}}
		var close int
		var entries float64 // of the list that the driver writes each second, without what small applications need
		for _, id := range alive {
			l.seen = []executor.Executor{{App: "app-1", ID: id}}
			is, every := w.turn(alive)
			if is {
				close++
				every -= lookEvery
			}
			entries += float64(n) / every.Seconds()
		}
		if want := min(n, lookouts+n/lookoutShare); close != want {
			t.Errorf("%d executors: %d look closely, want %d", n, close, want)
		}
		if limit := 2.01 / lookPerEntry.Seconds(); entries > limit {
			t.Errorf("%d executors: the driver writes %.0f entries a second, want at most %.0f", n, entries, limit)
		}
	}
}

// TestClaimedPlacesAreLeftAlone: what a rescue has claimed, also one in another process of the same node, is not salvaged
// before it lets go, nor while this node is rescued or another salvage runs.
func TestClaimedPlacesAreLeftAlone(t *testing.T) {
	c := newCopyStage(t, 3)
	c.cfg.Objects.Salvage = false
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	c.until("seen", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.seen) == 2 })
	d.mu.Lock()
	e := d.seen[0]
	d.mu.Unlock()
	w := d.lookout.forApp(e)
	defer w.close()
	must(t, w.openStorage(t.Context()))
	c.dying.set(func(x *sparkExecutor) { x.unknown = true }) // or it would be one to give copies to
	p := catalog.Place{App: "app-1", Node: home}
	dead := func(id string) bool { return id == "1" }
	salvage := func(wantDone bool, want int) {
		t.Helper()
		done, _, err := w.salvagePlace(t.Context(), p, dead)
		if err != nil || done != wantDone || c.given() != want {
			t.Errorf("done %v, %v, %d outputs sent; want %v and %d", done, err, c.given(), wantDone, want)
		}
	}
	if ours, err := c.catalog.Claim(t.Context(), p, rescueClaim(home), claimTime); !ours || err != nil {
		t.Fatal(ours, err)
	}
	salvage(true, 0)
	giveUpClaim(t.Context(), c.catalog, p, rescueClaim(home))
	d.lookout.rescuing(true)
	salvage(false, 0)
	d.lookout.rescuing(false)
	d.lookout.begin(func() {})
	salvage(false, 0)
	d.lookout.end()
	salvage(true, 3)
	salvage(true, 3)
	c.never("told", "ended")
}

// TestNoticeEndsASalvage: the node's own rescue comes first.
func TestNoticeEndsASalvage(t *testing.T) {
	l := newLookout(&Agent{})
	ctx, cancel := context.WithCancel(t.Context())
	if !l.begin(cancel) {
		t.Fatal("not begun")
	}
	l.rescuing(true)
	<-ctx.Done()
	l.end()
	if l.begin(cancel) {
		t.Error("begun in the middle of a rescue")
	}
}

// TestWhatCannotBeSalvagedIsPutOff: the pauses grow.
func TestWhatCannotBeSalvagedIsPutOff(t *testing.T) {
	w := &appLookout{failed: map[catalog.Place]failed{}}
	p := catalog.Place{App: "app-1", Node: home}
	w.remember(p, lostOne())
	first := time.Until(w.failed[p].next)
	for range 20 {
		w.remember(p, lostOne())
	}
	last := time.Until(w.failed[p].next)
	if first > lookAgain || first < lookAgain/2 || last > failedMax || last < failedMax/2 {
		t.Errorf("pauses of %v, then %v", first, last)
	}
}

// TestNothingIsReadInVain: a place is read again only when something has been added to it, or somebody else has died.
func TestNothingIsReadInVain(t *testing.T) {
	c := newCopyStage(t, 3)
	c.cfg.Objects.Salvage = false
	d := c.daemon()
	c.until("copied", func() bool { return c.copied() == 3 })
	c.until("seen", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.seen) == 2 })
	d.mu.Lock()
	w := d.lookout.forApp(d.seen[0])
	d.mu.Unlock()
	defer w.close()
	must(t, w.openStorage(t.Context()))
	p := catalog.Place{App: "app-1", Node: home}
	look := func(alive ...string) string {
		t.Helper()
		if _, err := w.salvage(t.Context(), alive); err != nil {
			t.Fatal(err)
		}
		return w.sights[p].nothing
	}
	c.dying.set(func(x *sparkExecutor) { x.unknown = true })
	if look("1", "2", "5") != "" || c.given() != 0 {
		t.Error("salvaged while all live")
	}
	look("2", "5")
	if c.given() != 3 {
		t.Errorf("%d outputs were sent", c.given())
	}
	first := look("2", "5")
	if first == "" || look("2", "5") != first {
		t.Error("it is not remembered that nothing is left")
	}
	c.dying.commits(10, 1, 50)
	c.until("copied", func() bool { return c.copied() == 4 })
	if look("2", "5"); c.given() != 4 {
		t.Error("what was added later was not salvaged")
	}
}

// TestListThatChangesAllTheTime: with dynamic allocation a large application's list is never the same twice. Then every second
// look comes early, and no more.
func TestListThatChangesAllTheTime(t *testing.T) {
	c := newCopyStage(t, 3)
	c.cfg.Objects.Salvage = false
	d := c.daemon()
	c.until("seen", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.seen) == 2 })
	d.mu.Lock()
	w := d.lookout.forApp(d.seen[0])
	d.mu.Unlock()
	defer w.close()
	early := 0
	for i := range 10 {
		c.dying.set(func(x *sparkExecutor) { x.unknown = i%2 == 0 })
		if _, err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.confirms {
			early++
		}
	}
	if early != 5 {
		t.Errorf("%d of 10 looks came early", early)
	}
}

func TestSituation(t *testing.T) {
	at := time.Now()
	of := func(ids ...string) *sighting {
		s := &sighting{newest: at, executors: map[string]bool{}}
		for _, id := range ids {
			s.executors[id] = true
		}
		return s
	}
	alive := []string{"1", "2"}
	if got := of("1", "2").situation(alive); got != "" {
		t.Errorf("all live: %q", got)
	}
	one, two, left := of("1", "3").situation(alive), of("3", "4").situation(alive), of("").situation(alive)
	if one == "" || two == "" || left == "" || one == two || one == left {
		t.Errorf("situations %q, %q, %q", one, two, left)
	}
	if later := (&sighting{newest: at.Add(time.Second), executors: map[string]bool{"3": true}}).situation(alive); later == one || later == "" {
		t.Errorf("with a newer manifest: %q", later)
	}
}
