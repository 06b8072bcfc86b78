package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// refuses is an answer of the API server.
func refuses(code int) error { return &kube.StatusError{Code: code} }

var errAway = fmt.Errorf("connection refused: %w", kube.ErrAway)

// tries is an errand that fails with these errors, one after the other, and then succeeds.
type tries struct {
	mu   sync.Mutex
	errs []error
	at   []time.Time
}

func (s *tries) do(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Now())
	if len(s.errs) == 0 {
		return nil
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return err
}

// attempts is when it was tried.
func (s *tries) attempts() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at)
}

func (s *tries) errand() errand { return errand{rescue: "r", what: "the word", do: s.do} }

func forever(err error) []error { return slices.Repeat([]error{err}, 10_000) }

func TestErrandIsTriedUntilItIsDone(t *testing.T) {
	for name, tt := range map[string]struct {
		errs  []error
		tries int
		given string // up, with these words; "": it is not
	}{
		"at once":                   {nil, 1, ""},
		"away":                      {[]error{errAway, errAway, errAway}, 4, ""},
		"slow":                      {[]error{context.DeadlineExceeded}, 2, ""},
		"throttled":                 {[]error{refuses(429), refuses(429)}, 3, ""},
		"broken":                    {[]error{refuses(500), refuses(503)}, 3, ""},
		"changes":                   {[]error{refuses(409)}, 2, ""},
		"its object has gone":       {[]error{errAway, refuses(404)}, 2, ""},
		"another object":            {[]error{errPointless}, 1, ""},
		"roles are not read yet":    {[]error{refuses(403), refuses(403)}, 3, ""},
		"a permission is missing":   {forever(refuses(403)), -1, "403"},
		"what it says can't be":     {forever(refuses(422)), 1, "422"},
		"nobody answers any more":   {forever(errAway), -1, "connection refused"},
		"they are asked to be slow": {forever(&kube.StatusError{Code: 429, RetryAfter: time.Minute}), -1, "429"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, s := newLater(zap.NewNop()), &tries{errs: tt.errs}
				defer l.close(t.Context())
				began := time.Now()
				err := l.add(s.errand()).await(t.Context())
				if (tt.given != "") != (err != nil) || err != nil && !strings.Contains(err.Error(), tt.given) {
					t.Errorf("given up with %v, want %q", err, tt.given)
				}
				if tt.tries >= 0 && len(s.attempts()) != tt.tries {
					t.Errorf("%d attempts, want %d", len(s.attempts()), tt.tries)
				}
				if took := time.Since(began); took > tooOld+2*time.Minute {
					t.Errorf("it was tried for %v", took)
				}
				waiting, failed := l.unsaid("r")
				if len(waiting) != 0 || len(failed) != min(len(tt.given), 1) {
					t.Errorf("waiting %q, failed %q", waiting, failed)
				}
			})
		})
	}
}

func TestRetryAfterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLater(zap.NewNop())
		defer l.close(t.Context())
		s := &tries{errs: []error{&kube.StatusError{Code: http.StatusTooManyRequests, RetryAfter: 30 * time.Second}}}
		if err := l.add(s.errand()).await(t.Context()); err != nil {
			t.Fatal(err)
		}
		if pause := s.attempts()[1].Sub(s.attempts()[0]); pause < 30*time.Second {
			t.Errorf("it was tried again after %v", pause)
		}
	})
}

func TestNobodyWaitsLongerThanHeWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLater(zap.NewNop())
		defer l.close(t.Context())
		hangs := func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("%w: %w", kube.ErrAway, ctx.Err())
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), Patience)
		defer cancel()
		err := l.add(errand{rescue: "r", what: "a mark", do: hangs}).await(ctx)
		if err == nil || time.Since(began) != Patience {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if waiting, failed := l.unsaid("r"); !slices.Equal(waiting, []string{"a mark"}) || len(failed) > 0 {
			t.Errorf("waiting %q, failed %q", waiting, failed)
		}
		if waiting, _ := l.unsaid("another"); len(waiting) > 0 {
			t.Errorf("of another rescue: %q", waiting)
		}
		time.Sleep(firstTry)
		if l.reachable() {
			t.Error("an API server that did not answer counts as there")
		}
	})
}

func TestWhatWaitsIsSaidAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLater(zap.NewNop())
		s := &tries{errs: slices.Repeat([]error{errAway}, 8)}
		task := l.add(s.errand())
		time.Sleep(20 * time.Second) // the pauses have become long
		before := len(s.attempts())
		s.mu.Lock()
		s.errs = nil
		s.mu.Unlock()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l.close(ctx)
		if took := time.Since(began); took > time.Second || task.err != nil || len(s.attempts()) != before+1 {
			t.Errorf("after %v and %d attempts: %v", took, len(s.attempts())-before, task.err)
		}
		if err := l.add(s.errand()).await(t.Context()); !errors.Is(err, errClosed) {
			t.Errorf("something is said after the end: %v", err)
		}
	})
}

func TestTheEndIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLater(zap.NewNop())
		task := l.add((&tries{errs: forever(errAway)}).errand())
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		l.close(ctx)
		if took := time.Since(began); took != 5*time.Second || !errors.Is(task.err, errClosed) || !errors.Is(task.err, kube.ErrAway) {
			t.Errorf("after %v: %v", took, task.err)
		}
		l.close(ctx) // again
	})
}

func TestErrandsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLater(zap.NewNop())
		var mu sync.Mutex
		now, most := 0, 0
		count := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			now += by
			most = max(most, now)
		}
		do := func(ctx context.Context) error {
			count(1)
			defer count(-1)
			<-ctx.Done()
			return errAway
		}
		for range maxErrands {
			l.add(errand{do: do})
		}
		if err := l.add(errand{do: do}).await(t.Context()); !errors.Is(err, errTooMany) {
			t.Errorf("one too many: %v", err)
		}
		time.Sleep(10 * time.Second)
		mu.Lock()
		if most != atOnce {
			t.Errorf("%d at once, want %d", most, atOnce)
		}
		mu.Unlock()
		over, cancel := context.WithCancel(t.Context())
		cancel()
		l.close(over)
		if waiting, failed := l.unsaid(""); len(waiting) != 0 || len(failed) != maxErrands {
			t.Errorf("%d wait, %d failed", len(waiting), len(failed))
		}
	})
}
