package agent

import (
	"context"
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers"
)

// mirrorRig is a mirror whose applications copy nothing.
type mirrorRig struct {
	*mirror
	started []string
	running map[string]*mirrored
}

func newMirrorRig(mode string) *mirrorRig {
	rig := &mirrorRig{running: map[string]*mirrored{}}
	rig.mirror = newMirror(mode, zap.NewNop(), func(ctx context.Context, app string) *mirrored {
		a := &mirrored{id: app, poke: make(chan struct{}, 1), done: make(chan struct{}), stored: newStoredSet()}
		ctx, a.cancel = context.WithCancel(ctx)
		go func() {
			defer close(a.done)
			<-ctx.Done()
		}()
		rig.started = append(rig.started, app)
		rig.running[app] = a
		return a
	})
	return rig
}

func (r *mirrorRig) sees(t *testing.T, apps ...string) {
	t.Helper()
	var list []executor.Executor
	for i, app := range apps {
		list = append(list, executor.Executor{App: app, ID: "1", PID: 100 + i})
	}
	r.saw(t.Context(), list)
}

func (r *mirrorRig) stopped(app string) bool { return isClosed(r.running[app].done) }

func TestMirrorFollowsTheNode(t *testing.T) {
	r := newMirrorRig(config.MirrorAlways)
	r.sees(t, "a", "b")
	r.sees(t, "a", "b")
	if !slices.Contains(r.started, "a") || len(r.started) != 2 {
		t.Fatalf("started %v", r.started)
	}
	r.sees(t, "b")
	<-r.running["a"].done
	if r.stopped("b") {
		t.Error("an application that is still here was stopped")
	}
	r.close()
	if !r.stopped("b") {
		t.Error("closed, and still copying")
	}
}

func TestMirrorOnRebalance(t *testing.T) {
	r := newMirrorRig(config.MirrorOnRebalance)
	r.sees(t, "a")
	if len(r.started) != 0 {
		t.Fatal("started before any notice")
	}
	cordon := providers.Notice{ID: "c", Kind: providers.Cordon}
	rebalance := providers.Notice{ID: "r", Kind: providers.Rebalance}
	r.want(cordon)
	r.want(rebalance)
	r.sees(t, "a")
	if len(r.started) != 1 {
		t.Fatal("not started after a notice")
	}
	cordon.Withdrawn = true
	r.want(cordon)
	r.sees(t, "a")
	if r.stopped("a") {
		t.Fatal("stopped while another notice holds")
	}
	rebalance.Withdrawn = true
	r.want(rebalance)
	r.sees(t, "a")
	<-r.running["a"].done
}

func TestMirrorOff(t *testing.T) {
	r := newMirrorRig(config.MirrorOff)
	r.want(providers.Notice{ID: "r", Kind: providers.Rebalance})
	r.sees(t, "a")
	if len(r.started) != 0 {
		t.Error("started although it is off")
	}
}

// TestMirrorIsHeldInARescue: a rescue and a mirror must not both read the disk, and what was stored counts.
func TestMirrorIsHeldInARescue(t *testing.T) {
	r := newMirrorRig(config.MirrorAlways)
	r.sees(t, "a")
	mirrored, ref := r.running["a"], catalog.Ref{Shuffle: 1, Map: 2}
	mirrored.stored.add(ref, 10)
	stored, release := r.hold("a")
	<-mirrored.done
	mirrored.stored.add(catalog.Ref{Shuffle: 1, Map: 3}, 10) // it was under way
	if got := stored.refs(); !slices.Equal(got, []catalog.Ref{ref}) {
		t.Errorf("the rescue takes %v for stored", got)
	}
	_, releaseToo := r.hold("a") // by a second rescue
	release()
	release()
	r.sees(t, "a")
	if len(r.started) != 1 {
		t.Error("started again in the middle of a rescue")
	}
	releaseToo()
	r.sees(t, "a")
	if len(r.started) != 2 {
		t.Error("not started again after the rescue")
	}
	if none, _ := r.hold("never seen"); none.count() != 0 {
		t.Error("something is stored of an application that was never here")
	}
}
