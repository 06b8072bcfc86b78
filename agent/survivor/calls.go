package survivor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	// callTimeout is for one request, callPatience for it and its repetitions.
	callTimeout  = 5 * time.Second
	callPatience = 20 * time.Second
	// callsPerSecond are all requests but those of the watch and the election. An API server takes some hundreds at a time
	// from all service accounts together ("API Priority and Fairness").
	callsPerSecond = 400
	// podPage and podPages bound what is read of one node: a kubelet runs 110 pods unless told otherwise.
	podPage, podPages = 250, 8

	nodeLeases = "/apis/coordination.k8s.io/v1/namespaces/" + nodeLeaseNamespace + "/leases/"
)

// cluster is what this package needs of the API server; *kube.Cluster has it.
type cluster interface {
	client
	Member(ctx context.Context, name string) (kube.Member, error)
}

// calls are the requests of a survivor: each with a deadline, all together with a rate, repeated when that may help.
type calls struct {
	api   cluster
	limit *rate.Limiter
}

func newCalls(api cluster) *calls {
	return &calls{api: api, limit: rate.NewLimiter(callsPerSecond, callsPerSecond)}
}

// call makes one request, again and again while the API server is away or asks for patience.
func (c *calls) call(ctx context.Context, one func(ctx context.Context) error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if err := c.limit.Wait(ctx); err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err := one(ctx)
		var refused *kube.StatusError
		switch {
		case err == nil:
			return struct{}{}, nil
		case errors.As(err, &refused) && refused.RetryAfter > 0:
			return struct{}{}, errors.Join(err, backoff.RetryAfter(int(refused.RetryAfter/time.Second)))
		case errors.Is(err, kube.ErrAway), errors.Is(err, kube.ErrTooMany):
			return struct{}{}, err
		default:
			return struct{}{}, backoff.Permanent(err)
		}
	}, backoff.WithBackOff(pauses()), backoff.WithMaxElapsedTime(callPatience))
	return err
}

func pauses() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 4 * time.Second, Multiplier: 2, RandomizationFactor: 0.3}
}

func (c *calls) do(ctx context.Context, r kube.Request) error {
	return c.call(ctx, func(ctx context.Context) error { return c.api.Do(ctx, r) })
}

// member reads a node now; gone when there is none of its name.
func (c *calls) member(ctx context.Context, name string) (m kube.Member, gone bool, err error) {
	err = c.call(ctx, func(ctx context.Context) (err error) {
		m, err = c.api.Member(ctx, name)
		return err
	})
	if errors.Is(err, kube.ErrNotFound) {
		return kube.Member{}, true, nil
	}
	return m, false, err
}

// pulse reads a node's Lease now (kubelet, pkg/kubelet/kubelet.go: its name is the node's).
func (c *calls) pulse(ctx context.Context, node string) (pulse, error) {
	var l lease
	err := c.do(ctx, kube.Request{Method: http.MethodGet, Path: nodeLeases + url.PathEscape(node), Out: &l})
	if errors.Is(err, kube.ErrNotFound) {
		return pulse{}, nil
	}
	if err != nil {
		return pulse{}, err
	}
	renewed, err := time.Parse(time.RFC3339Nano, l.Spec.Renewed)
	if err != nil {
		return pulse{}, fmt.Errorf("lease of node %s: when it was renewed can't be read: %w", node, err)
	}
	lasts := time.Duration(l.Spec.Seconds) * time.Second
	if lasts <= 0 || lasts > time.Hour {
		return pulse{}, fmt.Errorf("lease of node %s: it lasts %v: that can't be meant", node, lasts)
	}
	return pulse{found: true, beat: l.Spec.Renewed, over: renewed.Add(lasts), lasts: lasts}, nil
}

// pod is what is needed of an executor's pod.
type pod struct {
	Metadata struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		UID       string `json:"uid"`
		Deleting  string `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

func (p pod) path() string {
	return "/api/v1/namespaces/" + url.PathEscape(p.Metadata.Namespace) + "/pods/" + url.PathEscape(p.Metadata.Name)
}

// executors lists the executors' pods of a node. What Spark's label does not name is nobody's here.
func (c *calls) executors(ctx context.Context, node string) ([]pod, error) {
	query := url.Values{
		"fieldSelector": {"spec.nodeName=" + node}, "labelSelector": {"spark-role=executor"}, "limit": {strconv.Itoa(podPage)},
	}
	var all []pod
	for range podPages {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []pod `json:"items"`
		}
		if err := c.do(ctx, kube.Request{Method: http.MethodGet, Path: "/api/v1/pods", Query: query, Out: &page}); err != nil {
			return nil, err
		}
		for _, p := range page.Items {
			if p.Spec.NodeName != node || p.Metadata.UID == "" {
				return nil, fmt.Errorf("pods of node %s: the answer holds others", node)
			}
			all = append(all, p)
		}
		if page.Metadata.Continue == "" {
			return all, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
	return all, nil // the rest comes with the next pass
}
