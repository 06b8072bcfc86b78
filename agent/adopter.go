package agent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	// expectEvery is how often the node is looked at while an executor with a claim is about to start, and expectFor how long.
	expectEvery = 500 * time.Millisecond
	expectFor   = 3 * time.Minute
	// changeEvery is how soon it is looked at again when pods change.
	changeEvery = 200 * time.Millisecond
	// adoptPause and adoptPauseMax are the pauses before an executor is asked again that is not ready yet; adoptTrouble is the one after its
	// driver did not do what it takes. adoptPatience is how long all that goes on.
	adoptPause, adoptPauseMax = 200 * time.Millisecond, time.Second
	adoptTrouble              = 5 * time.Second
	adoptPatience             = 15 * time.Minute
	// adoptTries is how often an adoption is made that leaves something behind.
	adoptTries = 3
)

// adopter makes count what earlier executors have left on claims that executors of this node have taken over. It does so once for each
// executor, as soon as that answers.
type adopter struct {
	*Agent

	runs sync.WaitGroup

	mu      sync.Mutex
	life    map[process]context.CancelFunc
	awaited map[string]time.Time // when pods were first seen whose executors are not, by uid
	paused  bool
	current map[*context.CancelFunc]bool // what a rescue ends
}

// process is the identity of a process.
type process struct {
	pid   int
	start uint64
}

func newAdopter(a *Agent) *adopter {
	return &adopter{Agent: a, life: map[process]context.CancelFunc{}, awaited: map[string]time.Time{}, current: map[*context.CancelFunc]bool{}}
}

// saw takes in what runs on this node now.
func (d *adopter) saw(ctx context.Context, list []executor.Executor) {
	if d.kube == nil || d.cfg.Kubernetes.Volumes.Adopt == config.AdoptOff {
		return
	}
	here := map[process]bool{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range list {
		p := process{e.PID, e.Start}
		here[p] = true
		if e.Manager == executor.Kubernetes && d.life[p] == nil {
			following, cancel := context.WithCancel(ctx)
			d.life[p] = cancel
			d.runs.Go(func() { d.follow(following, p) })
		}
	}
	for p, cancel := range d.life {
		if !here[p] {
			cancel()
			delete(d.life, p)
		}
	}
}

// close waits for what saw has started, whose context has ended.
func (d *adopter) close() { d.runs.Wait() }

// expects says whether an executor with a claim is about to start here, or has started and not all of it is known yet.
func (d *adopter) expects(list []executor.Executor) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	awaited, some := map[string]time.Time{}, false
	for _, p := range d.kube.Executors() {
		claims, _ := kubernetes.LocalClaims(p)
		if len(claims) == 0 || p.Over() || !p.Deleting.IsZero() ||
			slices.ContainsFunc(list, func(e executor.Executor) bool { return e.App == p.App && e.ID == p.Executor && !d.unknown(e) }) {
			continue
		}
		since, known := d.awaited[p.UID]
		if !known {
			since = time.Now()
		}
		awaited[p.UID] = since
		some = some || time.Since(since) < expectFor
	}
	d.awaited = awaited
	return some
}

// awaitScan pauses until it is time to look for executors again: soon, when one with a claim is about to start.
func (a *Agent) awaitScan(ctx context.Context, changed <-chan struct{}) error {
	wait := a.cfg.Scan
	if a.kube == nil || a.cfg.Kubernetes.Volumes.Adopt == config.AdoptOff {
		changed = nil
	} else {
		a.mu.Lock()
		list := a.seen
		a.mu.Unlock()
		if a.adopter.expects(list) {
			wait = min(wait, expectEvery)
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
		return pause(ctx, changeEvery)
	case <-a.wake:
		return nil
	case <-timer.C:
		return nil
	}
}

// rescuing stops adoptions while this node is rescued: what is adopted here would have to leave at once.
func (d *adopter) rescuing(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = on
	for cancel := range d.current {
		if on {
			(*cancel)()
		}
	}
}

// begin is false while this node is rescued. Until end is called a rescue cancels what has begun.
func (d *adopter) begin(cancel context.CancelFunc) (end func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused {
		return nil, false
	}
	key := &cancel
	d.current[key] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.current, key)
	}, true
}

// unknown says that what an executor speaks is not known yet: a JVM that has just started has not opened its jars.
func (d *adopter) unknown(e executor.Executor) bool {
	return e.Spark == "" && d.cfg.Spark.Dialect == config.DialectAuto
}

var (
	errNotNow     = errors.New("this node is being rescued")
	errNoPod      = errors.New("its pod is not known yet")
	errNoVersion  = errors.New("its version of Spark is not known yet")
	errLeftBehind = errors.New("not all could be adopted")
	errNotBegun   = errors.New("the adoption could not begin")
	errLater      = errors.New("the adoption did not come to its end")
)

// follow adopts for one executor, until that is done or pointless. It then looks after what it has adopted.
func (d *adopter) follow(ctx context.Context, p process) {
	patience, cancel := context.WithTimeout(ctx, adoptPatience)
	defer cancel()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = adoptPause, adoptPauseMax
	last, tries := "", 0
	for {
		e, here := d.lookup(p)
		if !here {
			return
		}
		a, err := d.adopt(patience, e)
		if errors.Is(err, errLeftBehind) {
			tries++
		}
		over := err == nil || ctx.Err() != nil || tries == adoptTries
		if a != nil {
			if over {
				a.to.keep(ctx, a.outputs, d.log.With(zap.String("app", e.App), zap.String("executor", e.ID)))
			}
			a.close()
		}
		if over {
			return
		}
		if text := err.Error(); text != last {
			last = text
			d.log.Info("nothing adopted yet", zap.String("app", e.App), zap.String("executor", e.ID), zap.Error(err))
		}
		wait := pauses.NextBackOff()
		if errors.Is(err, errNotBegun) || errors.Is(err, errLeftBehind) {
			wait = adoptTrouble
		}
		if pause(patience, wait) != nil {
			return
		}
	}
}

// lookup is an executor as the last look at the node has found it: some of it is known only later.
func (d *adopter) lookup(p process) (executor.Executor, bool) {
	d.Agent.mu.Lock()
	defer d.Agent.mu.Unlock()
	i := slices.IndexFunc(d.seen, func(e executor.Executor) bool { return e.PID == p.pid && e.Start == p.start })
	if i < 0 {
		return executor.Executor{}, false
	}
	return d.seen[i], true
}

// adopt makes one attempt. What it has adopted is still open; nil: there was nothing to do.
func (d *adopter) adopt(ctx context.Context, e executor.Executor) (*adoption, error) {
	pod, ok := d.kube.PodOf(e)
	if !ok {
		return nil, errNoPod
	}
	claims, _ := kubernetes.LocalClaims(pod)
	dirs := dirsOn(e.LocalDirs, claims)
	if len(dirs) == 0 || d.leaves(e) {
		return nil, nil
	}
	if d.unknown(e) {
		return nil, errNoVersion
	}
	ctx, cancel := context.WithTimeout(ctx, adoptionTime)
	defer cancel()
	end, ok := d.begin(cancel)
	if !ok {
		return nil, errNotNow
	}
	defer end()
	a, err := d.openAdoption(ctx, e, dirs)
	if errors.Is(err, ErrNothingLeft) {
		d.log.Info("nothing to adopt", zap.String("app", e.App), zap.String("executor", e.ID), zap.Error(err))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a.to.notes = append(a.to.notes, claimNote(pod, claims))
	until, _ := ctx.Deadline()
	rep, err := a.run(ctx, AdoptRequest{Deadline: until})
	if rep == nil || rep.Interrupted {
		a.close()
		return nil, errors.Join(errLater, err)
	}
	if err != nil {
		d.log.Warn("adoption not recorded", zap.String("adoption", rep.ID), zap.Error(err))
	}
	if why := failureOf(rep); why != "" {
		a.close()
		return nil, fmt.Errorf("%w: %s", errNotBegun, why)
	}
	d.tell(pod, claims, rep)
	if _, _, lost := rep.Total(); lost.Outputs > 0 {
		return a, fmt.Errorf("%w: see report %s", errLeftBehind, rep.ID)
	}
	return a, nil
}

// failureOf is why nothing could be done.
func failureOf(rep *report.Report) string {
	for _, a := range rep.Applications {
		if a.Error != "" {
			return a.Error
		}
	}
	return ""
}

// leaves says that the executor's driver was told of its end: what it has goes elsewhere.
func (d *adopter) leaves(e executor.Executor) bool {
	_, told := d.store.Told(recentRescues)[journal.Executor{App: e.App, ID: e.ID}]
	return told
}

// dirsOn are the local dirs that lie on one of the claims.
func dirsOn(dirs []string, claims []kube.ClaimMount) []string {
	var on []string
	for _, dir := range dirs {
		clean := path.Clean(dir) + "/"
		if slices.ContainsFunc(claims, func(c kube.ClaimMount) bool {
			return strings.HasPrefix(clean, strings.TrimSuffix(path.Clean(c.Path), "/")+"/")
		}) {
			on = append(on, dir)
		}
	}
	return on
}

// claimNote names the claims in the report.
func claimNote(pod kube.Pod, claims []kube.ClaimMount) string {
	return fmt.Sprintf("adopted by executor %s, pod %s/%s, from %s", pod.Executor, pod.Namespace, pod.Name, claimNames(claims))
}

func claimNames(claims []kube.ClaimMount) string {
	names := make([]string, len(claims))
	for i, c := range claims {
		names[i] = c.Claim
	}
	word := "claim "
	if len(names) > 1 {
		word = "claims "
	}
	return word + strings.Join(names, ", ")
}

// tell says on the executor's and the driver's pod what was adopted.
func (d *adopter) tell(pod kube.Pod, claims []kube.ClaimMount, rep *report.Report) {
	_, saved, lost := rep.Total()
	if saved.Outputs == 0 {
		return
	}
	text := fmt.Sprintf("%d map outputs (%s) that an earlier executor left on %s count at executor %s", saved.Outputs, report.Bytes(saved.Bytes), claimNames(claims), pod.Executor)
	if lost.Outputs > 0 {
		text += fmt.Sprintf("; %d do not", lost.Outputs)
	}
	d.kube.Tell(rep.ID, kubernetes.Adopted, text+" (report "+rep.ID+")", kubernetes.PodObject(pod), kubernetes.DriverObject(pod))
}
