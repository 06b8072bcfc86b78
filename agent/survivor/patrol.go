package survivor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// patient is a silent node, and how far what has to be done about it is.
type patient struct {
	silence
	vanished time.Time // since when the fleet has it no more; zero: it has it
	busy     bool      // somebody reads or acts
	next     time.Time // nothing is done before
	due      time.Time // since when it could be certain that it is dead; zero: it is too early
	failed   int       // passes in a row
	declared bool      // all was done once
	doubted  string    // the last doubt that was logged
}

// returning is a node that has this project's mark of a dead one and is not silent.
type returning struct {
	member kube.Member
	since  time.Time
	busy   bool
	next   time.Time
	warned bool
}

// wards are the places for work, so that a wave of deaths does not become a wave of requests.
type wards struct {
	reads, acts chan struct{}
	all         sync.WaitGroup
}

func newWards() *wards {
	return &wards{reads: make(chan struct{}, readsAtOnce), acts: make(chan struct{}, nodesAtOnce)}
}

func (w *wards) wait() { w.all.Wait() }

// admit starts work if there is a place.
func (w *wards) admit(places chan struct{}, work func()) bool {
	select {
	case places <- struct{}{}:
	default:
		return false
	}
	w.all.Go(func() {
		defer func() { <-places }()
		work()
	})
	return true
}

// look takes in what the watch has brought, and starts what is due. It says whether to look again soon.
func (s *Survivor) look(ctx context.Context, w *wards) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.count(now) {
		return false
	}
	held, dead := s.guard(now), 0
	for uid, p := range s.cases {
		if !p.vanished.IsZero() && now.Sub(p.vanished) > goneFor && !p.busy {
			delete(s.cases, uid)
			continue
		}
		if p.declared {
			dead++
		}
		if !p.busy && !now.Before(p.next) {
			s.treat(ctx, w, p, now)
		}
	}
	s.metrics.looked(s.census, dead, s.fleet.Health().OK)
	if _, leads := s.elector.lead(); leads {
		s.receive(w, now)
		s.sayHeld(held)
	}
	return len(s.cases)+len(s.backs) > 0
}

// count goes through the fleet; false when it is not known yet.
func (s *Survivor) count(now time.Time) bool {
	c, there := newCensus(), make(map[string]bool)
	known := s.fleet.Each(func(m kube.Member) {
		c.count(m.Zone, m.Silent())
		if m.Silent() {
			there[m.UID] = true
			s.noteSilent(m, now)
		}
		s.noteReturn(m, now)
	})
	if !known {
		return false
	}
	for uid, p := range s.cases {
		if there[uid] {
			p.vanished = time.Time{}
			continue
		}
		if _, has := s.fleet.Find(uid); has {
			delete(s.cases, uid) // it was heard
			continue
		}
		if p.vanished.IsZero() {
			p.vanished, p.next = now, now
		}
		if now.Sub(p.vanished) < goneCounts {
			c.count(p.member.Zone, true)
		}
	}
	s.census = c
	return true
}

func (s *Survivor) noteSilent(m kube.Member, now time.Time) {
	p := s.cases[m.UID]
	if p == nil || p.member.BootID != m.BootID {
		s.log.Info("node is silent", zap.String("node", m.Name))
		s.cases[m.UID] = &patient{silence: silence{member: m, since: now}}
		return
	}
	if m.Tainted(kube.ShutdownTaint) != p.member.Tainted(kube.ShutdownTaint) || s.rules.hint(m, false) != s.rules.hint(p.member, false) {
		p.next, p.failed = now, 0
	}
	p.member = m
}

func (s *Survivor) noteReturn(m kube.Member, now time.Time) {
	_, marked := markOf(m)
	switch b := s.backs[m.UID]; {
	case !marked || m.Ready != "True":
		delete(s.backs, m.UID)
	case b == nil || b.member.BootID != m.BootID:
		s.backs[m.UID] = &returning{member: m, since: now}
	default:
		b.member = m
	}
}

// guard says why silent nodes are left alone, and logs when that begins and ends.
func (s *Survivor) guard(now time.Time) string {
	held := ""
	for _, p := range s.cases {
		if held = s.census.held(p.member.Zone); held != "" {
			break
		}
	}
	switch {
	case held != "" && s.heldAt.IsZero():
		s.heldAt = now
		s.log.Warn("no node is declared dead but those of which the cloud itself says so", zap.String("why", held))
	case held == "" && !s.heldAt.IsZero():
		s.heldAt = time.Time{}
		s.log.Info("nodes can be declared dead again")
	}
	set(s.metrics.held, held != "")
	return held
}

// held is asked by a pass: why a node of this zone is left alone.
func (s *Survivor) held(zone string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.census.held(zone)
}

// sayHeld has an event written of a guard that holds, once. mu is held.
func (s *Survivor) sayHeld(held string) {
	if held == "" || s.heldSaid.Equal(s.heldAt) {
		return
	}
	s.heldSaid = s.heldAt
	lease := about{api: "coordination.k8s.io/v1", kind: "Lease", namespace: s.o.Namespace, name: LeaseName}
	s.note(ReasonHeld, lease, strconv.FormatInt(s.heldAt.Unix(), 10), "No node is declared dead but those of which the cloud itself says so: "+held)
}

// treat starts what is due for a silent node: a first reading of its lease, or, where somebody may say that it is dead and this
// replica leads, a pass. mu is held.
func (s *Survivor) treat(ctx context.Context, w *wards, p *patient, now time.Time) {
	hint := s.rules.hint(p.member, !p.vanished.IsZero())
	cloud := !p.vanished.IsZero() || p.member.Tainted(kube.ShutdownTaint)
	if !cloud && s.census.held(p.member.Zone) != "" {
		return
	}
	copied := p.silence
	if p.still.IsZero() {
		p.busy = w.admit(w.reads, func() { s.read(ctx, p, copied) })
		return
	}
	switch {
	case now.Sub(p.since) < s.rules.after, now.Sub(p.still) < s.rules.after:
		return
	case !hint:
		s.doubt(p, noWitness)
		return
	}
	if p.due.IsZero() {
		p.due = now
	}
	if term, leads := s.elector.lead(); leads {
		pass := newPass(s, copied, !p.vanished.IsZero())
		p.busy = w.admit(w.acts, func() { s.act(term, p, pass) })
	}
}

// read takes the first reading of a pulse: from then on it is observed.
func (s *Survivor) read(ctx context.Context, p *patient, node silence) {
	began := time.Now()
	reading, err := s.calls.pulse(ctx, node.member.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.busy = false
	if err != nil {
		s.retry(p, "lease not read", err)
		return
	}
	p.failed = 0
	p.listen(reading, began)
	s.wake()
}

// retry puts the next attempt off. mu is held.
func (s *Survivor) retry(p *patient, what string, err error) {
	p.failed++
	p.next = time.Now().Add(min(firstPause<<min(p.failed-1, 10), longestPause))
	s.log.Warn(what, zap.String("node", p.member.Name), zap.Int("attempt", p.failed), zap.Error(err))
}

// act makes one pass, for as long as this replica leads.
func (s *Survivor) act(term context.Context, p *patient, pass *pass) {
	err := pass.run(term)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	p.busy = false
	if pass.last.pulse.found {
		p.listen(pass.last.pulse, pass.looked)
	}
	var d *doubt
	switch {
	case err == nil:
		s.finished(p, pass, time.Since(p.due))
	case errors.Is(err, errTermOver), errors.Is(context.Cause(term), errTermOver):
		p.next = time.Now()
	case errors.As(err, &d) && d.alive:
		s.log.Info("node is not dead", zap.String("node", p.member.Name), zap.String("why", d.why))
		s.forget(p)
	case errors.As(err, &d):
		p.due = time.Time{}
		p.failed++
		p.next = time.Now().Add(min(firstPause<<min(p.failed-1, 3), longestDoubt))
		s.doubt(p, d.why)
	default:
		s.retry(p, "not all could be done about a dead node: it is tried again", err)
	}
}

// doubt logs why a silent node is left alone, when that is another reason than before. mu is held.
func (s *Survivor) doubt(p *patient, why string) {
	if p.doubted != why {
		p.doubted = why
		s.log.Info("it is not certain that a silent node is dead", zap.String("node", p.member.Name), zap.String("why", why))
	}
}

// finished notes a pass after which nothing is left to do. mu is held.
func (s *Survivor) finished(p *patient, pass *pass, took time.Duration) {
	p.failed, p.next = 0, time.Now().Add(again)
	if pass.last.gone {
		s.forget(p)
	}
	if p.declared {
		return
	}
	p.declared = true
	if !s.dryRun {
		s.metrics.declared.WithLabelValues(string(pass.verdict.witness)).Inc()
		s.metrics.took.Observe(took.Seconds())
	}
	s.log.Warn("node declared dead", zap.String("node", p.member.Name), zap.String("witness", string(pass.verdict.witness)),
		zap.String("why", pass.verdict.why), zap.Duration("took", took), zap.Bool("dryRun", s.dryRun))
}

// forget ends a case; if its node is silent it begins anew. mu is held.
func (s *Survivor) forget(p *patient) {
	if s.cases[p.member.UID] == p {
		delete(s.cases, p.member.UID)
	}
}

// sight looks at a node and its lease now.
func (s *Survivor) sight(ctx context.Context, node silence) (sight, error) {
	l := sight{skew: s.fleet.Health().Skew}
	m, gone, err := s.calls.member(ctx, node.member.Name)
	if err != nil {
		return l, fmt.Errorf("node %s: %w", node.member.Name, err)
	}
	l.member, l.gone = m, gone
	if l.pulse, err = s.calls.pulse(ctx, node.member.Name); err != nil {
		return l, err
	}
	l.now = time.Now()
	return l, nil
}
