//go:build integration

package integration

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// sea is a rescue into an object storage on a bad day: a real engine, a real server, and something between them.
type sea struct {
	t       *testing.T
	storage *lab.Storage
	bucket  bucket.Bucket // the way past all trouble
	outs    []*migrate.Output
	engine  *migrate.Engine

	mu        sync.Mutex
	announced map[migrate.OutputID]int
	half      []string
}

// setSail prepares a rescue of small outputs and a few that are sent in parts. The first is the most expensive to
// compute again, and so on.
func setSail(t *testing.T, v *lab.Storage, outputs, size, large int, more ...migrate.Destination) *sea {
	t.Helper()
	s := &sea{t: t, storage: v, announced: map[migrate.OutputID]int{}, engine: migrate.NewEngine(migrate.Options{})}
	s.bucket = open(t, v, v.Endpoint, s.prefix(), 0)
	costs := map[int64]time.Duration{}
	for i := range outputs + large {
		bytes := size
		if i >= outputs {
			bytes = 20 << 20
		}
		out := migratetest.Output("app-1", 0, int64(i), bytes)
		costs[out.ID.Map] = time.Duration(bytes/1000) * time.Duration(10*(outputs+large-i)) * time.Millisecond
		s.outs = append(s.outs, out)
	}
	s.engine.SetCosts(costs)
	s.engine.Add(s.outs...)
	if len(more) > 0 {
		s.engine.SetDestinations(more)
	}
	return s
}

func (s *sea) prefix() string { return strings.ReplaceAll(s.t.Name(), "/", "-") + "/fallback" }

// destination reaches the storage through an endpoint; stall is how long it waits for a silent one.
func (s *sea) destination(endpoint string, stall time.Duration) migrate.Destination {
	return object.New(object.Options{Bucket: open(s.t, s.storage, endpoint, s.prefix(), stall), App: "app-1", Announce: s.announce})
}

// announce plays the driver: whatever it is told of must lie there whole.
func (s *sea) announce(_ context.Context, at []migrate.Located) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	look := stored(s.t, s.bucket)
	for _, l := range at {
		s.announced[l.Output.ID]++
		index, data, ok := look(l.Output.ID)
		if !ok || string(index) != string(l.Output.Index.(migratetest.Bytes)) || string(data) != string(l.Output.Data.(migratetest.Bytes)) {
			s.half = append(s.half, l.Output.ID.String())
		}
	}
	return nil
}

// run lets the engine work until everything is settled or the time is over.
func (s *sea) run(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.engine.Run(ctx) }()
	settled := s.engine.Settled(ctx)
	if deadline, ok := ctx.Deadline(); ok && time.Now().Before(deadline) {
		cancel()
	}
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.half) > 0 {
		s.t.Errorf("announced although they were not there whole: %q", s.half)
	}
	for _, r := range s.engine.Results() {
		if r.State == migrate.Saved && r.Location.Target.URL == s.bucket.URL() && s.announced[r.Output.ID] == 0 {
			s.t.Errorf("%v counts as saved, and was never announced", r.Output.ID)
		}
	}
	return settled
}

// wantAll wants everything saved, announced and readable.
func (s *sea) wantAll(err error) {
	s.t.Helper()
	must(s.t, err)
	look := stored(s.t, s.bucket)
	for _, r := range s.engine.Results() {
		if r.State != migrate.Saved {
			s.t.Errorf("%v is %v (%s): %v", r.Output.ID, r.State, r.Reason, r.Err)
			continue
		}
		index, data, ok := look(r.Output.ID)
		if !ok || int64(len(index)+len(data)) != r.Output.Bytes() {
			s.t.Errorf("%v can't be read", r.Output.ID)
		}
	}
}

// saved are the outputs that were, by map id.
func (s *sea) saved() (ids []int64) {
	for _, r := range s.engine.Results() {
		if r.State == migrate.Saved {
			ids = append(ids, r.Output.ID.Map)
		}
	}
	return ids
}

// nth does something to every nth request that writes.
func nth(n int, fault lab.Fault) func(int, *http.Request) lab.Fault {
	writes := 0
	return func(_ int, r *http.Request) lab.Fault {
		if r.Method != http.MethodPut && r.Method != http.MethodPost {
			return lab.Fault{}
		}
		if writes++; writes%n != 0 {
			return lab.Fault{}
		}
		return fault
	}
}

// first does something to the first n requests.
func first(n int, fault lab.Fault) func(int, *http.Request) lab.Fault {
	return func(i int, _ *http.Request) lab.Fault {
		if i <= n {
			return fault
		}
		return lab.Fault{}
	}
}

// TestObjectsThroughTrouble: a storage that does some of its work gets everything in the end, and nothing is
// announced before it is there.
func TestObjectsThroughTrouble(t *testing.T) {
	v := versity(t)
	for name, script := range map[string]func(int, *http.Request) lab.Fault{
		"resets":               nth(4, lab.Fault{Reset: true}),
		"resets in the middle": nth(5, lab.Fault{ResetAfter: 20_000}),
		"lost answers":         nth(4, lab.Fault{LoseAnswer: true}),
		"cut answers":          nth(3, lab.Fault{CutAnswer: 20}),
		"slow down":            first(40, lab.Fault{Status: 503, Code: "SlowDown", RetryAfter: 1}),
		"trouble inside":       nth(3, lab.Fault{Status: 500, Code: "InternalError"}),
		"wrong checksums":      nth(4, lab.Fault{Flip: true}),
		"denied for a moment":  first(3, lab.Fault{Status: 403, Code: "ExpiredToken"}),
		"stalls":               nth(12, lab.Fault{Stall: true}),
	} {
		t.Run(name, func(t *testing.T) {
			f := front(t, v.Endpoint)
			s := setSail(t, v, 40, 60_000, 1)
			s.engine.SetDestinations([]migrate.Destination{s.destination(f.URL, 2*time.Second)})
			f.Script(script)
			s.wantAll(s.run(2 * time.Minute))
		})
	}
}

// TestObjectsTruncated cuts every connection after some bytes, so that no part gets through, until it ends.
func TestObjectsTruncated(t *testing.T) {
	v := versity(t)
	ctx := deadline(t, 5*time.Minute)
	server, err := servers(t).Toxiproxy(ctx)
	must(t, err)
	proxy, err := server.Proxy(ctx, "s3", "127.0.0.1", strings.TrimPrefix(v.Endpoint, "http://"))
	must(t, err)
	must(t, proxy.Add(ctx, lab.Toxic{Name: "cut", Type: "limit_data", Stream: "upstream", Attributes: map[string]int{"bytes": 400_000}}))
	s := setSail(t, v, 40, 60_000, 2)
	s.engine.SetDestinations([]migrate.Destination{s.destination("http://"+proxy.Listen, 2*time.Second)})
	ended := make(chan error, 1)
	go func() { ended <- s.run(3 * time.Minute) }()
	must(t, lab.Until(ctx, "the small outputs are saved", func(context.Context) (bool, error) {
		return s.engine.Progress().Saved.Outputs >= 40, nil
	}))
	if n := s.engine.Progress().Saved.Outputs; n != 40 {
		t.Errorf("%d saved although no part got through", n)
	}
	must(t, proxy.Remove(ctx, "cut"))
	s.wantAll(<-ended)
}

// TestObjectsSlowDown: a server that takes two requests at a time gets everything all the same.
func TestObjectsSlowDown(t *testing.T) {
	v := versity(t, "--max-requests", "2")
	s := setSail(t, v, 60, 60_000, 1)
	s.engine.SetDestinations([]migrate.Destination{s.destination(v.Endpoint, 0)})
	must(t, s.run(3*time.Minute))
	if n := len(s.saved()); n != len(s.outs) {
		t.Errorf("%d of %d saved", n, len(s.outs))
	}
}

// TestObjectsDenied: access that ends in the middle ends the rescue soon, and what was saved before stays.
func TestObjectsDenied(t *testing.T) {
	v := versity(t)
	f := front(t, v.Endpoint)
	s := setSail(t, v, 100, 60_000, 0)
	s.engine.SetDestinations([]migrate.Destination{s.destination(f.URL, 0)})
	f.Script(func(n int, _ *http.Request) lab.Fault {
		if n > 60 {
			return lab.Fault{Status: 403, Code: "AccessDenied"}
		}
		return lab.Fault{}
	})
	begin := time.Now()
	err := s.run(2 * time.Minute)
	if !errors.Is(err, migrate.ErrNoDestination) || time.Since(begin) > time.Minute {
		t.Errorf("%v after %v, want no destination within seconds", err, time.Since(begin))
	}
	saved := s.saved()
	if len(saved) < 15 || len(saved) > 30 {
		t.Errorf("%d outputs saved with 60 requests, want about 30", len(saved))
	}
	s.wantBest(saved)
	for _, r := range s.engine.Results() {
		if r.State == migrate.Lost && (r.Err == nil || bucket.KindOf(r.Err) != bucket.Denied) && r.Tries > 0 {
			t.Errorf("%v: lost because of %v", r.Output.ID, r.Err)
		}
	}
}

// wantBest: of equal size, the more valuable were saved first; those under way at the same time overtake each other.
func (s *sea) wantBest(saved []int64) {
	s.t.Helper()
	const underWay = 16
	for _, id := range saved {
		if id >= int64(len(saved)+underWay) {
			s.t.Errorf("output %d was saved, and %d more valuable ones were not", id, int(id)-len(saved)+1)
		}
	}
	for id := range int64(len(saved) - underWay) {
		if !slices.Contains(saved, id) {
			s.t.Errorf("output %d was not saved among the first %d", id, len(saved))
		}
	}
}

// TestObjectsTooSlow: with too little bandwidth for the deadline the most valuable outputs are safe, the rescue ends
// on time, and nothing is announced after it.
func TestObjectsTooSlow(t *testing.T) {
	v := versity(t)
	ctx := deadline(t, 5*time.Minute)
	server, err := servers(t).Toxiproxy(ctx)
	must(t, err)
	proxy, err := server.Proxy(ctx, "s3", "127.0.0.1", strings.TrimPrefix(v.Endpoint, "http://"))
	must(t, err)
	// Of each connection. It is that of the whole when all slots are busy.
	must(t, proxy.Add(ctx, lab.Toxic{Name: "slow", Type: "bandwidth", Stream: "upstream", Attributes: map[string]int{"rate": 200}}))
	s := setSail(t, v, 150, 200_000, 1)
	s.engine.SetDestinations([]migrate.Destination{s.destination("http://"+proxy.Listen, 0)})
	const limit = 8 * time.Second
	begin := time.Now()
	err = s.run(limit)
	if took := time.Since(begin); took > limit+5*time.Second {
		t.Errorf("ended after %v", took)
	}
	saved := s.saved()
	if err == nil || len(saved) < 10 || len(saved) > 140 {
		t.Errorf("%v, %d of %d saved", err, len(saved), len(s.outs))
	}
	s.wantBest(saved)
	s.mu.Lock()
	told := len(s.announced)
	s.mu.Unlock()
	if told != len(saved) {
		t.Errorf("%d announced, %d saved", told, len(saved))
	}
	must(t, lab.Until(ctx, "unfinished uploads are given up", func(context.Context) (bool, error) {
		left, err := v.Unfinished()
		return len(left) == 0, err
	}))
}

// TestObjectsBlackHole: a storage that swallows everything costs seconds when there is another place, and nothing
// when it comes back.
func TestObjectsBlackHole(t *testing.T) {
	v := versity(t)
	ctx := deadline(t, 5*time.Minute)
	server, err := servers(t).Toxiproxy(ctx)
	must(t, err)
	proxy, err := server.Proxy(ctx, "s3", "127.0.0.1", strings.TrimPrefix(v.Endpoint, "http://"))
	must(t, err)
	hole := lab.Toxic{Name: "hole", Type: "timeout", Stream: "upstream", Attributes: map[string]int{"timeout": 0}}

	t.Run("another place", func(t *testing.T) {
		must(t, proxy.Add(ctx, hole))
		defer func() { must(t, proxy.Remove(ctx, "hole")) }()
		s := setSail(t, v, 60, 60_000, 1)
		other := migratetest.NewMemory(migratetest.Executor("2"))
		s.engine.SetDestinations([]migrate.Destination{s.destination("http://"+proxy.Listen, 2*time.Second), other})
		begin := time.Now()
		must(t, s.run(2*time.Minute))
		if took := time.Since(begin); took > 40*time.Second {
			t.Errorf("took %v", took)
		}
		for _, out := range s.outs {
			if !other.Has(out.ID) {
				t.Errorf("%v is nowhere", out.ID)
			}
		}
	})
	t.Run("comes back", func(t *testing.T) {
		must(t, proxy.Add(ctx, hole))
		s := setSail(t, v, 60, 60_000, 1)
		s.engine.SetDestinations([]migrate.Destination{s.destination("http://"+proxy.Listen, 2*time.Second)})
		ended := make(chan error, 1)
		go func() { ended <- s.run(2 * time.Minute) }()
		must(t, lab.Until(ctx, "copies have failed", func(context.Context) (bool, error) {
			return s.engine.Progress().Retries >= 8, nil
		}))
		must(t, proxy.Remove(ctx, "hole"))
		s.wantAll(<-ended)
	})
}

// TestObjectsServerGone: a storage that dies in the middle and comes back.
func TestObjectsServerGone(t *testing.T) {
	v := versity(t)
	f := front(t, v.Endpoint)
	s := setSail(t, v, 100, 60_000, 1)
	s.engine.SetDestinations([]migrate.Destination{s.destination(f.URL, 2*time.Second)})
	f.Script(func(n int, _ *http.Request) lab.Fault {
		if n > 50 {
			return lab.Fault{Reset: true}
		}
		return lab.Fault{}
	})
	ended := make(chan error, 1)
	go func() { ended <- s.run(2 * time.Minute) }()
	must(t, lab.Until(deadline(t, time.Minute), "copies have failed", func(context.Context) (bool, error) {
		return s.engine.Progress().Retries >= 8, nil
	}))
	f.Script(nil)
	s.wantAll(<-ended)
}
