package kube

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// api is an API server that notes what it is asked and answers as it is told.
type api struct {
	mu     sync.Mutex // of asked: errands go side by side
	asked  []kube.Request
	answer func(r kube.Request) (any, error)
}

func (a *api) Do(_ context.Context, r kube.Request) error {
	a.mu.Lock()
	a.asked = append(a.asked, r)
	a.mu.Unlock()
	if a.answer == nil {
		return nil
	}
	doc, err := a.answer(r)
	if err != nil || r.Out == nil {
		return err
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, r.Out)
}

func tellerFor(t *testing.T, a doer, state string) *teller {
	t.Helper()
	return newTeller(a, Options{Name: "node-a", Proc: t.TempDir(), State: state, Config: config.Default().Kubernetes, Log: zap.NewNop()})
}

var (
	podOne = Object{Kind: "Pod", Namespace: "spark", Name: "job-exec-1", UID: "u1"}
	nodeA  = Object{Kind: "Node", Name: "node-a", UID: "n1"}
)

func TestEventsOfOnePhase(t *testing.T) {
	a := &api{}
	c := &Client{o: Options{Name: "node-a"}, teller: tellerFor(t, a, "")}
	c.Tell("r1", Lost, strings.Repeat("ö", 1000), podOne, nodeA, Object{})
	c.drain()
	if len(a.asked) != 2 {
		t.Fatalf("requests: %+v", a.asked)
	}
	seen := map[string]corev1.Event{}
	for _, r := range a.asked {
		e := r.In.(corev1.Event)
		seen[r.Method+" "+r.Path] = e
		if e.Type != corev1.EventTypeWarning || e.Reason != "SparkRescueLost" || len(e.Message) > 1024 || !strings.HasSuffix(e.Message, "ö…") ||
			e.ReportingController != "lifeboat" || e.Source.Host != "node-a" || e.FirstTimestamp.IsZero() || e.Count != 1 {
			t.Errorf("%+v", e)
		}
	}
	if e := seen["POST /api/v1/namespaces/spark/events"]; e.InvolvedObject.UID != "u1" || e.InvolvedObject.Namespace != "spark" || !strings.HasPrefix(e.Name, "job-exec-1.") {
		t.Errorf("of the pod: %+v", e)
	}
	if e := seen["POST /api/v1/namespaces/default/events"]; e.InvolvedObject.Kind != "Node" || e.InvolvedObject.Namespace != "" {
		t.Errorf("of the node: %+v", e)
	}
}

func TestEventsCanBeSwitchedOff(t *testing.T) {
	a := &api{}
	c := &Client{teller: tellerFor(t, a, "")}
	c.teller.events = false
	c.Tell("r1", Began, "it begins", podOne)
	c.NoteRescue("r1", podOne, Object{})
	c.drain()
	if len(a.asked) != 1 || a.asked[0].Method != "PATCH" {
		t.Errorf("requests: %+v", a.asked)
	}
}

// TestSameEventHasTheSameName: an attempt whose answer got lost is made again, and so is what an earlier run has said.
func TestSameEventHasTheSameName(t *testing.T) {
	h := happening{report: "r1", reason: Began, message: "a", at: time.Unix(1, 0), by: "node-a"}
	later := h
	later.at, later.message = time.Unix(9, 0), "b"
	if h.event(podOne).Name != later.event(podOne).Name {
		t.Error("the same phase of the same rescue has two names")
	}
	other, another := h, podOne
	other.reason, another.UID = Ended, "u2"
	if h.event(podOne).Name == other.event(podOne).Name || h.event(podOne).Name == h.event(another).Name {
		t.Error("two events have one name")
	}
	long := podOne
	long.Name = strings.Repeat("x", 199) + ".y" + strings.Repeat("z", 52)
	if name := h.event(long).Name; len(name) > 253 || strings.Contains(name, "..") {
		t.Errorf("name %q", name)
	}
}

func TestAnswersToAnEvent(t *testing.T) {
	for name, tt := range map[string]struct{ answer, want error }{
		"taken":               {nil, nil},
		"there already":       {&kube.StatusError{Code: 409, Reason: "AlreadyExists"}, nil},
		"namespace goes":      {&kube.StatusError{Code: 403, Reason: "Forbidden", Message: "unable to create new content in namespace spark because it is being terminated"}, errPointless},
		"namespace has gone":  {&kube.StatusError{Code: 404}, kube.ErrNotFound},
		"permission":          {&kube.StatusError{Code: 403}, kube.ErrForbidden},
		"nobody answers":      {errAway, kube.ErrAway},
		"other 409 is no end": {&kube.StatusError{Code: 409, Reason: "Conflict"}, kube.ErrConflict},
	} {
		a := &api{answer: func(kube.Request) (any, error) { return nil, tt.answer }}
		if err := sendEvent(t.Context(), a, corev1.Event{}); tt.want == nil && err != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestNilClientDoesNothing(t *testing.T) {
	var c *Client
	c.Tell("r", Began, "x", podOne)
	c.NoteRescue("r", podOne)
	if waiting, failed := c.Unsaid(""); waiting != nil || failed != nil || c.NodeObject() != (Object{}) || c.MarkClaim(ClaimMark{})(t.Context()) != nil {
		t.Error("it knows something")
	}
}
