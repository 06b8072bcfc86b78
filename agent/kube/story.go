package kube

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// doer makes requests to the API server: a kube.Cluster.
type doer interface {
	Do(ctx context.Context, r kube.Request) error
}

// teller says and marks what people and Spark see of a rescue: Events, annotations, and the state of claims. Everything that
// it is told is done in the background, and again if it fails.
type teller struct {
	api    doer
	log    *zap.Logger
	node   string
	proc   string
	events bool
	later  *later
	book   *book
}

// newTeller makes one. Without a state folder nothing is remembered for the next run of the agent.
func newTeller(api doer, o Options) *teller {
	book, err := openBook(o.State, bootID(o.Proc))
	if err != nil {
		o.Log.Warn("claims that were marked earlier are forgotten", zap.Error(err))
	}
	return &teller{api: api, log: o.Log, node: o.Name, proc: o.Proc, events: o.Config.Events, later: newLater(o.Log), book: book}
}

// NodeObject is this node, with its uid if that is known yet.
func (c *Client) NodeObject() Object {
	if c == nil {
		return Object{}
	}
	n := Object{Kind: "Node", Name: c.o.Name}
	if c.o.Node != nil {
		if s, known := c.o.Node.State(); known {
			n.UID = s.UID
		}
	}
	return n
}

// Tell says one phase of a rescue of each of the objects, in an Event. It never waits.
func (c *Client) Tell(report string, reason Reason, message string, about ...Object) {
	if c == nil {
		return
	}
	c.teller.tell(happening{report: report, reason: reason, message: message, at: time.Now(), by: c.o.Name}, about)
}

func (t *teller) tell(h happening, about []Object) {
	if !t.events {
		return
	}
	for _, o := range about {
		if o.Name == "" {
			continue
		}
		e := h.event(o)
		t.later.add(errand{rescue: h.report, what: "event " + e.Reason + " on " + o.String(), do: func(ctx context.Context) error {
			return sendEvent(ctx, t.api, e)
		}})
	}
}

// NoteRescue writes the id of a rescue's report on the objects. It never waits.
func (c *Client) NoteRescue(report string, on ...Object) {
	if c == nil {
		return
	}
	for _, o := range on {
		if o.Name != "" {
			c.teller.note(report, o)
		}
	}
}

func (t *teller) note(report string, o Object) {
	t.later.add(errand{rescue: report, what: "annotation of " + o.String(), do: func(ctx context.Context) error {
		return annotate(ctx, t.api, o, map[string]string{kube.LastRescue: report})
	}})
}

// MarkClaim writes on a claim what it holds, and hides it from Spark where that is asked for and its volume can't leave this
// node. The answer waits until that is done or given up; it is done also if nobody waits, by the next run of the agent if need be.
func (c *Client) MarkClaim(m ClaimMark) (await func(ctx context.Context) error) {
	if c == nil {
		return func(context.Context) error { return nil }
	}
	m.Node = c.o.Name
	return c.teller.markClaim(m).await
}

func (t *teller) markClaim(m ClaimMark) *task {
	t.noted(t.book.put(m, false, false))
	return t.later.add(errand{rescue: m.Report, what: "mark of claim " + m.Namespace + "/" + m.Claim, do: func(ctx context.Context) error {
		hidden, err := m.mark(ctx, t.api)
		switch {
		case err == nil:
			t.noted(t.book.put(m, true, hidden))
			t.log.Info("claim marked", zap.String("claim", m.Namespace+"/"+m.Claim), zap.Bool("complete", m.Complete), zap.Bool("hidden", hidden))
		case errors.Is(err, errPointless), errors.Is(err, kube.ErrNotFound):
			t.log.Info("claim not marked", zap.String("claim", m.Namespace+"/"+m.Claim), zap.Error(err))
			t.noted(t.book.drop(m))
		}
		return err
	}})
}

func (t *teller) noted(err error) {
	if err != nil {
		t.log.Warn("marks of claims are not remembered", zap.Error(err))
	}
}

// takeUp goes on where an earlier run of the agent ended: marks that were not taken are written, and what was hidden before
// the machine went is offered again, as it has come back with its disks.
func (t *teller) takeUp() {
	for _, e := range t.book.all() {
		switch {
		case e.Boot != t.book.boot && e.Hidden:
			t.offer(e)
		case e.Boot != t.book.boot:
			t.noted(t.book.drop(e.ClaimMark))
		case !e.Done && time.Since(e.At) < tooOld:
			t.markClaim(e.ClaimMark)
		}
	}
}

// offerAll offers every claim again that was hidden: the node stays.
func (t *teller) offerAll() {
	for _, e := range t.book.all() {
		if e.Hidden {
			t.offer(e)
		}
	}
}

func (t *teller) offer(e entry) {
	m := e.ClaimMark
	t.later.add(errand{rescue: m.Report, what: "offer of claim " + m.Namespace + "/" + m.Claim, do: func(ctx context.Context) error {
		err := m.offer(ctx, t.api, t.here)
		switch {
		case err == nil:
			t.log.Info("claim offered to Spark again", zap.String("claim", m.Namespace+"/"+m.Claim))
			t.noted(t.book.drop(m))
		case errors.Is(err, errPointless), errors.Is(err, kube.ErrNotFound):
			t.log.Info("claim not offered again", zap.String("claim", m.Namespace+"/"+m.Claim), zap.Error(err))
			t.noted(t.book.drop(m))
		}
		return err
	}})
}

// here looks for a folder of the machine itself. What can't be looked at may be there.
func (t *teller) here(folder string) bool {
	_, err := os.Stat(filepath.Join(t.proc, "1", "root", folder))
	return !os.IsNotExist(err)
}

// Unsaid is what the API server has not taken of a rescue, in words: what is still tried, and what was given up. "" asks for
// all rescues.
func (c *Client) Unsaid(report string) (waiting, failed []string) {
	if c == nil {
		return nil, nil
	}
	waiting, failed = c.teller.later.unsaid(report)
	if w := c.pending(); w != nil && w.mark != nil && (report == "" || w.mark.Report == report) {
		waiting = append(waiting, "mark of node "+c.o.Name)
	}
	return waiting, failed
}

// Behind are the ids of the reports of which something was not said.
func (c *Client) Behind() (ids []string) {
	if c == nil {
		return nil
	}
	return c.teller.later.behind()
}

// Reachable is false right after a request that the API server did not answer.
func (c *Client) Reachable() bool { return c != nil && c.teller.later.reachable() }

// drainTime is how long the end of the agent waits for what still has to be said. It comes after shutdown.grace.
const drainTime = 3 * time.Second

// drain says what waits to be said. Nothing can be said afterwards.
func (c *Client) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	c.teller.later.close(ctx)
}
