package kube

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// place is where a driver's pod runs. Neither changes in the life of a pod.
type place struct{ ip, node string }

// DriverAddress is where the driver runs whose pod has made this one: its address, and the name of its node. It is asked for
// when an executor of the application is first seen here, so that it is known while the API server is away.
// Names in executors' --driver-url are services, which not every node can resolve.
func (c *Client) DriverAddress(pod kube.Pod) (ip, node string, ok bool) {
	if c == nil {
		return "", "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.drivers[pod.Driver.UID]
	return at.ip, at.node, ok
}

// followDrivers learns of the drivers of the pods that there are, and forgets others.
func (c *Client) followDrivers(ctx context.Context) {
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: time.Second, MaxInterval: time.Minute, Multiplier: 2, RandomizationFactor: 0.3,
	}
	pauses.Reset()
	for ctx.Err() == nil {
		changed := c.o.Pods.Changed()
		again := time.Hour
		if c.learnDrivers(ctx) {
			pauses.Reset()
		} else {
			again = pauses.NextBackOff()
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// learnDrivers asks for each driver that is not known yet. It is false when one has to be asked for again.
func (c *Client) learnDrivers(ctx context.Context) bool {
	wanted := map[kube.OwnerRef]string{} // in which namespace
	for _, p := range c.o.Pods.Executors() {
		if p.Driver.Kind == "Pod" && !p.Over() {
			wanted[p.Driver] = p.Namespace
		}
	}
	c.mu.Lock()
	known := make(map[string]place, len(wanted))
	for ref := range wanted {
		if at, is := c.drivers[ref.UID]; is {
			known[ref.UID] = at
		}
	}
	c.drivers = known
	c.mu.Unlock()
	all := true
	for ref, namespace := range wanted {
		if _, is := known[ref.UID]; is {
			continue
		}
		at, err := c.findDriver(ctx, namespace, ref)
		if err != nil {
			c.log.Info("the driver's pod is not known", zap.String("pod", namespace+"/"+ref.Name), zap.Error(err))
			all = false
			continue
		}
		c.mu.Lock()
		c.drivers[ref.UID] = at
		c.mu.Unlock()
	}
	return all
}

// findDriver asks for one driver. A pod with its name and another uid is another one.
func (c *Client) findDriver(ctx context.Context, namespace string, ref kube.OwnerRef) (place, error) {
	var pod struct {
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
		Spec struct {
			NodeName string `json:"nodeName"`
		} `json:"spec"`
		Status struct {
			PodIP string `json:"podIP"`
		} `json:"status"`
	}
	err := c.cluster.Do(ctx, kube.Request{Method: http.MethodGet, Path: kube.PodPath(namespace, ref.Name), Out: &pod})
	switch {
	case err != nil:
		return place{}, err
	case pod.Metadata.UID != ref.UID:
		return place{}, fmt.Errorf("pod %s/%s: %w", namespace, ref.Name, kube.ErrNotFound)
	case pod.Status.PodIP == "" || pod.Spec.NodeName == "":
		return place{}, fmt.Errorf("pod %s/%s has no address yet", namespace, ref.Name)
	}
	return place{ip: pod.Status.PodIP, node: pod.Spec.NodeName}, nil
}
