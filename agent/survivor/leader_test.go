package survivor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// leases keep one Lease with optimistic concurrency, as the API server does.
type leases struct {
	mu      sync.Mutex
	lease   *lease
	version int
	away    map[string]bool // for whom there is no API server
}

// of is what one replica sees.
func (l *leases) of(who string) client { return view{l, who} }

type view struct {
	*leases
	who string
}

func (v view) Do(ctx context.Context, r kube.Request) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.away[v.who] {
		return fmt.Errorf("no route: %w", kube.ErrAway)
	}
	in, _ := r.In.(lease)
	switch {
	case r.Method == http.MethodGet && v.lease == nil:
		return &kube.StatusError{Code: http.StatusNotFound}
	case r.Method == http.MethodGet:
		text, _ := json.Marshal(v.lease)
		return json.Unmarshal(text, r.Out)
	case r.Method == http.MethodPost && v.lease != nil, r.Method == http.MethodPut && in.Metadata.ResourceVersion != strconv.Itoa(v.version):
		return &kube.StatusError{Code: http.StatusConflict}
	}
	v.version++
	in.Metadata.ResourceVersion = strconv.Itoa(v.version)
	v.lease = &in
	if r.Out != nil {
		*r.Out.(*lease) = in
	}
	return ctx.Err()
}

func (l *leases) cut(who string, away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away[who] = away
}

// replicas run until the test ends; stop ends one of them.
type replica struct {
	*elector
	stop func()
}

func (l *leases) replica(ctx context.Context, who string) *replica {
	e := newElector(l.of(who), "spark", who, zap.NewNop(), func(bool) {})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.run(ctx)
	}()
	return &replica{e, func() {
		cancel()
		<-done
	}}
}

func (r *replica) leading() bool {
	_, leads := r.lead()
	return leads
}

func TestOneLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{away: map[string]bool{}}
		a, b := l.replica(t.Context(), "a"), l.replica(t.Context(), "b")
		defer a.stop()
		defer b.stop()
		for range 300 {
			pause(t.Context(), time.Second)
			if a.leading() == b.leading() {
				t.Fatalf("both lead, or none: %v", a.leading())
			}
		}
		first, second := a, b
		if b.leading() {
			first, second = b, a
		}
		first.stop()
		first.release(t.Context())
		pause(t.Context(), 2*leaseRetry)
		if !second.leading() || first.leading() {
			t.Error("the other does not lead at once after the first has given the Lease back")
		}
	})
}

// TestLeaderIsCutOff: it stops before another begins, also when clocks run at different speed; and what it was doing ends.
func TestLeaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{away: map[string]bool{}}
		a := l.replica(t.Context(), "a")
		defer a.stop()
		synctest.Wait()
		term, leads := a.lead()
		if !leads {
			t.Fatal("it does not lead")
		}
		b := l.replica(t.Context(), "b")
		defer b.stop()
		pause(t.Context(), time.Minute)
		l.cut("a", true)
		cut, ended, begun := time.Now(), time.Duration(0), time.Duration(0)
		for begun == 0 && time.Since(cut) < time.Minute {
			pause(t.Context(), 50*time.Millisecond)
			if ended == 0 && !a.leading() {
				ended = time.Since(cut)
				synctest.Wait()
				if term.Err() == nil {
					t.Error("what it was doing goes on")
				}
			}
			if b.leading() {
				begun = time.Since(cut)
			}
		}
		if ended == 0 || begun-ended < (leaseDuration-renewDeadline)*4/5 {
			t.Errorf("the leader stopped after %v, the next one began after %v", ended, begun)
		}
		t.Logf("cut off: the leader stopped after %v, the next one began after %v", ended, begun)
		l.cut("a", false)
		pause(t.Context(), time.Minute)
		if a.leading() || !b.leading() {
			t.Error("the old leader leads again")
		}
	})
}

// TestWrittenTimesDoNotCount: a Lease from a clock that is years off is neither free nor held for ever.
func TestWrittenTimesDoNotCount(t *testing.T) {
	for name, written := range map[string]time.Time{"past": time.Unix(0, 0), "future": time.Now().AddDate(20, 0, 0)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &leases{away: map[string]bool{}, version: 1, lease: &lease{
					Metadata: leaseMeta{Name: LeaseName, ResourceVersion: "1"},
					Spec:     leaseSpec{Holder: "other", Seconds: 15, Renewed: micro(written)},
				}}
				a := l.replica(t.Context(), "a")
				defer a.stop()
				pause(t.Context(), leaseDuration-time.Second)
				if a.leading() {
					t.Error("it took a Lease that it had not seen unchanged for long enough")
				}
				pause(t.Context(), 3*leaseRetry)
				if !a.leading() {
					t.Error("it does not take a Lease that nobody renews")
				}
			})
		})
	}
}
