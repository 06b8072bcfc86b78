package kube

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/lifeboat/lifeboat/providers/kube"
)

const (
	// outlived is how long after its deadline a node must have lived, with no notice standing, before it is given back.
	outlived = 15 * time.Minute
	// patchTimeout is for one attempt to mark the node.
	patchTimeout = 3 * time.Second
	// patchConflicts is how often an attempt may meet somebody else's change: kubelet and controllers write to the node too.
	patchConflicts = 5
	patchRetry     = 200 * time.Millisecond
	patchRetryMax  = 10 * time.Second
)

// Rescue is what the node's mark says of a rescue of all of it.
type Rescue struct {
	Report   string    // its id
	Deadline time.Time // when the node is taken
	By       string    // id of the notice
}

// marking is the way of the mark to the Node object. Only followNode writes there.
type marking struct {
	mu      sync.Mutex
	wanted  *intent    // nil: nothing was asked for since the agent started
	running bool       // a rescue of the node
	ended   *kube.Mark // the last one that is over; nil: none, or the node was given back since
	wake    chan struct{}
}

// intent is a state of the mark that is wanted.
type intent struct {
	mark  *kube.Mark // nil: none
	tried chan struct{}
	err   error // of the last attempt
	done  bool
}

func newMarking() *marking { return &marking{wake: make(chan struct{}, 1)} }

// Begin marks, cordons and taints this node, in the background: see AwaitMark.
func (c *Client) Begin(r Rescue) {
	if c == nil {
		return
	}
	c.want(&kube.Mark{Report: r.Report, Phase: kube.PhaseCopying, Deadline: r.Deadline.UTC(), By: r.By}, true)
}

// Ended notes on the node that its rescue is over. The node stays cordoned: it is still to be taken.
func (c *Client) Ended(r Rescue) {
	if c == nil {
		return
	}
	m := &kube.Mark{Report: r.Report, Phase: kube.PhaseEnded, Deadline: r.Deadline.UTC(), By: r.By}
	c.want(m, false)
	c.marking.mu.Lock()
	defer c.marking.mu.Unlock()
	c.marking.ended = m
}

// Withdrawn takes the mark of a rescue back, and what came with it: nobody was told. Where an earlier one was over for which the
// node is still to be taken, that one's mark comes back.
func (c *Client) Withdrawn(report string) {
	if c == nil {
		return
	}
	c.marking.mu.Lock()
	earlier := c.marking.ended
	c.marking.mu.Unlock()
	if earlier != nil && earlier.Report != report && time.Since(earlier.Deadline) < outlived {
		c.want(earlier, false)
		return
	}
	c.want(nil, false)
	c.teller.offerAll()
}

// Narrowed takes the mark of a rescue back that is one of the whole node no more.
func (c *Client) Narrowed(report string) {
	if c == nil {
		return
	}
	c.marking.mu.Lock()
	w := c.marking.wanted
	c.marking.mu.Unlock()
	if w != nil && w.mark != nil && w.mark.Report == report {
		c.Withdrawn(report)
	}
}

func (c *Client) want(m *kube.Mark, running bool) {
	c.marking.mu.Lock()
	c.marking.wanted, c.marking.running = &intent{mark: m, tried: make(chan struct{})}, running
	c.marking.mu.Unlock()
	select {
	case c.marking.wake <- struct{}{}:
	default:
	}
}

// AwaitMark returns when what was asked for last stands on the node: nothing new is scheduled here then. An error says
// that an attempt has failed, or that ctx has ended; it is tried again in the background.
func (c *Client) AwaitMark(ctx context.Context) error {
	if c == nil {
		return nil
	}
	c.marking.mu.Lock()
	w := c.marking.wanted
	c.marking.mu.Unlock()
	if w == nil {
		return nil
	}
	select {
	case <-w.tried:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.marking.mu.Lock()
	defer c.marking.mu.Unlock()
	return w.err
}

// followNode keeps the node's mark as it is wanted, and takes it back when its time is over.
func (c *Client) followNode(ctx context.Context) {
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: patchRetry, MaxInterval: patchRetryMax, Multiplier: 2, RandomizationFactor: 0.3,
	}
	pauses.Reset()
	for ctx.Err() == nil {
		changed := c.o.Node.Changed()
		again := time.Minute
		if err := c.tend(ctx); err != nil {
			again = pauses.NextBackOff()
			if refused := (*kube.StatusError)(nil); errors.As(err, &refused) {
				again = max(again, refused.RetryAfter)
			}
		} else {
			pauses.Reset()
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-c.marking.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), Patience)
	defer cancel()
	if c.pending() != nil {
		_ = c.tend(last)
	}
}

// pending is what is wanted and does not stand yet.
func (c *Client) pending() *intent {
	c.marking.mu.Lock()
	defer c.marking.mu.Unlock()
	if w := c.marking.wanted; w != nil && !w.done {
		return w
	}
	return nil
}

// tend does what there is to do on the node.
func (c *Client) tend(ctx context.Context) error {
	w := c.pending()
	if w == nil {
		if c.isOver() {
			c.log.Info("this node stays: its mark is taken back")
			c.want(nil, false)
			c.forgetEnded()
			c.teller.offerAll()
		}
		return nil
	}
	err := c.write(ctx, w.mark)
	c.marking.mu.Lock()
	defer c.marking.mu.Unlock()
	if err != nil && w.err == nil {
		c.log.Warn("the node can't be marked yet", zap.Error(err))
	}
	w.err, w.done = err, err == nil
	select {
	case <-w.tried:
	default:
		close(w.tried)
	}
	return err
}

func (c *Client) forgetEnded() {
	c.marking.mu.Lock()
	defer c.marking.mu.Unlock()
	c.marking.ended = nil
}

// isOver says that the node has a mark that has outlived its reason.
func (c *Client) isOver() bool {
	c.marking.mu.Lock()
	running := c.marking.running
	c.marking.mu.Unlock()
	s, known := c.o.Node.State()
	if running || !known {
		return false
	}
	return outlives(s, time.Now(), func() bool { return c.o.Standing != nil && c.o.Standing() })
}

// outlives says that a node's mark has lost its reason while no rescue runs: the machine came back under its name, it was not taken,
// or somebody has let pods onto it again. What is cordoned after that is cordoned for another reason, and is not ours to take back.
func outlives(s kube.NodeState, now time.Time, standing func() bool) bool {
	text, marked := s.Annotations[kube.OwnMark]
	if !marked {
		return false
	}
	m, err := kube.ParseMark(text)
	switch {
	case err != nil:
		return false // no rescue has written that
	case m.Boot != "" && s.BootID != "" && m.Boot != s.BootID:
		return true
	case m.Cordoned && !s.Unschedulable:
		return true
	}
	return now.Sub(m.Deadline) > outlived && !standing()
}

// write brings the mark to the node, on the state that the watch has; on a newer one when that has changed. What is to be taken
// back the watch may not have shown yet.
func (c *Client) write(ctx context.Context, m *kube.Mark) error {
	ctx, cancel := context.WithTimeout(ctx, patchTimeout)
	defer cancel()
	s, known := c.o.Node.State()
	known = known && m != nil
	var err error
	for range patchConflicts {
		if !known {
			if s, err = c.cluster.Read(ctx, c.o.Name, true); err != nil {
				return err
			}
		}
		patch, needed, failed := c.patch(s, m)
		if failed != nil || !needed {
			return failed
		}
		if _, err = c.cluster.PatchNode(ctx, c.o.Name, patch); !errors.Is(err, kube.ErrConflict) {
			return err
		}
		known = false
	}
	return err
}

// patch is what the node lacks to be marked, or to be given back. Its version makes somebody else's change in between a
// conflict: the list of taints is written as a whole.
func (c *Client) patch(s kube.NodeState, m *kube.Mark) (patch any, needed bool, err error) {
	before, marked := s.Mark()
	if m == nil && !marked {
		return nil, false, nil
	}
	taints := slices.DeleteFunc(slices.Clone(s.Taints), func(t corev1.Taint) bool { return t.Key == kube.OwnTaint })
	tainted := len(taints) < len(s.Taints)
	spec := map[string]any{}
	var annotation any
	if m == nil {
		if before.Cordoned {
			spec["unschedulable"] = nil
		}
	} else {
		now := *m
		now.Boot = s.BootID
		if again := marked && before.Report == m.Report; again { // whoever has uncordoned the node since means it
			now.Cordoned = before.Cordoned
		} else if c.o.Config.Cordon {
			now.Cordoned = !s.Unschedulable || before.Cordoned
			spec["unschedulable"] = true
		}
		if c.o.Config.Cordon {
			taints = append(taints, corev1.Taint{Key: kube.OwnTaint, Value: now.Phase, Effect: corev1.TaintEffectNoSchedule})
		}
		if annotation, err = now.Text(); err != nil {
			return nil, false, err
		}
	}
	if tainted || len(taints) > len(s.Taints) {
		spec["taints"] = append([]corev1.Taint{}, taints...) // none is an empty list
	}
	return map[string]any{
		"metadata": map[string]any{"resourceVersion": s.ResourceVersion, "annotations": map[string]any{kube.OwnMark: annotation}},
		"spec":     spec,
	}, true, nil
}
