package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// The sides.
const (
	spark    = "spark"
	lifeboat = "lifeboat"
)

// notice is how long before its end the node is announced to go.
const notice = 2 * time.Minute

// measured is one run. Times count from the trigger: SIGPWR for Spark, the agent's sight of the notice for
// Lifeboat.
type measured struct {
	work
	side    string
	load    string
	trigger time.Time
	wait    time.Duration // Lifeboat: from the notice's appearance in the metadata to the trigger
	first   time.Duration // to the first byte at a peer
	move    time.Duration // to the last block that got its name at a peer
	release time.Duration // until the executor's process has ended
	bytes   int64
	peak    int64 // Lifeboat: peak RSS of the agent
}

func (m measured) String() string {
	s := fmt.Sprintf("first byte after %.3f s, moved after %.2f s (%.0f MB/s, %.0f outputs/s), executor gone after %.2f s",
		m.first.Seconds(), m.move.Seconds(), m.megabytes(), m.outputs(), m.release.Seconds())
	if m.side == lifeboat {
		s += fmt.Sprintf("; notice seen after %.2f s; peak RSS %s", m.wait.Seconds(), report.Bytes(m.peak))
	}
	return s + "; load " + m.load
}

func (m measured) megabytes() float64 { return float64(m.bytes) / 1e6 / m.move.Seconds() }
func (m measured) outputs() float64   { return float64(m.maps) / m.move.Seconds() }

// bySpark has the executor decommission itself.
func (s *scene) bySpark(ctx context.Context, m *measured) error {
	m.trigger = time.Now()
	if err := s.victim.Signal(syscall.SIGPWR); err != nil {
		return err
	}
	return s.awaitEnd(ctx, m)
}

// byLifeboat shows the agent a notice.
func (s *scene) byLifeboat(ctx context.Context, m *measured) error {
	agent, err := s.StartAgent(ctx, s.doomed, lab.AgentOptions{
		Binary: s.bench.binary, Poll: poll, Config: s.bench.config,
	})
	if err != nil {
		return err
	}
	shown := time.Now()
	agent.Announce(notice)
	if err := s.awaitEnd(ctx, m); err != nil {
		return errors.Join(err, fmt.Errorf("the agent's log ends:\n%s", lab.Tail(agent.Log, 40)))
	}
	rep, err := agent.Report(ctx)
	if err != nil {
		return err
	}
	if _, saved, _ := rep.Total(); rep.Outcome != report.All || saved.Outputs != m.maps {
		return fmt.Errorf("the agent saved %d outputs: %s", saved.Outputs, rep.Outcome)
	}
	usage, err := lab.UsageOf(agent.PID())
	if err != nil {
		return err
	}
	m.peak = usage.PeakRSS
	m.trigger = rep.Notice.Seen
	m.wait = m.trigger.Sub(shown)
	m.release -= m.wait
	return nil
}

// awaitEnd waits for the end of the victim, doing nothing else: the machine is small.
func (s *scene) awaitEnd(ctx context.Context, m *measured) error {
	began := time.Now()
	if err := s.victim.Done(ctx); err != nil {
		return fmt.Errorf("the executor has not left: %w", err)
	}
	m.release = time.Since(began)
	return nil
}

// check takes the times of the files at the peers, and makes sure that all are there, and that the job
// goes on without the node.
func (s *scene) check(ctx context.Context, m *measured) error {
	missing := map[string]bool{}
	for _, name := range s.names {
		missing[name] = true
	}
	var first, last time.Time
	for _, p := range s.peers {
		files, err := shuffleFiles(p.LocalDirs())
		if err != nil {
			return err
		}
		for _, f := range files {
			delete(missing, f.name)
			if first.IsZero() || f.born.Before(first) {
				first = f.born
			}
			if f.named.After(last) {
				last = f.named
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of %d files did not reach a peer", len(missing), len(s.names))
	}
	m.first, m.move, m.bytes = first.Sub(m.trigger), last.Sub(m.trigger), s.bytes
	if err := s.doomed.Kill(); err != nil {
		return err
	}
	second, err := s.app.Round(ctx)
	if err == nil && (second.MapTasks > 0 || !second.Exact) {
		err = fmt.Errorf("after the loss %d map tasks ran again, result right: %v", second.MapTasks, second.Exact)
	}
	return err
}

var dialer = &net.Dialer{Timeout: 5 * time.Second}

// blob is so many bytes of nothing.
type blob int64

func (b blob) Size() int64 { return int64(b) }

func (b blob) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(int64(b)-off, 0))
	clear(p[:n])
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// median of at least one value.
func median[T int64 | float64 | time.Duration](values []T) T {
	v := slices.Sorted(slices.Values(values))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}
