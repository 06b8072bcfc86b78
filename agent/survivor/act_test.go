package survivor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// world is one node with its Lease and its pods, as the API server has them, and what was asked of it.
type world struct {
	mu     sync.Mutex
	member kube.Member
	gone   bool
	lease  leaseSpec
	pods   map[string]pod // by uid
	asked  []string
	// before is called before each request, and may change anything or refuse it.
	before func(w *world, what string) error
}

func newWorld(pods int) *world {
	w := &world{member: shutdown(member("Unknown")), pods: map[string]pod{}}
	w.lease = leaseSpec{Seconds: 40, Renewed: micro(time.Now().Add(-2 * time.Minute))}
	for i := range pods {
		var p pod
		p.Metadata.Namespace, p.Metadata.Name, p.Metadata.UID = "spark", fmt.Sprint("exec-", i), fmt.Sprint("uid-", i)
		p.Spec.NodeName, p.Status.Phase = "n", "Running"
		w.pods[p.Metadata.UID] = p
	}
	return w
}

// latency of each request.
const latency = 400 * time.Millisecond

func (w *world) enter(ctx context.Context, what string) error {
	if !pause(ctx, latency) {
		return fmt.Errorf("%s: %w: %w", what, kube.ErrAway, ctx.Err())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.before != nil {
		if err := w.before(w, what); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(what, "GET") {
		w.asked = append(w.asked, what)
	}
	return nil
}

func (w *world) Member(ctx context.Context, name string) (kube.Member, error) {
	if err := w.enter(ctx, "GET node"); err != nil {
		return kube.Member{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return kube.Member{}, &kube.StatusError{Code: http.StatusNotFound}
	}
	return w.member, nil
}

func (w *world) Do(ctx context.Context, r kube.Request) error {
	text, _ := json.Marshal(r.In)
	var in struct {
		Grace         *int                 `json:"gracePeriodSeconds"`
		Preconditions struct{ UID string } `json:"preconditions"`
		Metadata      struct{ UID, ResourceVersion string }
		Spec          struct{ Taints json.RawMessage }
	}
	_ = json.Unmarshal(text, &in)
	what := r.Method + " " + r.Path
	if in.Grace != nil {
		what += " by force"
	}
	if err := w.enter(ctx, what); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	answer := func(v any) error {
		text, _ := json.Marshal(v)
		return json.Unmarshal(text, r.Out)
	}
	switch {
	case strings.HasPrefix(r.Path, nodeLeases):
		return answer(lease{Spec: w.lease})
	case strings.HasSuffix(r.Path, "/events"):
		return nil
	case r.Path == "/api/v1/pods":
		list := []pod{}
		for _, p := range w.pods {
			list = append(list, p)
		}
		return answer(object{"items": list})
	case strings.HasPrefix(r.Path, "/api/v1/nodes/"):
		if in.Metadata.UID != w.member.UID || in.Metadata.ResourceVersion != w.member.ResourceVersion {
			return &kube.StatusError{Code: http.StatusConflict}
		}
		v, _ := strconv.Atoi(w.member.ResourceVersion)
		w.member.ResourceVersion = strconv.Itoa(v + 1)
		w.member.Taints = nil
		return json.Unmarshal(in.Spec.Taints, &w.member.Taints)
	}
	return w.pod(r, in.Preconditions.UID+in.Metadata.UID, in.Grace)
}

// pod is one request for a pod. mu is held.
func (w *world) pod(r kube.Request, uid string, grace *int) error {
	for id, p := range w.pods {
		if !strings.HasPrefix(r.Path+"/", p.path()+"/") {
			continue
		}
		if id != uid {
			return &kube.StatusError{Code: http.StatusConflict}
		}
		switch {
		case r.Method == http.MethodPatch:
			p.Status.Phase = "Failed"
		case grace != nil:
			delete(w.pods, id)
			return nil
		default:
			p.Metadata.Deleting = "2026-03-01T12:00:00Z"
		}
		w.pods[id] = p
		return nil
	}
	return &kube.StatusError{Code: http.StatusNotFound}
}

// writes are what was asked, counted by verb, in the order of the first of each; requests for events are left out.
func (w *world) writes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var order []string
	n := map[string]int{}
	for _, a := range w.asked {
		verb := strings.Fields(a)[0]
		switch {
		case strings.HasSuffix(a, "/events"):
			continue
		case strings.HasSuffix(a, "by force"):
			verb = "FORCE"
		case strings.Contains(a, "/nodes/"):
			verb = "TAINT"
		}
		if n[verb]++; n[verb] == 1 {
			order = append(order, verb)
		}
	}
	for i, verb := range order {
		order[i] = fmt.Sprintf("%s %d", verb, n[verb])
	}
	return order
}

// survivorOf looks after that one node, and leads.
func survivorOf(t *testing.T, w *world, change func(c *config.Survivor)) *Survivor {
	t.Helper()
	cfg := config.Default().Survivor
	cfg.Nodes = "a=b"
	if change != nil {
		change(&cfg)
	}
	s, err := New(Options{Cluster: new(kube.Cluster), Config: cfg, Namespace: "spark", Name: "test", Log: zap.NewNop(), Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	s.calls = newCalls(w)
	s.elector.extend(time.Now().Add(time.Hour))
	t.Cleanup(s.elector.end)
	return s
}

// pass is one over a node that was seen silent long ago.
func passOf(s *Survivor, w *world) *pass {
	long := time.Now().Add(-time.Minute)
	beat := w.lease.Renewed
	return newPass(s, silence{member: member("Unknown"), since: long, still: long, pulse: pulse{found: true, beat: beat, lasts: 40 * time.Second}}, w.gone)
}

func run(s *Survivor, p *pass) error {
	ctx, _ := s.elector.lead()
	return p.run(ctx)
}

func TestPass(t *testing.T) {
	const pods = 20
	all := []string{"DELETE 20", "PATCH 20", "FORCE 20", "TAINT 1"}
	var alive *doubt
	for name, tt := range map[string]struct {
		config func(c *config.Survivor)
		change func(w *world)
		before func(w *world, what string) error
		want   []string
		err    error // as errors.Is; errDoubt for a doubt
		left   int
	}{
		"all of it":           {want: all},
		"nothing deleted":     {config: func(c *config.Survivor) { c.DeletePods, c.FailPods, c.ForceDelete = false, false, false }, want: []string{"TAINT 1"}, left: pods},
		"not failed":          {config: func(c *config.Survivor) { c.FailPods = false }, want: []string{"DELETE 20", "FORCE 20", "TAINT 1"}},
		"not by force":        {config: func(c *config.Survivor) { c.ForceDelete = false }, want: []string{"DELETE 20", "PATCH 20", "TAINT 1"}, left: pods},
		"volumes stay":        {config: func(c *config.Survivor) { c.OutOfService = false }, want: all[:3]},
		"the object has gone": {change: func(w *world) { w.gone = true }, want: all[:3]},
		"its own last word frees no volumes": {change: func(w *world) {
			w.member.Taints = nil
			w.member.Annotations = word()
		}, want: all[:3]},
		"silence is enough":     {config: func(c *config.Survivor) { c.OnNotReady = true }, change: func(w *world) { w.member.Taints = nil }, want: all},
		"silence is not enough": {change: func(w *world) { w.member.Taints = nil }, err: errDoubt, left: pods},
		"somebody has tainted it": {change: func(w *world) {
			_ = json.Unmarshal([]byte(`[{"key":"`+kube.ShutdownTaint+`"},{"key":"`+outOfService+`"}]`), &w.member.Taints)
		}, want: all[:3]},
		"half was done before": {change: func(w *world) {
			for i := range pods {
				p := w.pods[fmt.Sprint("uid-", i)]
				p.Metadata.Deleting = "2026-03-01T12:00:00Z"
				if i%2 == 0 {
					p.Status.Phase = "Failed"
				}
				w.pods[p.Metadata.UID] = p
			}
		}, want: []string{"PATCH 10", "FORCE 20", "TAINT 1"}},
		"another pod has the name": {before: func(w *world, what string) error {
			if p, has := w.pods["uid-0"]; has && strings.HasPrefix(what, "PATCH") {
				p.Metadata.UID = "new"
				delete(w.pods, "uid-0")
				w.pods["new"] = p
			}
			return nil
		}, err: kube.ErrConflict, want: []string{"DELETE 20", "PATCH 20"}, left: pods},
		"it renews its lease in the middle": {before: func(w *world, what string) error {
			if strings.HasSuffix(what, "/status") {
				w.lease.Renewed = micro(time.Now())
			}
			return nil
		}, err: errDoubt, left: pods},
		"it is ready in the middle": {before: func(w *world, what string) error {
			if strings.HasSuffix(what, "/status") {
				w.member.Ready = "True"
			}
			return nil
		}, err: errDoubt, left: pods},
		"another machine has its name in the middle": {before: func(w *world, what string) error {
			if strings.HasSuffix(what, "/status") {
				w.member.UID = "u2"
			}
			return nil
		}, err: errDoubt, left: pods},
		"the server is busy": {before: busy(3, http.StatusTooManyRequests), want: all},
		"the server is away": {before: busy(3, http.StatusServiceUnavailable), want: all},
		"a permission is missing": {before: func(_ *world, what string) error {
			if strings.HasSuffix(what, "/status") {
				return &kube.StatusError{Code: http.StatusForbidden}
			}
			return nil
		}, err: kube.ErrForbidden, want: []string{"DELETE 20"}, left: pods},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(pods)
				w.before = tt.before
				if tt.change != nil {
					tt.change(w)
				}
				s := survivorOf(t, w, tt.config)
				err := run(s, passOf(s, w))
				if tt.err == errDoubt && !errors.As(err, &alive) || tt.err != errDoubt && !errors.Is(err, tt.err) || tt.err == nil && err != nil {
					t.Errorf("got error %v, want %v", err, tt.err)
				}
				if got := w.writes(); tt.err != errDoubt && !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if len(w.pods) != tt.left {
					t.Errorf("pods left: %d of %d", len(w.pods), tt.left)
				}
				if tt.err != nil && w.member.Tainted(outOfService) {
					t.Error("its volumes were freed")
				}
			})
		})
	}
}

var errDoubt = errors.New("a doubt")

// busy refuses every n-th request.
func busy(n, code int) func(*world, string) error {
	i := 0
	return func(*world, string) error {
		if i++; i%n == 0 {
			return &kube.StatusError{Code: code, RetryAfter: time.Second}
		}
		return nil
	}
}

// TestLeaderLostInTheMiddle: between two verbs another replica may begin: this one must have stopped. What is left, that one does.
func TestLeaderLostInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(20)
		s := survivorOf(t, w, nil)
		w.before = func(_ *world, what string) error {
			if strings.HasSuffix(what, "/status") {
				s.elector.end()
			}
			return nil
		}
		if err := run(s, passOf(s, w)); err == nil {
			t.Error("it went on")
		}
		if got := w.writes(); len(got) == 0 || got[0] != "DELETE 20" || len(w.pods) != 20 || w.member.Tainted(outOfService) {
			t.Errorf("done after it had lost the lead: %q", got)
		}
		w.before = nil
		next := survivorOf(t, w, nil)
		if err := run(next, passOf(next, w)); err != nil || len(w.pods) != 0 || !w.member.Tainted(outOfService) {
			t.Errorf("the next leader: %v, pods left: %d", err, len(w.pods))
		}
	})
}

// TestGuardBeginsInTheMiddle of a pass that rests on silence alone.
func TestGuardBeginsInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(20)
		w.member.Taints = nil
		s := survivorOf(t, w, func(c *config.Survivor) { c.OnNotReady = true })
		w.before = func(_ *world, what string) error {
			if strings.HasSuffix(what, "/status") {
				s.mu.Lock()
				s.census = &census{all: tally{nodes: 10, silent: 6}}
				s.mu.Unlock()
			}
			return nil
		}
		var d *doubt
		if err := run(s, passOf(s, w)); !errors.As(err, &d) || d.alive || len(w.pods) != 20 || w.member.Tainted(outOfService) {
			t.Errorf("it went on: %v, pods left: %d", err, len(w.pods))
		}
	})
}

// TestDefect05NodeThatRunsIsNotTainted: the taint detaches volumes from a machine. Whatever is heard of it before that last step,
// after all the others, is in time.
func TestDefect05NodeThatRunsIsNotTainted(t *testing.T) {
	for name, heard := range map[string]func(w *world){
		"it renews its lease":    func(w *world) { w.lease.Renewed = micro(time.Now()) },
		"it is ready":            func(w *world) { w.member.Ready = "True" },
		"it has booted":          func(w *world) { w.member.BootID = "b2" },
		"it was made again":      func(w *world) { w.member.UID = "u2" },
		"the cloud has erred":    func(w *world) { w.member.Taints = nil },
		"it was written to":      nil,
		"only its last word":     func(w *world) { w.member.Taints, w.member.Annotations = nil, word() },
		"its object was deleted": func(w *world) { w.gone = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(1)
				s := survivorOf(t, w, nil)
				w.before = func(w *world, what string) error {
					switch {
					case strings.HasSuffix(what, "by force") && heard != nil:
						heard(w)
					case strings.HasPrefix(what, "PATCH /api/v1/nodes/") && heard == nil:
						w.member.ResourceVersion = "8" // in the last moment
					}
					return nil
				}
				_ = run(s, passOf(s, w))
				if got := w.writes(); !slices.Contains(got, "FORCE 1") || w.member.Tainted(outOfService) {
					t.Errorf("done: %q, taints %+v", got, w.member.Taints)
				}
			})
		})
	}
}

// word is a machine's last word, of long ago.
func word() map[string]string {
	return map[string]string{kube.OwnMark: `{"phase":"ended","deadline":"1999-12-31T00:00:00Z","boot":"b1"}`}
}

// TestRelabelled: a node that does not fit the selector any more is none of its business, whatever the cloud says.
func TestRelabelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		s := survivorOf(t, w, nil)
		p := passOf(s, w)
		p.vanished = true
		var d *doubt
		if err := run(s, p); !errors.As(err, &d) || !d.alive || len(w.writes()) != 0 {
			t.Errorf("%v, done: %q", err, w.writes())
		}
	})
}

func TestDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3)
		s := survivorOf(t, w, nil)
		s.dryRun = true
		if err := run(s, passOf(s, w)); err != nil {
			t.Fatal(err)
		}
		if got := w.writes(); len(got) != 0 || len(w.pods) != 3 {
			t.Errorf("a dry run did %q", got)
		}
		if n := len(s.herald.queue); n != 1 {
			t.Errorf("events: %d", n)
		}
	})
}

func TestTakeBack(t *testing.T) {
	mark := map[string]string{DeadMark: `{"at":"2026-03-01T12:00:00Z","boot":"b1","witness":"cloud-shutdown"}`}
	for name, tt := range map[string]struct {
		change func(m *kube.Member)
		want   bool // taken back
	}{
		"booted again":                     {func(m *kube.Member) { m.BootID = "b2" }, true},
		"booted again, with volumes":       {func(m *kube.Member) { m.BootID, m.Mounted = "b2", 3 }, true},
		"the same boot, without volumes":   {func(*kube.Member) {}, true},
		"the same boot, with volumes":      {func(m *kube.Member) { m.Mounted = 1 }, false},
		"silent again":                     {func(m *kube.Member) { m.BootID, m.Ready = "b2", "Unknown" }, false},
		"not ready":                        {func(m *kube.Member) { m.BootID, m.Ready = "b2", "False" }, false},
		"somebody else's taint":            {func(m *kube.Member) { m.BootID, m.Annotations = "b2", nil }, false},
		"a mark that can't be read":        {func(m *kube.Member) { m.Annotations = map[string]string{DeadMark: "yes"} }, false},
		"another machine under its name":   {func(m *kube.Member) { m.UID = "u2" }, false},
		"booted once more while it waited": {func(m *kube.Member) { m.BootID = "b3" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(0)
				_ = json.Unmarshal([]byte(`[{"key":"mine"},{"key":"`+outOfService+`","effect":"NoExecute"}]`), &w.member.Taints)
				w.member.Ready, w.member.Annotations = "True", mark
				tt.change(&w.member)
				s := survivorOf(t, w, nil)
				b := &returning{member: w.member}
				switch name {
				case "another machine under its name":
					b.member.UID = "u1"
				case "booted once more while it waited":
					b.member.BootID = "b2"
				}
				s.takeBack(t.Context(), b)
				if back := !w.member.Tainted(outOfService); back != tt.want || !w.member.Tainted("mine") {
					t.Errorf("taken back: %v, taints %+v", back, w.member.Taints)
				}
			})
		})
	}
}
