package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lifeboat/lifeboat/providers"
)

// openFor makes a way to a server on a loopback address.
func openFor(t *testing.T, server string) *Cluster {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	doc := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
		"clusters": [{"name": "c", "cluster": {"server": %q}}], "users": [{"name": "u", "user": {}}]}`, server)
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(Access{Kubeconfig: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// script is an API server that plays one answer after the other; after the last one it says nothing until the end. The real
// one is in integration/kubernetes; this one says what that can't be made to say.
type script struct {
	mu    sync.Mutex
	asked []url.Values
	steps []http.HandlerFunc
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Query())
	var step http.HandlerFunc
	if len(s.steps) > 0 {
		step, s.steps = s.steps[0], s.steps[1:]
	}
	s.mu.Unlock()
	if step == nil {
		<-r.Context().Done()
		return
	}
	step(w, r)
}

func (s *script) queries() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]url.Values(nil), s.asked...)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// hangs keeps a watch open after what it says.
func hangs(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		says(http.StatusOK, body)(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func list(version string, items ...string) string {
	return `{"kind": "NodeList", "metadata": {"resourceVersion": "` + version + `"}, "items": [` + strings.Join(items, ",") + `]}`
}

func item(version, taint string) string {
	taints := ""
	if taint != "" {
		taints = `{"key": "` + taint + `", "value": "v` + version + `", "effect": "NoSchedule"}`
	}
	return `{"metadata": {"name": "n", "uid": "u", "resourceVersion": "` + version + `"}, "spec": {"taints": [` + taints + `]}}`
}

func event(kind, object string) string { return `{"type": "` + kind + `", "object": ` + object + "}\n" }

const karpenter = "karpenter.sh/disrupted"

// follow runs a source against a script.
func follow(t *testing.T, steps ...http.HandlerFunc) (n *Node, s *script, notices <-chan providers.Notice) {
	t.Helper()
	s = &script{steps: steps}
	server := httptest.NewServer(s)
	n, err := NewNode(Options{
		Cluster: openFor(t, server.URL), Node: "n",
		Timeout: 30 * time.Second, Retry: 5 * time.Millisecond, Look: 5 * time.Millisecond, Silence: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ch, done := make(chan providers.Notice, 100), make(chan error, 1)
	go func() { done <- n.Run(ctx, ch) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		server.CloseClientConnections()
		server.Close()
	})
	return n, s, ch
}

func next(t *testing.T, notices <-chan providers.Notice) providers.Notice {
	t.Helper()
	select {
	case n := <-notices:
		return n
	case <-time.After(10 * time.Second):
		t.Fatal("no notice")
		return providers.Notice{}
	}
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(10 * time.Second); !cond(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("no sign of %s", what)
		}
	}
}

func TestWatchGoesOnWhereItWas(t *testing.T) {
	_, s, notices := follow(t,
		says(200, list("5", item("4", ""))),
		says(200, event("BOOKMARK", `{"metadata": {"resourceVersion": "9"}}`)), // and the server ends it
		says(200, event("MODIFIED", item("10", karpenter))),
		says(200, event("NEWS", item("11", ""))), // a type that is new to us changes nothing
		hangs(""),
	)
	if n := next(t, notices); n.Kind != providers.Drain || n.Withdrawn {
		t.Errorf("%+v", n)
	}
	await(t, "the fifth request", func() bool { return len(s.queries()) >= 5 })
	for i, want := range []string{"", "5", "9", "10", "11"} {
		q := s.queries()[i]
		if q.Get("resourceVersion") != want || q.Get("fieldSelector") != "metadata.name=n" || (q.Get("watch") == "true") != (i > 0) {
			t.Errorf("request %d: %v, want version %q", i, q, want)
		}
	}
	select {
	case n := <-notices:
		t.Errorf("another one: %+v", n)
	default:
	}
}

func TestGoneLeadsToANewList(t *testing.T) {
	gone := `{"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}`
	for name, answer := range map[string]http.HandlerFunc{
		"status": says(http.StatusGone, gone),
		"event":  says(200, event("ERROR", gone)),
	} {
		t.Run(name, func(t *testing.T) {
			n, s, notices := follow(t,
				says(200, list("5", item("4", karpenter))), answer, says(200, list("90", item("80", ""))), hangs(""))
			if got := next(t, notices); got.Withdrawn {
				t.Errorf("%+v", got)
			}
			if got := next(t, notices); !got.Withdrawn {
				t.Errorf("what had ended meanwhile: %+v", got)
			}
			await(t, "the fourth request", func() bool { return len(s.queries()) >= 4 })
			if v := s.queries()[3].Get("resourceVersion"); v != "90" {
				t.Errorf("watched from %q", v)
			}
			await(t, "health", func() bool { return n.Health().OK })
		})
	}
}

func TestTroubleIsSaidAndChangesNothing(t *testing.T) {
	forbidden := `{"kind": "Status", "code": 403, "message": "nodes is forbidden: User \"system:serviceaccount:x:y\" cannot watch resource \"nodes\""}`
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"401":            {says(401, `{"kind": "Status", "message": "Unauthorized"}`), "credentials"},
		"403":            {says(403, forbidden), `list and watch on nodes and pods for the whole cluster (ClusterRole and ClusterRoleBinding): nodes is forbidden: User "system:serviceaccount:x:y" cannot watch`},
		"404":            {says(404, "not here"), "404"},
		"429":            {says(429, ""), "too much to do"},
		"500":            {says(500, `{"kind": "Status", "message": "`+strings.Repeat("long\\n ", 1000)+`"}`), "500: long long"},
		"moved":          {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "redirects"},
		"no event":       {says(200, "<html>\n"), "an event can't be read"},
		"half an event":  {says(200, event("MODIFIED", item("6", ""))[:40]), "an event can't be read"},
		"no version":     {says(200, event("MODIFIED", `{"metadata": {"uid": "u"}}`)), "no version"},
		"no uid":         {says(200, event("DELETED", `{"metadata": {"resourceVersion": "6"}}`)), "no uid"},
		"another type":   {says(200, event("MODIFIED", `{"metadata": 7}`)), "object can't be read"},
		"error":          {says(200, event("ERROR", `{"kind": "Status", "code": 500, "message": "etcd has no leader"}`)), "etcd has no leader"},
		"error, no code": {says(200, event("ERROR", `{}`)), "ends the watch"},
		"event without end": {func(w http.ResponseWriter, r *http.Request) {
			for chunk := []byte(strings.Repeat(" ", 64<<10)); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "longer than"},
		"reset": {func(w http.ResponseWriter, r *http.Request) {
			says(200, " ")(w, r)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			again := func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-release:
				case <-r.Context().Done():
				}
				tt.answer(w, r)
			}
			n, _, notices := follow(t, says(200, list("5", item("4", karpenter))), tt.answer, again,
				says(200, list("6", item("4", karpenter))), hangs("")) // after two failures in a row it lists again
			next(t, notices)
			await(t, "trouble", func() bool { h := n.Health(); return !h.OK && strings.Contains(h.Error, tt.says) })
			if h := n.Health(); h.LastAnswer.IsZero() {
				t.Errorf("health: %+v", h)
			}
			if got := n.Notices(); len(got) != 1 || got[0].Withdrawn {
				t.Errorf("seen in trouble: %+v", got)
			}
			close(release)
			await(t, "health", func() bool { return n.Health().OK })
			select {
			case got := <-notices:
				t.Errorf("trouble led to %+v", got)
			default:
			}
		})
	}
}

// TestDefect05NodeIsNeverCalledDead: what others say about a dead node leads to nothing, and nothing is ever written.
func TestDefect05NodeIsNeverCalledDead(t *testing.T) {
	reads := func(answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			answer(w, r)
		}
	}
	n, _, notices := follow(t, reads(says(200, list("5", item("4", corev1.TaintNodeOutOfService)))),
		reads(says(200, event("MODIFIED", item("6", karpenter)))), reads(hangs("")))
	if got := next(t, notices); !strings.Contains(got.ID, "karpenter") {
		t.Errorf("notice %+v", got)
	}
	await(t, "the karpenter taint alone", func() bool { return len(n.Notices()) == 1 })
}

func TestListThatIsNone(t *testing.T) {
	for name, tt := range map[string]struct{ body, says string }{
		"page":        {"<html>", "can't be read"},
		"half":        {list("5", item("4", karpenter))[:60], "can't be read"},
		"empty":       {"", "can't be read"},
		"no list":     {"{}", "no whole list"},
		"one page":    {strings.Replace(list("5"), `"5"`, `"5", "continue": "x"`, 1), "no whole list"},
		"no uid":      {list("5", `{"metadata": {}}`), "no uid"},
		"null":        {list("5", "null"), "no uid"},
		"far too big": {list("5", strings.Repeat(" ", maxList)), "too long"},
		"too many":    {list("5", strings.TrimSuffix(strings.Repeat(`{"metadata": {"uid": "u"}},`, maxObjects+1), ",")), "more than 2000 objects"},
	} {
		t.Run(name, func(t *testing.T) {
			n, _, notices := follow(t, says(200, tt.body), says(200, list("5", item("4", karpenter))), hangs(""))
			next(t, notices)
			await(t, "health", func() bool { return n.Health().OK })
			f := newFollower[*nodeObject](n.o, "/api/v1/nodes", nil)
			f.reduce = new(Node).reduce
			server := httptest.NewServer(says(200, tt.body))
			defer server.Close()
			f.cluster = openFor(t, server.URL)
			var pe *providers.PollError
			if err := f.list(t.Context()); !errors.As(err, &pe) || pe.Result != providers.Malformed || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

func TestSilentWatchIsGivenUp(t *testing.T) {
	s := &script{steps: []http.HandlerFunc{says(200, list("5", item("4", ""))), hangs(""), says(200, event("MODIFIED", item("6", karpenter)))}}
	server := httptest.NewServer(s)
	defer server.Close()
	defer server.CloseClientConnections()
	n, err := NewNode(Options{
		Cluster: openFor(t, server.URL), Node: "n", Silence: 50 * time.Millisecond, Retry: 5 * time.Millisecond, Look: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	notices := make(chan providers.Notice, 1)
	go func() { _ = n.Run(t.Context(), notices) }()
	next(t, notices)
}

// TestListsOfPodsComeFromTheCache and are never older than what was seen; only when that can't be had the newest is asked for.
func TestListsOfPodsComeFromTheCache(t *testing.T) {
	const late = `{"kind": "Status", "code": 504, "reason": "Timeout", "message": "Too large resource version: 5, current: 3"}`
	gone := says(http.StatusGone, `{"kind": "Status", "code": 410}`)
	s := &script{steps: []http.HandlerFunc{
		says(200, list("5")), gone,
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, // which the transport tries again by itself
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		says(504, late), says(200, list("3")), gone, says(200, list("4")), hangs(""),
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	f := newFollower[*podObject](Options{Cluster: openFor(t, server.URL), Timeout: 30 * time.Second, Silence: time.Minute, Retry: time.Millisecond}, "/api/v1/pods", nil)
	f.reduce = func(*podObject) {}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.run(ctx) }()
	await(t, "the last request", func() bool { return len(s.queries()) == 9 })
	cancel()
	<-done
	var lists []string
	for _, q := range s.queries() {
		if q.Get("watch") == "" {
			lists = append(lists, q.Get("resourceVersion")+" "+q.Get("resourceVersionMatch"))
		}
	}
	if want := []string{"0 ", "5 NotOlderThan", "5 NotOlderThan", "5 NotOlderThan", " ", "3 NotOlderThan"}; !slices.Equal(lists, want) {
		t.Errorf("lists: %q, want %q", lists, want)
	}
}

func TestCutOfASteadyWatchIsNoTrouble(t *testing.T) {
	silent, stop := context.WithCancelCause(t.Context())
	stop(errors.New("nothing was said"))
	for name, tt := range map[string]struct {
		ctx     context.Context
		err     error
		lasted  time.Duration
		trouble providers.Result // "": none
	}{
		"ended by the server":  {t.Context(), nil, time.Millisecond, ""},
		"cut":                  {t.Context(), io.ErrUnexpectedEOF, time.Hour, ""},
		"reset":                {t.Context(), fmt.Errorf("read: %w", syscall.ECONNRESET), time.Hour, ""},
		"cut at once":          {t.Context(), io.ErrUnexpectedEOF, time.Second, providers.Unreachable},
		"other end is dead":    {t.Context(), errors.New("http2: client connection lost"), time.Hour, providers.Unreachable},
		"given up for silence": {silent, io.ErrUnexpectedEOF, time.Hour, providers.Timeout},
	} {
		err := ended(tt.ctx, tt.err, tt.lasted)
		var pe *providers.PollError
		if tt.trouble == "" && err != nil || tt.trouble != "" && (!errors.As(err, &pe) || pe.Result != tt.trouble) {
			t.Errorf("%s: %v, want %q", name, err, tt.trouble)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add(event("MODIFIED", item("6", karpenter)))
	f.Add(event("BOOKMARK", `{"metadata": {"resourceVersion": "9"}}`))
	f.Add(event("ERROR", `{"code": 410}`))
	f.Add(event("ADDED", nodeDoc(`"unschedulable": true, "taints": null`, `"conditions": [{"type": "Ready"}]`)))
	f.Fuzz(func(t *testing.T, line string) {
		w := newFollower[*nodeObject](Options{}, "/api/v1/nodes", nil)
		w.reduce, w.objects = new(Node).reduce, map[string]*nodeObject{}
		n := &Node{o: Options{Node: "n"}, taints: DisruptionTaints()}
		if w.event([]byte(line)) != nil {
			return
		}
		for _, o := range w.objects {
			for _, fact := range n.facts(o) {
				if fact.identity == "" || !json.Valid([]byte(`"`+fact.what+fact.said+`"`)) {
					t.Errorf("%+v", fact)
				}
			}
		}
	})
}
