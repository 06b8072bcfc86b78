package agent

import (
	"context"
	"time"

	"go.uber.org/zap"

	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	// firstSync is how long the disks may take that are synced while copies run.
	firstSync = 20 * time.Second
	// markTime is the most that an executor's end waits for its disks to be synced and its claims to be marked.
	markTime = 2 * time.Second
)

// claimsOf are the claims at the executor's local dirs, where they are to be marked. whole says that all of its local dirs
// lie on them.
func (a *application) claimsOf(m *member) (pod kube.Pod, claims []kube.ClaimMount, whole bool) {
	if !a.tells() || !a.cfg.Kubernetes.Volumes.Mark {
		return kube.Pod{}, nil, false
	}
	pod, known := a.pod(m)
	if !known {
		return kube.Pod{}, nil, false
	}
	claims, whole = kubernetes.LocalClaims(pod)
	return pod, claims, whole
}

// syncVolumes begins to write to disk what lies on claims: they are the second net, under the copies, also when nothing is left
// of the node but them. Nobody waits for it.
func (a *application) syncVolumes(ctx context.Context) {
	for _, m := range a.snapshot() {
		if _, claims, _ := a.claimsOf(m); len(claims) > 0 {
			a.helpers.Go(func() {
				short, cancel := context.WithTimeout(ctx, min(firstSync, a.untilTaken()/2))
				defer cancel()
				_ = a.sync(short, m) // it is done again before anything is said about it
			})
		}
	}
}

func (a *application) sync(ctx context.Context, m *member) error {
	a.mu.Lock()
	store := a.store
	a.mu.Unlock()
	if store == nil {
		return errNothing
	}
	began := time.Now()
	_, claims, _ := a.claimsOf(m)
	err := store.Sync(ctx, m.PID, dirsOn(m.LocalDirs, claims)) // the node's own disk may have much to write
	if err != nil && ctx.Err() == nil || time.Since(began) > markTime {
		a.log.Warn("volumes synced", zap.String("executor", m.ID), zap.Duration("took", time.Since(began)), zap.Error(err))
	}
	return err
}

// markVolumes says on the claims of an executor that is about to end which map outputs they hold, so that its replacement
// can use them, and hides those that no replacement can have. safe says that its last task had ended and nothing is missing.
// What the API server does not take in time is marked later; the executor is not kept for it.
func (a *application) markVolumes(ctx context.Context, m *member, safe bool) {
	a.markClaims(ctx, m, safe, a.hidesClaims())
}

// markLeft says the same of executors for which nothing else can be done, as long as they live: their claims are all that may
// be left of them. Nothing is hidden, since nobody was told that they go.
func (a *application) markLeft(ctx context.Context) {
	if a.interrupted() || a.driverless() {
		return
	}
	for _, m := range a.snapshot() {
		a.markClaims(ctx, m, false, false)
	}
}

func (a *application) markClaims(ctx context.Context, m *member, safe, hide bool) {
	pod, claims, whole := a.claimsOf(m)
	if len(claims) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(markTime, a.untilTaken()/marginShare))
	defer cancel()
	synced := a.sync(ctx, m) == nil
	outputs, clean := a.onDisk(ctx, m)
	list, cut := kubernetes.FormatOutputs(outputs)
	mark := kubernetes.ClaimMark{
		Namespace: pod.Namespace, App: a.id, Executor: m.ID, Driver: pod.Driver, Report: a.journal.ID(), At: time.Now(),
		Outputs: list, Complete: safe && synced && whole && clean && !cut, Hide: hide,
	}
	var pending []func(context.Context) error
	for _, c := range claims {
		mark.Claim, mark.Part = c.Claim, c.SubPath != ""
		pending = append(pending, a.kube.MarkClaim(mark))
	}
	if !a.kube.Reachable() {
		return
	}
	for _, await := range pending {
		if err := await(ctx); err != nil {
			a.log.Info("claim not marked yet", zap.String("executor", m.ID), zap.Error(err))
		}
	}
}

// handOver lets go of the disks of an executor that has ended with everything safe, so that they can leave the node. If the
// copies were lost after that, the disks would be what is left: an executor that has a local dir on none keeps its files open.
func (a *application) handOver(m *member) {
	if _, claims, whole := a.claimsOf(m); len(claims) == 0 || !whole || !m.gone() {
		return
	}
	a.scanning.Lock()
	defer a.scanning.Unlock()
	a.mu.Lock()
	store := a.store
	a.mu.Unlock()
	if store != nil {
		store.LetGo(m.PID)
	}
}

// onDisk are the map outputs of an executor that lie here whole. clean says that it has left no others.
func (a *application) onDisk(ctx context.Context, m *member) (ids []migrate.OutputID, clean bool) {
	clean = true
	gone := a.removed(ctx)
	for _, r := range a.engine.Results() {
		switch {
		case r.Output.Executor != m.ID:
		case r.Reason == migrate.ReasonCorrupt, gone[r.Output.ID]:
			clean = false
		default:
			ids = append(ids, r.Output.ID)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := func(folder string) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.folders == nil || m.folders[folder]
	}
	for _, s := range a.skipped {
		clean = clean && !mine(s.Folder)
	}
	return ids, clean && a.unread == nil
}

// removed are the map outputs that are open, but no longer on a disk.
func (a *application) removed(ctx context.Context) map[migrate.OutputID]bool {
	a.mu.Lock()
	store := a.store
	a.mu.Unlock()
	gone := map[migrate.OutputID]bool{}
	if store != nil {
		for _, id := range store.Gone(ctx) {
			gone[id] = true
		}
	}
	return gone
}

// hidesClaims says that a claim which can't leave the node is to be hidden from Spark: when all of the node goes, Spark would
// take it for another executor, and that one would wait for this node. A driver that waits for its claims to become free waits
// for one that was hidden all the same (ExecutorPodsAllocator, 3.5.9), so there it is left as it is.
func (a *application) hidesClaims() bool {
	const reuse, wait = "spark.kubernetes.driver.reusePersistentVolumeClaim", "spark.kubernetes.driver.waitToReusePersistentVolumeClaim"
	return a.cfg.Kubernetes.Volumes.Hide && a.wholeNode() && !a.main().Drill && !a.isOn(wait) && (a.props[reuse] == "" || a.isOn(reuse))
}
