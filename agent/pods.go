package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// podDialer finds drivers by their pods where Kubernetes is known.
type podDialer struct {
	next  wire.Dialer
	agent *Agent
}

// DialContext connects; see kubernetes.Client.Dial.
func (d *podDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.agent.kube.Dial(ctx, d.next, network, address)
}

// noticeStands says whether any source shows a notice for this node.
func (a *Agent) noticeStands() bool {
	return slices.ContainsFunc(a.watched(), func(s providers.Source) bool {
		sight, ok := s.(providers.Sight)
		return ok && slices.ContainsFunc(sight.Notices(), func(n providers.Notice) bool { return groupOf(n).whole() && !n.Drill })
	})
}

// pod is the pod of an executor as it is known now, or as it was last.
func (a *application) pod(m *member) (kube.Pod, bool) {
	p, known := a.kube.PodOf(m.Executor)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case known:
		m.pod = p
	case m.pod.UID == "":
		return kube.Pod{}, false
	case a.kube != nil: // it is no more
		if m.pod.Deleting.IsZero() {
			m.pod.Deleting = time.Now()
		}
	}
	return m.pod, true
}

// anyPod is the pod of one of the application's executors on this node.
func (a *application) anyPod() (kube.Pod, bool) {
	for _, m := range a.snapshot() {
		if p, known := a.pod(m); known {
			return p, true
		}
	}
	for _, p := range a.kube.Executors() {
		if p.App == a.id {
			return p, true
		}
	}
	return kube.Pod{}, false
}

// driverIsHere says whether the driver's pod runs on this node.
func (a *application) driverIsHere() bool {
	p, known := a.anyPod()
	if !known {
		return false
	}
	_, node, known := a.kube.DriverAddress(p)
	return known && node == a.kube.Name()
}

// allowance is the time that something may take in all.
type allowance struct {
	mu   sync.Mutex
	left time.Duration
}

// take is a context that ends when the allowance is used up. The time until done is called is used.
func (l *allowance) take(ctx context.Context) (_ context.Context, done func()) {
	l.mu.Lock()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.left)
	return ctx, func() {
		defer l.mu.Unlock()
		cancel()
		l.left = max(l.left-time.Since(began), 0)
	}
}

// apiTime is how long an answer of the API server is waited for: up to the first copy, so long in all.
func (a *application) apiTime(ctx context.Context) (context.Context, func()) {
	if isClosed(a.told) {
		return context.WithTimeout(ctx, kubernetes.Patience)
	}
	return a.patience.take(ctx)
}

// chooseSpared chooses among living executors those whose nodes stay, as far as that is known or can be learned in time: what is
// sent to the others would have to be rescued again.
func (a *application) chooseSpared(ctx context.Context, living []java.BlockManagerID) []java.BlockManagerID {
	most := a.cfg.Migrate.MaxPeers
	var spared []java.BlockManagerID
	for range spareRounds {
		batch := a.choose(living)
		if len(batch) == 0 || len(spared) >= most {
			break
		}
		spared = append(spared, a.spared(ctx, batch)...)
		living = slices.DeleteFunc(slices.Clone(living), func(id java.BlockManagerID) bool { return slices.Contains(batch, id) })
	}
	return spared[:min(len(spared), most)]
}

// spareRounds bounds how many nodes are asked about: migrate.maxPeers executors in each.
const spareRounds = 4

// spared drops those executors whose nodes go too.
func (a *application) spared(ctx context.Context, list []java.BlockManagerID) []java.BlockManagerID {
	p, known := a.anyPod()
	if !known {
		return list
	}
	hosts := make([]string, len(list))
	for i, id := range list {
		hosts[i] = id.Host
	}
	ctx, done := a.apiTime(ctx)
	at, err := a.kube.Peers(ctx, p.Namespace, p.App, hosts)
	done()
	if err != nil {
		a.log.Info("not all is known of the peers' nodes", zap.Error(err))
	}
	return slices.DeleteFunc(slices.Clone(list), func(id java.BlockManagerID) bool {
		on := at[id.Host]
		if a.learnDoom(targetOf(id), on.Doomed) {
			a.log.Info("peer not used", zap.String("executor", id.Executor), zap.String("node", on.Node), zap.String("because", on.Doomed))
		}
		return on.Doomed != ""
	})
}

// doomedInUse are those of some living executors that have been used, and whose nodes go: what they hold counts as long as nothing
// else takes it.
func (a *application) doomedInUse(living []java.BlockManagerID) []java.BlockManagerID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(living), func(id java.BlockManagerID) bool {
		return a.peers[targetOf(id)] == nil || a.doomed[targetOf(id)] == ""
	})
}

// learnDoom notes why a peer is not used, and is true when that is new.
func (a *application) learnDoom(t migrate.Target, why string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.doomed[t]
	a.doomed[t] = why
	return why != "" && before == ""
}

// errDoomed: see chooseSpared.
var errDoomed = fmt.Errorf("%w: the nodes of all others go too", errNoPeer)

// noPeer is why none of some living executors is used.
func (a *application) noPeer(list []java.BlockManagerID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.ContainsFunc(list, func(id java.BlockManagerID) bool { return a.doomed[targetOf(id)] != "" }) {
		return errDoomed
	}
	return errNoPeer
}

// leavesByItself says that the executor decommissions itself. mu is held.
func (m *member) leavesByItself() bool { return m.trigger == triggerSIGPWR || m.trigger == triggerHook }

const (
	// decommissionScript is what the preStop hook runs that Spark gives its executors' pods
	// (spark.kubernetes.decommission.script; org.apache.spark.deploy.k8s.features.BasicExecutorFeatureStep, 3.4 to 4.3).
	decommissionScript = "/opt/decom.sh"
	// deletionPatience is how long a pod may take to be deleted whose end was announced.
	deletionPatience = 2 * time.Second
)

// hookTells says that the preStop hook of the executor's pod tells the driver, as it runs now or in a moment. Whatever else told
// it first, the hook's signal would end the JVM at once.
func (a *application) hookTells(ctx context.Context, m *member) bool {
	p, known := a.pod(m)
	script := cmp.Or(a.props["spark.kubernetes.decommission.script"], decommissionScript)
	if !known || !a.isOn("spark.decommission.enabled") || !slices.Contains(p.Hook, script) {
		return false
	}
	if p.Disrupted != "" && !p.Leaving() {
		ctx, cancel := context.WithTimeout(ctx, min(deletionPatience, a.untilTaken()/marginShare))
		defer cancel()
		return a.kube.AwaitLeaving(ctx, p.UID)
	}
	return p.Leaving() || a.kube.ShuttingDown()
}

// awaitHook waits until the hook has told the driver. What comes late is no reason to tell it otherwise: see hookTells.
func (a *application) awaitHook(ctx context.Context, m *member) (accepted bool, err error) {
	witnesses := a.witnesses(ctx, m)
	if len(witnesses) == 0 && m.located() {
		return true, nil
	}
	if !a.awaitMarked(ctx, m, witnesses) {
		a.log.Warn("the driver does not show the executor as leaving after its pod's hook; going on", zap.String("executor", m.ID))
	}
	return true, nil
}

// endedByPod is how reports call the end of an executor whose pod was deleted.
const endedByPod = "pod deleted"

// endPod deletes the executor's pod, so that Spark does not take its end for a failure, and says so; "" when only a signal
// can end it: its pod is being deleted already, or the API server does not answer in time. Nothing is deleted before the
// scheduler keeps the next executor off this node.
func (a *application) endPod(ctx context.Context, m *member) string {
	p, known := a.pod(m)
	if !known || !a.kube.DeletesPods() || p.Over() {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, min(kubernetes.Patience, a.untilTaken()/marginShare))
	defer cancel()
	if !p.Deleting.IsZero() {
		a.failPod(m, p, false)
	}
	if p.Leaving() { // also one that the kubelet ends as the node shuts down, which is not being deleted
		return ""
	}
	var err error
	if a.marksNode() {
		if err = a.kube.AwaitMark(ctx); errors.Is(err, kube.ErrForbidden) {
			err = nil // waiting does not help
		}
	}
	if err == nil {
		err = a.kube.EndPod(ctx, p, a.journal.ID())
	}
	if err != nil {
		a.log.Warn("executor's pod not deleted: it is ended by a signal, and Spark may count that as a failure",
			zap.String("executor", m.ID), zap.Error(err))
		return ""
	}
	a.failPod(m, p, true)
	return endedByPod
}

// failPod has Spark see a pod that is being deleted as deleted before its process ends. Only one that was deleted here is dropped:
// whoever has deleted another may count on its grace period, for its other containers. What the deletion took of the
// executor's time is not taken from this.
func (a *application) failPod(m *member, p kube.Pod, drop bool) {
	ctx, cancel := context.WithTimeout(a.life, min(kubernetes.Patience, a.untilTaken()/marginShare))
	defer cancel()
	err := a.kube.FailPod(ctx, p, a.journal.ID())
	if err == nil && drop {
		err = a.kube.DropPod(ctx, p)
	}
	if err != nil {
		a.log.Info("executor's pod does not show yet that it has ended: Spark may count a failure", zap.String("executor", m.ID), zap.Error(err))
	}
}

// nodeRescue is what the node's mark says of this rescue.
func (r *rescue) nodeRescue() kubernetes.Rescue {
	return kubernetes.Rescue{Report: r.journal.ID(), Deadline: r.taken(), By: r.main().ID}
}

// marksNode says whether the node is marked for this rescue: all of it goes, and nobody is only trying out.
func (r *rescue) marksNode() bool {
	return r.wholeNode() && !r.dryRun && !r.leftover && r.salvage == nil && !r.main().Drill
}
