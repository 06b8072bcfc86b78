package survivor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// Reasons of events.
const (
	// ReasonDead is on a node that was declared dead, and on the pods that were taken from it.
	ReasonDead = "SparkNodeDeclaredDead"
	// ReasonHeld is on the survivors' Lease, while so many nodes are silent that nothing is done.
	ReasonHeld = "SparkSurvivorsHold"
	// ReasonBack is on a node that was declared dead and is there again.
	ReasonBack = "SparkNodeIsBack"
)

// about is the object of an event.
type about struct{ api, kind, namespace, name, uid string }

// maxEvents that wait to be written: those of some thirty nodes with a hundred executors each. More are dropped, and counted.
const maxEvents = 4096

// herald writes events in the background, so that no verb waits for a word.
type herald struct {
	queue chan func(context.Context) error
	log   *zap.Logger
	lost  func()
}

func newHerald(log *zap.Logger, lost func()) *herald {
	return &herald{queue: make(chan func(context.Context) error, maxEvents), log: log, lost: lost}
}

// say puts an event in the queue.
func (h *herald) say(write func(context.Context) error) {
	select {
	case h.queue <- write:
	default:
		h.lost()
	}
}

// run writes until ctx ends. What is left then is lost: the log says the same.
func (h *herald) run(ctx context.Context) {
	limit := rate.NewLimiter(eventsPerSecond, eventsPerSecond)
	for {
		select {
		case <-ctx.Done():
			return
		case write := <-h.queue:
			if limit.Wait(ctx) != nil {
				return
			}
			if err := write(ctx); err != nil && ctx.Err() == nil {
				h.log.Info("event not written", zap.Error(err))
			}
		}
	}
}

// eventsPerSecond leaves most of what the API server takes to the verbs.
const eventsPerSecond = 50

// note has one event written, once for all attempts of all replicas: its name says what it is about, and of which happening.
func (s *Survivor) note(reason string, on about, of, text string) {
	if on.api == "" {
		on.api = "v1"
	}
	namespace := on.namespace
	if namespace == "" {
		namespace = "default" // where kubectl looks for events of objects without a namespace
	}
	sum := sha256.Sum256([]byte(reason + "\n" + on.uid + "\n" + of))
	now := time.Now().UTC().Format(time.RFC3339)
	r := kube.Request{
		Method: http.MethodPost, Path: "/api/v1/namespaces/" + url.PathEscape(namespace) + "/events",
		In: object{
			"metadata":       object{"namespace": namespace, "name": on.name + "." + hex.EncodeToString(sum[:8])},
			"involvedObject": object{"apiVersion": on.api, "kind": on.kind, "namespace": on.namespace, "name": on.name, "uid": on.uid},
			"reason":         reason, "message": text, "type": "Warning",
			"source": object{"component": "lifeboat"}, "reportingComponent": "lifeboat", "reportingInstance": s.identity,
			"firstTimestamp": now, "lastTimestamp": now, "count": 1,
		},
	}
	s.herald.say(func(ctx context.Context) error {
		err := s.calls.do(ctx, r)
		if errors.Is(err, kube.ErrConflict) {
			return nil // it was written before
		}
		s.metrics.action(verbEvent, err)
		return err
	})
}
