package survivor

import (
	"context"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// receive takes the taint back of nodes that are there again. mu is held, and this replica leads.
func (s *Survivor) receive(w *wards, now time.Time) {
	if s.dryRun {
		return
	}
	for _, b := range s.backs {
		if b.busy || now.Before(b.next) || now.Sub(b.since) < s.rules.after {
			continue
		}
		if term, leads := s.elector.lead(); leads {
			b.busy = w.admit(w.acts, func() { s.takeBack(term, b) })
		}
	}
}

// takeBack removes the taint that a survivor has set, from a node that is ready again. After another boot nothing of the old
// machine's mounts is left. After the same boot the machine was never off, as when it was suspended, or when somebody was
// wrong: its kubelet must first have let go of every volume, because they may be attached elsewhere by now.
func (s *Survivor) takeBack(ctx context.Context, b *returning) {
	m, gone, err := s.calls.member(ctx, b.member.Name)
	mark, marked := markOf(m)
	booted := m.BootID != mark.Boot
	retry := firstPause
	switch {
	case err != nil || gone || !marked || m.UID != b.member.UID || m.BootID != b.member.BootID || m.Ready != "True":
	case !booted && m.Mounted > 0:
		s.warnSame(b, m.Mounted)
	default:
		err = s.calls.untaint(ctx, m)
		s.metrics.action(verbUntaint, err)
		if err != nil {
			break
		}
		retry = longestPause // by then the watch has brought it
		s.metrics.back.WithLabelValues(strconv.FormatBool(booted)).Inc()
		s.log.Info("node is back: its taint was taken back", zap.String("node", m.Name), zap.Bool("booted", booted))
		s.note(ReasonBack, about{kind: "Node", name: m.Name, uid: m.UID}, m.BootID+mark.At.String(),
			"The node is ready again: the taint "+outOfService+" was taken back")
	}
	if err != nil {
		s.log.Warn("the taint of a node that is back was not taken back: it is tried again", zap.String("node", b.member.Name), zap.Error(err))
		retry = 5 * time.Second
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.busy, b.next = false, time.Now().Add(retry)
}

// warnSame says once that a node was declared dead that was not off.
func (s *Survivor) warnSame(b *returning, mounted int) {
	if b.warned {
		return
	}
	b.warned = true
	s.log.Error("a node that was declared dead is ready again without having booted, and still uses volumes: its taint stays until it has let go of them",
		zap.String("node", b.member.Name), zap.Int("volumes", mounted))
	s.note(ReasonBack, about{kind: "Node", name: b.member.Name, uid: b.member.UID}, b.member.BootID+"volumes",
		"The node is ready again without having booted, and still uses volumes: its taint "+outOfService+" stays until it has let go of them")
}
