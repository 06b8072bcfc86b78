// Package file watches for a file that an operator, a script or a node's shutdown hook creates to say
// that the node goes away. It is where a rescue starts on nodes without a cloud, in drills and in tests.
package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// Name of the source.
const Name = "file"

// Defaults of the options.
const (
	DefaultInterval = 5 * time.Second
	DefaultLead     = 2 * time.Minute
	DefaultSettle   = 100 * time.Millisecond
)

// Options of the source. Only Path is needed.
type Options struct {
	Path string // absolute; its folder should exist, and must belong to root or this process
	// Lead is the time from the writing of the file to the deadline when the file does not say;
	// DefaultLead when 0.
	Lead time.Duration
	// Interval between looks in case that the kernel does not report a change; DefaultInterval when 0.
	Interval time.Duration
	// Settle is how long the file must stay unchanged before it counts, because a file that is being
	// written is first empty, and empty files are notices; DefaultSettle when 0.
	Settle  time.Duration
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// Source turns one file into notices: it appears, that is a notice; it is removed, that withdraws the
// notice; it is rewritten, that is a new one and withdraws the one before, unless both have the same
// "id": then it is the same event, changed. A file that becomes unreadable changes nothing.
//
// A file that was removed while no agent ran is forgotten: nothing is withdrawn.
type Source struct {
	o      Options
	folder string
	name   string
	poller *providers.Poller
	wake   chan struct{}

	// What follows belongs to the poll function.
	timer     *time.Timer // wakes the loop when the file may have settled
	last      version
	lastSince time.Time
	live      *providers.Notice // what the reader holds for valid
	liveFrom  version
}

var (
	_ providers.Source = (*Source)(nil)
	_ providers.Sight  = (*Source)(nil)
)

// New checks the options. A folder that is missing is no error, but a source that is down.
func New(o Options) (*Source, error) {
	if !filepath.IsAbs(o.Path) || filepath.Clean(o.Path) == "/" {
		return nil, fmt.Errorf("notice file %q: an absolute path is needed", o.Path)
	}
	if o.Lead < 0 || o.Interval < 0 || o.Settle < 0 {
		return nil, errors.New("notice file: negative time span")
	}
	o.Lead = orDefault(o.Lead, DefaultLead)
	o.Interval = orDefault(o.Interval, DefaultInterval)
	o.Settle = orDefault(o.Settle, DefaultSettle)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	path := filepath.Clean(o.Path)
	s := &Source{o: o, folder: filepath.Dir(path), name: filepath.Base(path), wake: make(chan struct{}, 1)}
	var err error
	s.poller, err = providers.NewPoller(providers.PollerOptions{
		Source: Name, Poll: s.poll, Interval: o.Interval, Timeout: o.Interval, Wake: s.wake, Log: o.Log, Metrics: o.Metrics,
	})
	return s, err
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Name is "file".
func (s *Source) Name() string { return Name }

// Health is the state after the last look.
func (s *Source) Health() providers.Health { return s.poller.Health() }

// Notices are those of the last look.
func (s *Source) Notices() []providers.Notice { return s.poller.Notices() }

// Run watches until ctx ends; see providers.Source.
func (s *Source) Run(ctx context.Context, notices chan<- providers.Notice) error {
	s.last, s.lastSince, s.live, s.liveFrom = version{}, time.Time{}, nil, version{}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.watch(ctx)
	}()
	defer func() {
		cancel()
		<-done
		s.stopTimer()
	}()
	return s.poller.Run(ctx, notices)
}

// watch wakes the poll loop when the kernel reports a change of the file. Without it the loop still
// looks at every interval.
func (s *Source) watch(ctx context.Context) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		s.o.Log.Warn("no file events; looking now and then instead", zap.String("source", Name), zap.Error(err))
		return
	}
	defer w.Close()
	// The folder may appear late, or be replaced: the watch is set again and again, which costs
	// nothing while it is in place.
	again := time.NewTicker(s.o.Interval)
	defer again.Stop()
	if w.Add(s.folder) == nil {
		s.poke() // what happened before the watch was there
	}
	for {
		select {
		case e := <-w.Events:
			if filepath.Base(e.Name) == s.name {
				s.poke()
			}
		case err := <-w.Errors: // the queue overflowed, perhaps
			s.o.Log.Debug("file events may be missing", zap.String("source", Name), zap.Error(err))
			s.poke()
		case <-again.C:
			_ = w.Add(s.folder)
		case <-ctx.Done():
			return
		}
	}
}

// poke asks for a look at once.
func (s *Source) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// poll looks at the file once.
func (s *Source) poll(context.Context) ([]providers.Notice, error) {
	v, found, err := look(s.folder, s.name)
	if err != nil {
		s.last = version{}
		return nil, err
	}
	if !found {
		s.last = version{}
		return s.withdraw(nil), nil
	}
	if s.live != nil && v == s.liveFrom {
		return []providers.Notice{*s.live}, nil
	}
	if !s.settled(v) {
		return s.current(), nil
	}
	r, err := decode(v.content)
	if err != nil {
		return nil, &providers.PollError{Result: providers.Malformed, Err: fmt.Errorf("%s: %w", s.o.Path, err)}
	}
	n := s.notice(r, v)
	s.liveFrom = v
	return s.withdraw(&n), nil
}

// settled reports whether the file has been like this for long enough, and sees to another look when
// it has not.
func (s *Source) settled(v version) bool {
	now := time.Now()
	if v != s.last {
		s.last, s.lastSince = v, now
	}
	left := s.o.Settle - now.Sub(s.lastSince)
	if left <= 0 {
		return true
	}
	s.stopTimer()
	s.timer = time.AfterFunc(left, s.poke)
	return false
}

func (s *Source) stopTimer() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

// current is what was said before and still holds.
func (s *Source) current() []providers.Notice {
	if s.live == nil {
		return nil
	}
	return []providers.Notice{*s.live}
}

// withdraw makes next the live notice (nil: none). The one before is withdrawn after the new one is
// sent, so that the reader is never without a notice in between.
func (s *Source) withdraw(next *providers.Notice) []providers.Notice {
	before := s.live
	s.live = next
	var out []providers.Notice
	if next != nil {
		out = append(out, *next)
	}
	if before != nil && (next == nil || next.ID != before.ID) {
		gone := *before
		gone.Withdrawn, gone.Seen = true, time.Now()
		out = append(out, gone)
	}
	return out
}

// notice makes the notice that a version of the file stands for.
func (s *Source) notice(r request, v version) providers.Notice {
	now := time.Now()
	id := Name + "-" + v.digest()
	if r.ID != "" {
		id = Name + "-" + r.ID
	}
	n := providers.Notice{ID: id, Source: Name, Kind: r.Kind, Executors: r.Executors, Drill: r.Drill, Seen: now}
	if r.Deadline != nil {
		n.Deadline = r.Deadline.UTC()
		return n
	}
	// Counted from the writing, so that another run of the agent finds the same deadline. A file that
	// was found too late for that gets its full time: an old file must not mean "no time left".
	lead := orDefault(r.in, s.o.Lead)
	n.Deadline = v.mtime.Add(lead)
	if v.mtime.After(now) || n.Deadline.Before(now) {
		n.Deadline = now.Add(lead)
	}
	return n
}
