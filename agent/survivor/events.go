package survivor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"time"

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

// event writes that a node was declared dead.
func (s *Survivor) event(ctx context.Context, on about, of, text string) error {
	return s.note(ctx, ReasonDead, on, of, text)
}

// note writes one event, once for all attempts of all replicas: its name says what it is about, and of which happening.
func (s *Survivor) note(ctx context.Context, reason string, on about, of, text string) error {
	if on.api == "" {
		on.api = "v1"
	}
	namespace := on.namespace
	if namespace == "" {
		namespace = "default" // where kubectl looks for events of objects without a namespace
	}
	sum := sha256.Sum256([]byte(reason + "\n" + on.uid + "\n" + of))
	now := time.Now().UTC().Format(time.RFC3339)
	err := s.calls.do(ctx, kube.Request{
		Method: http.MethodPost, Path: "/api/v1/namespaces/" + url.PathEscape(namespace) + "/events",
		In: object{
			"metadata":       object{"namespace": namespace, "name": on.name + "." + hex.EncodeToString(sum[:8])},
			"involvedObject": object{"apiVersion": on.api, "kind": on.kind, "namespace": on.namespace, "name": on.name, "uid": on.uid},
			"reason":         reason, "message": text, "type": "Warning",
			"source": object{"component": "lifeboat"}, "reportingComponent": "lifeboat", "reportingInstance": s.identity,
			"firstTimestamp": now, "lastTimestamp": now, "count": 1,
		},
	})
	if errors.Is(err, kube.ErrConflict) {
		return nil
	}
	s.metrics.action(verbEvent, err)
	return err
}
