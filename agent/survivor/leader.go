package survivor

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// LeaseName is the Lease that the replicas share, in their own namespace.
const LeaseName = "lifeboat-survivor"

// Times of the election, those of client-go's tools/leaderelection.
const (
	// leaseDuration is how long a replica that is not the leader must have seen the Lease unchanged before it takes it.
	leaseDuration = 15 * time.Second
	// renewDeadline is how long after its last renewal a leader stops to act. The difference to leaseDuration is what clocks
	// that run at different speed may cost.
	renewDeadline = 10 * time.Second
	// leaseRetry is the pause between attempts.
	leaseRetry = 2 * time.Second
)

// client makes requests to the API server; *kube.Cluster does.
type client interface {
	Do(ctx context.Context, r kube.Request) error
}

// elector takes part in the election of a leader, as client-go's tools/leaderelection does, which needs the typed clientset: with
// it the program is 15 MB larger, and every agent takes 10 MiB more. Only what it sees change counts, by its own clock: times that others have
// written are never compared with it. So clocks may differ by any amount.
type elector struct {
	api      client
	path     string // of the leases of the namespace
	identity string // no other process has the same, also not one of the same pod
	log      *zap.Logger
	leads    func(bool) // told when it has changed
	retry    time.Duration

	// Only attempts use these.
	own  *lease    // as this replica has written it last
	beat string    // the Lease as seen last
	seen time.Time // when it was seen first like this

	mu      sync.Mutex
	term    *term
	trouble error
}

// term is the time as a leader, which ends by itself when it is not renewed.
type term struct {
	ctx   context.Context
	end   context.CancelCauseFunc
	timer *time.Timer
	until time.Time
}

// over says that the term has ended. The clock on the wall counts too: the other one may stand still while a machine is suspended.
func (t *term) over(now time.Time) bool {
	return !now.Before(t.until) || !now.Round(0).Before(t.until.Round(0))
}

// errTermOver ends what a leader was doing.
var errTermOver = errors.New("no longer the leader")

func newElector(api client, namespace, identity string, log *zap.Logger, leads func(bool)) *elector {
	return &elector{
		api: api, path: "/apis/coordination.k8s.io/v1/namespaces/" + url.PathEscape(namespace) + "/leases", identity: identity,
		log: log, leads: leads, retry: leaseRetry,
	}
}

// lease is what is used of a Lease of coordination.k8s.io/v1.
type lease struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Metadata   leaseMeta `json:"metadata"`
	Spec       leaseSpec `json:"spec"`
}

type leaseMeta struct {
	Name            string            `json:"name"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
}

type leaseSpec struct {
	Holder      string `json:"holderIdentity"`
	Seconds     int    `json:"leaseDurationSeconds"`
	Acquired    string `json:"acquireTime,omitempty"`
	Renewed     string `json:"renewTime,omitempty"`
	Transitions int    `json:"leaseTransitions"`
}

// run takes part until ctx ends, and with it the term; release gives the Lease back.
func (e *elector) run(ctx context.Context) {
	for {
		e.attempt(ctx)
		timer := time.NewTimer(e.retry)
		select {
		case <-ctx.Done():
			timer.Stop()
			e.end()
			return
		case <-timer.C:
		}
	}
}

// lead returns the context of the present term; false when another leads, or nobody does.
func (e *elector) lead() (context.Context, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.term == nil || e.term.over(time.Now()) {
		return nil, false
	}
	return e.term.ctx, true
}

// error says why this replica can't take part; nil when it can.
func (e *elector) error() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trouble
}

// attempt takes or renews the Lease, if it is free or its own.
func (e *elector) attempt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline/2)
	defer cancel()
	began := time.Now() // whatever the answer tells was so then, or later
	got, err := e.acquire(ctx)
	raced := errors.Is(err, kube.ErrConflict)
	if raced {
		err = nil
	}
	e.mu.Lock()
	changed := (err == nil) != (e.trouble == nil)
	e.trouble = err
	e.mu.Unlock()
	if err != nil && changed && ctx.Err() == nil {
		e.log.Warn("the Lease of the survivors can't be read or written", zap.Error(err))
	}
	switch {
	case err != nil, raced: // the term ends by itself; who was faster, the next attempt reads
	case got:
		e.extend(began.Add(renewDeadline))
	default:
		e.end()
	}
}

// acquire reads the Lease, and writes it when that is right. A leader writes at once: its version says whether somebody else has.
func (e *elector) acquire(ctx context.Context) (bool, error) {
	now := time.Now()
	if mine := e.own; mine != nil {
		e.own = nil
		if _, leads := e.lead(); leads {
			e.claim(mine, now)
			return true, e.put(ctx, mine)
		}
	}
	var l lease
	err := e.api.Do(ctx, kube.Request{Method: http.MethodGet, Path: e.path + "/" + LeaseName, Out: &l})
	switch {
	case errors.Is(err, kube.ErrNotFound):
		fresh := lease{Metadata: leaseMeta{Name: LeaseName}}
		e.claim(&fresh, now)
		return true, e.api.Do(ctx, kube.Request{Method: http.MethodPost, Path: e.path, In: fresh})
	case err != nil:
		return false, err
	case !e.free(&l, now):
		return false, nil
	}
	e.claim(&l, now)
	return true, e.put(ctx, &l)
}

// put writes a Lease that is as it was read.
func (e *elector) put(ctx context.Context, l *lease) error {
	var written lease
	if err := e.api.Do(ctx, kube.Request{Method: http.MethodPut, Path: e.path + "/" + LeaseName, In: *l, Out: &written}); err != nil {
		return err
	}
	e.own = &written
	return nil
}

// free says whether this replica may take the Lease, which it has begun to read at asked. Of what is new the end of the reading
// counts, of what is the same its beginning: a slow answer only makes the wait longer.
func (e *elector) free(l *lease, asked time.Time) bool {
	if beat := l.Metadata.ResourceVersion + l.Spec.Holder; beat != e.beat {
		e.beat, e.seen = beat, time.Now()
	}
	patience := max(leaseDuration, min(time.Duration(l.Spec.Seconds)*time.Second, time.Minute))
	return l.Spec.Holder == "" || l.Spec.Holder == e.identity || asked.Sub(e.seen) >= patience
}

// claim writes this replica's name into a Lease. Its version is that which was read: who writes meanwhile wins.
func (e *elector) claim(l *lease, now time.Time) {
	l.APIVersion, l.Kind = "coordination.k8s.io/v1", "Lease"
	if l.Spec.Holder != e.identity {
		l.Spec.Acquired = micro(now)
		if l.Spec.Holder != "" {
			l.Spec.Transitions++
		}
	}
	l.Spec.Holder, l.Spec.Seconds, l.Spec.Renewed = e.identity, int(leaseDuration/time.Second), micro(now)
}

// micro is a time as metav1.MicroTime reads it: with six digits of the second's fraction, no less.
func micro(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

// extend begins a term, or makes it longer.
func (e *elector) extend(until time.Time) {
	e.mu.Lock()
	began := e.term == nil || e.term.ctx.Err() != nil
	if began {
		ctx, end := context.WithCancelCause(context.Background())
		e.term = &term{ctx: ctx, end: end, timer: time.AfterFunc(time.Until(until), e.expire)}
	}
	e.term.until = until
	e.term.timer.Reset(time.Until(until))
	e.mu.Unlock()
	if began {
		e.tell(true)
	}
}

// expire ends a term that was not renewed.
func (e *elector) expire() {
	e.mu.Lock()
	over := e.term != nil && e.term.over(time.Now())
	e.mu.Unlock()
	if over {
		e.end()
	}
}

// end ends the term, if there is one.
func (e *elector) end() {
	e.mu.Lock()
	t := e.term
	e.term = nil
	e.mu.Unlock()
	if t != nil {
		t.timer.Stop()
		t.end(errTermOver)
		e.tell(false)
	}
}

func (e *elector) tell(leads bool) {
	e.log.Info("leadership of the survivors", zap.Bool("leader", leads), zap.String("identity", e.identity))
	e.leads(leads)
}

// release lets the Lease go, so that another replica need not wait. It comes after everything that a leader does has ended.
func (e *elector) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseRetry)
	defer cancel()
	var l lease
	err := e.api.Do(ctx, kube.Request{Method: http.MethodGet, Path: e.path + "/" + LeaseName, Out: &l})
	if err == nil && l.Spec.Holder == e.identity {
		l.Spec.Holder, l.Spec.Seconds, l.Spec.Renewed = "", 1, micro(time.Now())
		err = e.api.Do(ctx, kube.Request{Method: http.MethodPut, Path: e.path + "/" + LeaseName, In: l})
	}
	if err != nil {
		e.log.Info("the Lease of the survivors was not given back: the next leader has to wait", zap.Error(err))
	}
}
