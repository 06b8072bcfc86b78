package agent

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// rediscoverEvery is how often a node that goes is looked at for new executors.
const rediscoverEvery = time.Second

// watchNode looks for executors that are started here while the rescue runs: a standalone master may do
// so as long as the worker is not decommissioned, and those of some pods may be starting.
func (r *rescue) watchNode(ctx, rescueCtx context.Context, bound map[string]bool) {
	timer := time.NewTicker(rediscoverEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			r.adopt(rescueCtx, r.discover(ctx))
		case <-r.gate.quiet.c:
			until := time.Now().Add(min(podStart, r.untilTaken()/2))
			for every := launchTime; pause(ctx, every) == nil; every = rediscoverEvery {
				r.adopt(rescueCtx, r.discover(ctx))
				if !r.expects(bound) || time.Now().After(until) {
					r.gate.watched.set()
					return
				}
			}
			return
		}
	}
}

// podStart is how long a pod that was bound to this node before it was cordoned may take to start its executor, and no longer than half
// of the time that is left. The rescue is not over before; nothing else waits.
const podStart = 30 * time.Second

// boundPods are the pods of executors here, by their uids, of a node that gets no others.
func (r *rescue) boundPods() map[string]bool {
	if !r.marksNode() || !r.cfg.Kubernetes.Cordon {
		return nil
	}
	bound := map[string]bool{}
	for _, p := range r.kube.Executors() {
		bound[p.UID] = true
	}
	return bound
}

// expects says whether an executor is about to start in one of some pods: its process was not seen yet.
func (r *rescue) expects(bound map[string]bool) bool {
	return slices.ContainsFunc(r.kube.Executors(), func(p kube.Pod) bool {
		a := r.lookup(p.App)
		return bound[p.UID] && !p.Over() && !p.Leaving() && (a == nil || !a.has(executor.Executor{ID: p.Executor}))
	})
}

// adopt hands executors that are new to their applications.
func (r *rescue) adopt(ctx context.Context, found executor.Found) {
	r.adopting.Lock()
	defer r.adopting.Unlock()
	for _, e := range found.Executors {
		if !r.concerns(e) {
			continue
		}
		a := r.lookup(e.App)
		switch {
		case a == nil:
			r.adoptApplication(ctx, e)
		case !a.has(e):
			select {
			case a.arrivals <- e:
			default: // the next look finds it again
			}
		}
	}
}

// adoptApplication begins the rescue of an application that had nothing here when this rescue began.
func (r *rescue) adoptApplication(ctx context.Context, e executor.Executor) {
	m, err := newMember(e, true)
	if err != nil {
		r.log.Info("new executor vanished", zap.String("app", e.App), zap.String("executor", e.ID), zap.Error(err))
		return
	}
	a := r.application(e.App)
	a.join(m)
	r.start(ctx, a)
}

// has is true for an executor that is a member already. An executor's id is never used twice.
func (a *application) has(e executor.Executor) bool {
	return slices.ContainsFunc(a.snapshot(), func(m *member) bool { return m.ID == e.ID })
}

// adoptLate takes in executors that were started here after the rescue had begun, until stop is closed, and
// returns when they have ended.
func (a *application) adoptLate(ctx, copyCtx context.Context, stop <-chan struct{}) {
	var releases errgroup.Group
	defer func() { _ = releases.Wait() }()
	for {
		select {
		case e := <-a.arrivals:
			a.arrived(ctx, copyCtx, e, &releases)
			continue
		default:
		}
		select {
		case e := <-a.arrivals:
			a.arrived(ctx, copyCtx, e, &releases)
		case <-stop:
			if len(a.arrivals) == 0 {
				return
			}
		case <-copyCtx.Done():
			return
		}
	}
}

// arrived makes a new executor a member; one that several looks have found is one.
func (a *application) arrived(ctx, copyCtx context.Context, e executor.Executor, releases *errgroup.Group) {
	if a.has(e) {
		return
	}
	m, err := newMember(e, true)
	if err != nil {
		a.log.Info("new executor vanished", zap.String("executor", e.ID), zap.Error(err))
		return
	}
	a.join(m)
	a.adoptPinned(a.takePinned(m))
	if err := a.store.Add(a.root(m)); err != nil {
		a.log.Warn("files of new executor not in reach", zap.String("executor", e.ID), zap.Error(err))
	}
	releases.Go(func() error { a.releaseLate(ctx, copyCtx, m); return nil })
}

// releaseLate tells the driver of a new executor, follows its files and ends it. As long as the master starts new
// ones in its place, that is not before the deadline.
func (a *application) releaseLate(ctx, copyCtx context.Context, m *member) {
	if err := a.tellOne(copyCtx, m); err != nil {
		a.log.Warn("driver not told of new executor", zap.String("executor", m.ID), zap.Error(err))
		return
	}
	a.scan(copyCtx)
	a.release(ctx, copyCtx, m)
}

// newMember opens the process of an executor, sure that it is the one that was discovered.
func newMember(e executor.Executor, late bool) (*member, error) {
	p, err := executor.Open(e.PID, e.Start)
	if err != nil {
		return nil, err
	}
	return &member{Executor: e, process: p, late: late, rddBlocks: -1}, nil
}

func (a *application) join(m *member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.members = append(a.members, m)
}
