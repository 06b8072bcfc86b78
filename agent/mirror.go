package agent

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/migrate/gentle"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers"
)

// mirrorReaders is how many threads read for all mirrors of a node.
const mirrorReaders = 2

// mirror keeps copies of this node's map outputs in object storage before any notice, one mirrored application beside the
// other: then a rescue has only the difference to move, and a node that dies without a word can be salvaged.
type mirror struct {
	mode  string
	log   *zap.Logger
	start func(ctx context.Context, app string) *mirrored // begins to copy an application
	ended func()                                          // after everything has stopped

	mu      sync.Mutex
	wanted  map[string]bool // ids of the notices that ask for copies
	running map[string]*mirrored
	held    map[string]int // applications in a rescue: their copies are its own business
}

func newMirror(mode string, log *zap.Logger, start func(ctx context.Context, app string) *mirrored) *mirror {
	return &mirror{
		mode: mode, log: log, start: start, ended: func() {},
		wanted: map[string]bool{}, running: map[string]*mirrored{}, held: map[string]int{},
	}
}

// active says whether copies are to be made now. Its lock is held.
func (m *mirror) active() bool {
	switch m.mode {
	case config.MirrorAlways:
		return true
	case config.MirrorOnRebalance:
		return len(m.wanted) > 0
	}
	return false
}

// want takes a notice that says that this node may soon go, or that this is over.
func (m *mirror) want(n providers.Notice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.active()
	if n.Withdrawn {
		delete(m.wanted, n.ID)
	} else {
		m.wanted[n.ID] = true
	}
	if m.active() != before {
		m.log.Info("copying ahead", zap.Bool("on", m.active()), zap.String("notice", n.ID))
	}
}

// saw takes in what runs on this node now: it begins with applications that are new, and stops those that have no
// executor here any more. ctx is the life of what it starts.
func (m *mirror) saw(ctx context.Context, list []executor.Executor) {
	here := map[string][]executor.Executor{}
	for _, e := range list {
		here[e.App] = append(here[e.App], e)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for app, members := range here {
		if !m.active() || m.held[app] > 0 || ctx.Err() != nil {
			continue
		}
		a := m.running[app]
		if a == nil {
			a = m.start(ctx, app)
			m.running[app] = a
		}
		a.saw(members)
	}
	for app, a := range m.running {
		if len(here[app]) == 0 || !m.active() {
			a.stop()
			delete(m.running, app)
		}
	}
}

// hold ends the copying of an application for as long as it is rescued, and says which of its outputs lie in object
// storage whole: what is still under way then does not count, because a rescue's order must not change under it. The
// function that it returns ends that.
func (m *mirror) hold(app string) (stored *storedSet, release func()) {
	m.mu.Lock()
	a := m.running[app]
	delete(m.running, app)
	m.held[app]++
	m.mu.Unlock()
	var once sync.Once
	release = func() {
		once.Do(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.held[app]--; m.held[app] == 0 {
				delete(m.held, app)
			}
		})
	}
	if a == nil {
		return newStoredSet(), release
	}
	a.stop()
	return a.stored.clone(), release
}

// close stops everything and waits for it.
func (m *mirror) close() {
	m.mu.Lock()
	all := m.running
	m.running = map[string]*mirrored{}
	m.mu.Unlock()
	for _, a := range all {
		a.stop()
	}
	for _, a := range all {
		<-a.done
	}
	m.ended()
}

// newMirror is the mirror that the configuration asks for.
func (a *Agent) newMirror() *mirror {
	if a.cfg.Mirror.Mode == config.MirrorOff || !a.cfg.Uses(config.DestinationObjects) {
		return newMirror(config.MirrorOff, a.log, nil)
	}
	var readers *gentle.Readers // from the first application on
	limit, metrics := newBandwidth(a.cfg.Mirror.Bandwidth), status.NewMirror(a.registry)
	m := newMirror(a.cfg.Mirror.Mode, a.log, func(ctx context.Context, app string) *mirrored {
		if readers == nil {
			readers = newReaders(a.log)
		}
		m := &mirrored{
			id: app, node: a.cfg.Node.Name, version: a.version, proc: a.proc, log: a.log.With(zap.String("app", app)),
			metrics: metrics, readers: readers, whose: a.foldersOf,
			open: func(ctx context.Context, e executor.Executor) (*copies, error) { return a.openCopies(ctx, e, limit) },
		}
		m.begin(ctx)
		return m
	})
	m.ended = func() {
		if readers != nil {
			readers.Close()
		}
	}
	return m
}

// foldersOf asks an executor of this node for its own block manager folders; nil when it does not answer.
func (a *Agent) foldersOf(ctx context.Context, e executor.Executor) map[string]bool {
	return ownFolders(ctx, a.finder, a.dialer, e)
}

// newReaders starts the threads that mirrors read with.
func newReaders(log *zap.Logger) *gentle.Readers {
	r, err := gentle.NewReaders(mirrorReaders)
	if err != nil {
		log.Warn("copies ahead are read at the usual I/O priority", zap.Error(err))
	}
	return r
}
