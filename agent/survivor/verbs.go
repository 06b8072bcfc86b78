package survivor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// Verbs, as metrics name them.
const (
	verbDelete  = "delete"
	verbFail    = "fail"
	verbForce   = "force-delete"
	verbTaint   = "taint"
	verbUntaint = "untaint"
	verbEvent   = "event"
)

// DeadMark is the annotation of a node that was tainted out of service by a survivor: what shows that the taint is its own.
const DeadMark = kube.Domain + "declared-dead"

// outOfService is the taint that lets volumes of a node that is shut down go (Kubernetes, "Node shutdowns", non-graceful). All pods
// that don't tolerate it are deleted by force, and volumes are detached without a word of the kubelet's.
const outOfService = "node.kubernetes.io/out-of-service"

type object map[string]any

// deletion of this very pod.
func deletion(p pod, grace *int) object {
	o := object{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": object{"uid": p.Metadata.UID}}
	if grace != nil {
		o["gracePeriodSeconds"] = *grace
	}
	return o
}

// remove deletes a pod with its own grace period: it is marked as deleted, which its driver sees before it sees it fail.
func (c *calls) remove(ctx context.Context, p pod) error {
	if p.Metadata.Deleting != "" {
		return nil
	}
	return there(c.do(ctx, kube.Request{Method: http.MethodDelete, Path: p.path(), In: deletion(p, nil)}))
}

// fail sets the pod's phase. Spark takes a pod that is deleted and no longer running for a deleted executor at once, and
// counts no failure (org.apache.spark.scheduler.cluster.k8s.ExecutorPodsSnapshot.isDeleted, 3.4 to 4.3).
func (c *calls) fail(ctx context.Context, p pod, why string) error {
	if p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return nil
	}
	return there(c.do(ctx, kube.Request{
		Method: http.MethodPatch, Path: p.path() + "/status", Patch: kube.MergePatch,
		In: object{"metadata": object{"uid": p.Metadata.UID}, "status": object{"phase": "Failed", "reason": "NodeLost", "message": why}},
	}))
}

// force takes the object away: no kubelet is left that could confirm the end.
func (c *calls) force(ctx context.Context, p pod) error {
	return there(c.do(ctx, kube.Request{Method: http.MethodDelete, Path: p.path(), In: deletion(p, new(int))}))
}

// there forgives that something has gone already.
func there(err error) error {
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	return err
}

// deadMark is the value of DeadMark.
type deadMark struct {
	At      time.Time `json:"at"`
	Boot    string    `json:"boot"`
	Witness Witness   `json:"witness"`
}

// taint lets the volumes of a node go. It is done when somebody has set the same taint: then it is not this survivor's to take back.
// The node must still be as it was read, or nothing is written.
func (c *calls) taint(ctx context.Context, m kube.Member, w Witness, now time.Time) error {
	if m.Tainted(outOfService) {
		return nil
	}
	mark, err := json.Marshal(deadMark{At: now.UTC().Truncate(time.Second), Boot: m.BootID, Witness: w})
	if err != nil {
		return err
	}
	taints := make([]any, 0, len(m.Taints)+1)
	for _, t := range m.Taints {
		taints = append(taints, t)
	}
	return c.patchNode(ctx, m, append(taints, object{"key": outOfService, "value": "nodeshutdown", "effect": "NoExecute"}), string(mark))
}

// untaint takes the taint and its mark back.
func (c *calls) untaint(ctx context.Context, m kube.Member) error {
	taints := make([]any, 0, len(m.Taints))
	for _, t := range m.Taints {
		if t.Key != outOfService {
			taints = append(taints, t)
		}
	}
	return c.patchNode(ctx, m, taints, nil)
}

// patchNode replaces the taints and the mark of a node that is as it was read.
func (c *calls) patchNode(ctx context.Context, m kube.Member, taints []any, mark any) error {
	return c.do(ctx, kube.Request{
		Method: http.MethodPatch, Path: "/api/v1/nodes/" + m.Name, Patch: kube.MergePatch,
		In: object{
			"metadata": object{"uid": m.UID, "resourceVersion": m.ResourceVersion, "annotations": object{DeadMark: mark}},
			"spec":     object{"taints": slices.Clip(taints)},
		},
	})
}

// markOf reads the mark of a node that this project has tainted.
func markOf(m kube.Member) (deadMark, bool) {
	text, marked := m.Annotations[DeadMark]
	var mark deadMark
	if !marked || json.Unmarshal([]byte(text), &mark) != nil {
		return deadMark{}, false
	}
	return mark, true
}
