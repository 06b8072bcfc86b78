package survivor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	// fresh is how old the look may be on which a verb rests.
	fresh = time.Second
	// podsAtOnce of one node.
	podsAtOnce = 8
	// passTimeout is for all that is done about a node at once; what is left then waits for the next pass.
	passTimeout = 2 * time.Minute
)

// doubt is why nothing more is done about a node: it is not certain, or not certain any more, that it is dead.
type doubt struct {
	why   string
	alive bool
}

func (d *doubt) Error() string { return "not certain that the node is dead: " + d.why }

// pass is one attempt to do all that has to be done about one dead node. Everything in it can be done again.
type pass struct {
	*Survivor
	node silence
	// vanished: the fleet has the node no more. If its object is there all the same, nobody wants it looked after.
	vanished bool

	turn    chan struct{} // holds one while somebody looks; of what follows
	looked  time.Time
	last    sight
	verdict verdict
}

func newPass(s *Survivor, node silence, vanished bool) *pass {
	return &pass{Survivor: s, node: node, vanished: vanished, turn: make(chan struct{}, 1)}
}

// sure looks again, unless that was done a moment ago, and says who says that the node is dead; a *doubt when that is not
// certain. It comes right before everything that is done.
func (p *pass) sure(ctx context.Context) (verdict, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return verdict{}, context.Cause(ctx)
	}
	if _, leads := p.elector.lead(); !leads {
		return verdict{}, errTermOver
	}
	if time.Since(p.looked) > fresh {
		began := time.Now()
		l, err := p.sight(ctx, p.node)
		if err != nil {
			return verdict{}, err
		}
		p.last, p.verdict, p.looked = l, p.rules.judge(p.node, l), began
		if p.vanished && !l.gone {
			p.verdict = verdict{alive: true, why: "it is not looked after any more"}
		}
	}
	v := p.verdict
	if !v.dead {
		return v, &doubt{why: v.why, alive: v.alive}
	}
	if held := p.held(p.node.member.Zone); held != "" && !v.witness.cloud() {
		return v, &doubt{why: held}
	}
	return v, nil
}

// run does all of it, in the order in which drivers take notice best.
func (p *pass) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	v, err := p.sure(ctx)
	if err != nil {
		return err
	}
	name := p.node.member.Name
	pods, err := p.calls.executors(ctx, name)
	if err != nil {
		return err
	}
	if p.dryRun {
		p.log.Info("dry run: this node would be declared dead", zap.String("node", name), zap.String("why", v.why), zap.Int("pods", len(pods)))
		p.declare(v, nil)
		return nil
	}
	why := fmt.Sprintf("node %s is dead: %s", name, v.why)
	for _, verb := range []struct {
		name string
		on   bool
		do   func(context.Context, pod) error
	}{
		{verbDelete, p.cfg.DeletePods, p.calls.remove},
		{verbFail, p.cfg.FailPods, func(ctx context.Context, pod pod) error { return p.calls.fail(ctx, pod, why) }},
		{verbForce, p.cfg.ForceDelete, p.calls.force},
	} {
		if !verb.on {
			continue
		}
		if err := p.each(ctx, pods, verb.name, verb.do); err != nil {
			return err
		}
	}
	if err := p.release(ctx); err != nil {
		return err
	}
	p.declare(v, pods)
	return nil
}

// each does one verb to all pods. The first doubt ends it; other failures end it after the rest had its turn.
func (p *pass) each(ctx context.Context, pods []pod, verb string, do func(context.Context, pod) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(podsAtOnce)
	var mu sync.Mutex
	var failures []error
	for _, pod := range pods {
		group.Go(func() error {
			if _, err := p.sure(ctx); err != nil {
				return err
			}
			err := do(ctx, pod)
			p.metrics.action(verb, err)
			if err != nil {
				mu.Lock()
				failures = append(failures, err)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(failures) > 0 {
		return fmt.Errorf("%s: %d of %d pods: %w", verb, len(failures), len(pods), failures[0])
	}
	return nil
}

// release taints the node, so that its volumes can go elsewhere. A volume that is detached from a machine that still writes is
// damaged: it takes the cloud's word, or the operator's that silence is enough; a machine's own last word may
// have been about a drain, after which it goes on. A node whose object was deleted needs no taint.
func (p *pass) release(ctx context.Context) error {
	if !p.cfg.OutOfService {
		return nil
	}
	p.looked = time.Time{} // the version that is written against is of this moment
	v, err := p.sure(ctx)
	if err != nil {
		return err
	}
	switch v.witness {
	case WitnessShutdown, WitnessNone:
	default:
		return nil
	}
	err = p.calls.taint(ctx, p.last.member, v.witness, time.Now().Add(-p.last.skew))
	p.metrics.action(verbTaint, err)
	return err
}

// declare has it said what was done, on the node and on the pods.
func (p *pass) declare(v verdict, pods []pod) {
	text := fmt.Sprintf("Declared dead: %s; executors' pods taken from it: %d", v.why, len(pods))
	if p.dryRun {
		text = "Dry run: this node would be declared dead: " + v.why
	}
	m := p.node.member
	p.note(ReasonDead, about{kind: "Node", name: m.Name, uid: m.UID}, m.BootID, text)
	for _, pod := range pods {
		at := about{kind: "Pod", namespace: pod.Metadata.Namespace, name: pod.Metadata.Name, uid: pod.Metadata.UID}
		p.note(ReasonDead, at, m.BootID, fmt.Sprintf("Node %s was declared dead: %s", m.Name, v.why))
	}
}
