package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// DeletesPods says whether executors are ended by deleting their pods.
func (c *Client) DeletesPods() bool { return c != nil && c.o.Config.DeletePods }

// EndPod deletes an executor's pod, after it was marked as deleted by a rescue so that the deletion is no notice. It is this
// pod or none: one that has gone meanwhile is no error. FailPod and DropPod have to follow.
func (c *Client) EndPod(ctx context.Context, pod kube.Pod, report string) error {
	if c == nil {
		return errors.New("no Kubernetes")
	}
	of := PodObject(pod)
	err := annotate(ctx, c.cluster, of, map[string]string{kube.OwnMark: report})
	if err == nil {
		err = c.deletePod(ctx, pod, c.o.Config.Grace)
	}
	if err != nil && !errors.Is(err, kube.ErrNotFound) && !errors.Is(err, errPointless) {
		return fmt.Errorf("pod of executor %s: %w", pod.Executor, err)
	}
	return nil
}

// FailPod sets the phase of an executor's pod that is being deleted, before its process ends. Spark takes a deleted pod that no longer
// runs for a deleted executor. As long as its phase is Running, and the kubelet leaves that so until all is cleaned up, Spark looks at
// the container: one that has exited with an error, as after any signal, is a failed executor, of which an application survives
// only a few (org.apache.spark.scheduler.cluster.k8s.ExecutorPodsSnapshot; counted by ExecutorPodsAllocator in 3.5, by
// ExecutorPodsLifecycleManager in 4.x). A pod that is not being deleted would be counted by just this.
func (c *Client) FailPod(ctx context.Context, pod kube.Pod, report string) error {
	if c == nil {
		return errors.New("no Kubernetes")
	}
	of := PodObject(pod)
	err := c.cluster.Do(ctx, kube.Request{
		Method: http.MethodPatch, Path: of.path() + "/status", Patch: kube.MergePatch,
		In: map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{
			"phase": "Failed", "reason": "SparkRescue", "message": "its node is being emptied; its map outputs are looked after by rescue " + report,
		}},
	})
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("pod of executor %s: %w", pod.Executor, err)
	}
	return nil
}

// DropPod takes the object of a pod away that EndPod has deleted and FailPod has failed, without waiting for the kubelet: what that
// still writes may set the phase back to Running. The kubelet goes on to end the pod's processes within the grace period, and to
// unmount its volumes, of which it tells by the node's status.
func (c *Client) DropPod(ctx context.Context, pod kube.Pod) error {
	if c == nil {
		return errors.New("no Kubernetes")
	}
	if err := c.deletePod(ctx, pod, 0); err != nil && !errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("pod of executor %s: %w", pod.Executor, err)
	}
	return nil
}

func (c *Client) deletePod(ctx context.Context, pod kube.Pod, grace time.Duration) error {
	return c.cluster.Do(ctx, kube.Request{
		Method: http.MethodDelete, Path: PodObject(pod).path(),
		In: map[string]any{
			"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": int64(grace.Seconds()),
			"preconditions": map[string]string{"uid": pod.UID},
		},
	})
}

// AwaitLeaving returns when a pod whose end was announced is on its way out, or has gone; false when that is not seen before ctx
// ends.
func (c *Client) AwaitLeaving(ctx context.Context, uid string) bool {
	if c == nil {
		return false
	}
	for {
		changed := c.o.Pods.Changed()
		i := slices.IndexFunc(c.o.Pods.Executors(), func(p kube.Pod) bool { return p.UID == uid && !p.Leaving() })
		if i < 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// ShuttingDown says that the kubelet ends all pods of this node.
func (c *Client) ShuttingDown() bool {
	if c == nil {
		return false
	}
	s, known := c.o.Node.State()
	return known && s.ShuttingDown
}

// IsHere says whether a host name is the address of an executor's pod on this node. Addresses of pods that have ended may have gone
// to others, on other nodes too.
func (c *Client) IsHere(host string) bool {
	if c == nil {
		return false
	}
	return c.o.Pods.Has(executor.NormalAddress(host))
}
