// Package file watches for a file that an operator, a script or a node's shutdown hook creates to say
// that the node goes away. It is where a rescue starts on nodes without a cloud, in drills and in tests.
package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

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
// A file that was removed while no agent ran withdraws what Recall was told of, and else nothing.
type Source struct {
	o      Options
	folder string
	name   string
	poller *providers.Poller
	wake   *wake

	watched  *watched          // belongs to the poll function
	recalled *providers.Notice // of an earlier run
}

var (
	_ providers.Source = (*Source)(nil)
	_ providers.Sight  = (*Source)(nil)

	_ providers.Recaller = (*Source)(nil)
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
	s := &Source{o: o, folder: filepath.Dir(path), name: filepath.Base(path), wake: newWake()}
	s.watched = &watched{}
	var err error
	s.poller, err = providers.NewPoller(providers.PollerOptions{
		Source: Name, Poll: s.poll, Interval: o.Interval, Timeout: o.Interval, Wake: s.wake.now, Log: o.Log, Metrics: o.Metrics,
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

// Recall notes the last notice that an earlier run had read; see providers.Recaller.
func (s *Source) Recall(notices []providers.Notice) bool {
	if len(notices) > 0 {
		n := notices[len(notices)-1]
		s.recalled = &n
	}
	return true
}

// Run watches until ctx ends; see providers.Source.
func (s *Source) Run(ctx context.Context, notices chan<- providers.Notice) error {
	s.watched, s.recalled = &watched{live: s.recalled}, nil
	mine := func(name string) bool { return name == s.name }
	return runWatched(ctx, folderWatch{s.folder, s.o.Interval, mine, s.wake, s.o.Log}, func() error { return s.poller.Run(ctx, notices) })
}

// poll looks at the file once.
func (s *Source) poll(context.Context) ([]providers.Notice, error) {
	v, found, err := look(s.folder, s.name)
	if err != nil {
		s.watched.unsettle()
		return nil, err
	}
	if !found {
		return s.watched.removed(), nil
	}
	out, left, err := s.watched.see(v, rules{source: Name, lead: s.o.Lead, settle: s.o.Settle})
	s.wake.in(left)
	if err != nil {
		return nil, &providers.PollError{Result: providers.Malformed, Err: fmt.Errorf("%s: %w", s.o.Path, err)}
	}
	return out, nil
}
