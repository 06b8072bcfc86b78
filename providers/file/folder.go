package file

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/providers"
)

// FolderName is the name of a Folder that is given none.
const FolderName = "file-folder"

// maxFiles is how many files of a folder are read; those that come first by name.
const maxFiles = 256

// FolderOptions of a Folder. Only Path is needed.
type FolderOptions struct {
	Path string // absolute; it should exist, and must belong to root or this process
	Name string // of the source; FolderName when ""
	// Drills makes every notice a drill, whatever its file says.
	Drills bool

	Lead     time.Duration // as in Options
	Interval time.Duration
	Settle   time.Duration
	Log      *zap.Logger
	Metrics  prometheus.Registerer
}

// Folder turns each file in a folder into a notice, as a Source does with its one file: schedulers and scripts write one file for
// each event. Names that begin with a dot or end in .tmp or ~ are left alone, so a file can be written under such a name and
// then renamed. One that can't be understood, because it is being written or by mistake, changes nothing about the others: it is
// shown in the health and logged once.
type Folder struct {
	o      FolderOptions
	poller *providers.Poller
	wake   *wake
	files  map[string]*watched // belongs to the poll function
	// recalled are notices of an earlier run, until a look says whether their files are still there. As files.
	recalled []providers.Notice

	mu  sync.Mutex
	bad map[string]string // files that could not be used, and why
}

var (
	_ providers.Source = (*Folder)(nil)
	_ providers.Sight  = (*Folder)(nil)

	_ providers.Recaller = (*Folder)(nil)
)

// NewFolder checks the options. A folder that is missing is no error, but a source that is down.
func NewFolder(o FolderOptions) (*Folder, error) {
	if !filepath.IsAbs(o.Path) || filepath.Clean(o.Path) == "/" {
		return nil, fmt.Errorf("folder of notices %q: an absolute path is needed", o.Path)
	}
	if o.Lead < 0 || o.Interval < 0 || o.Settle < 0 {
		return nil, errors.New("folder of notices: negative time span")
	}
	o.Lead = orDefault(o.Lead, DefaultLead)
	o.Interval = orDefault(o.Interval, DefaultInterval)
	o.Settle = orDefault(o.Settle, DefaultSettle)
	if o.Name == "" {
		o.Name = FolderName
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Path = filepath.Clean(o.Path)
	f := &Folder{o: o, wake: newWake(), files: map[string]*watched{}, bad: map[string]string{}}
	var err error
	f.poller, err = providers.NewPoller(providers.PollerOptions{
		Source: o.Name, Poll: f.poll, Interval: o.Interval, Timeout: o.Interval, Wake: f.wake.now, Log: o.Log, Metrics: o.Metrics,
	})
	return f, err
}

// Name is that of the options.
func (f *Folder) Name() string { return f.o.Name }

// Health is the state after the last look. Files that could not be used are named, and do not make it bad.
func (f *Folder) Health() providers.Health {
	h := f.poller.Health()
	if h.OK {
		h.Error = f.trouble()
	}
	return h
}

// trouble names the first files that could not be used.
func (f *Folder) trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f.bad)) {
		all = append(all, f.bad[name])
	}
	return strings.Join(all[:min(len(all), 3)], "; ")
}

// Notices are those that the last look showed.
func (f *Folder) Notices() []providers.Notice { return f.poller.Notices() }

// Run watches until ctx ends; see providers.Source.
func (f *Folder) Run(ctx context.Context, notices chan<- providers.Notice) error {
	f.files = map[string]*watched{}
	return runWatched(ctx, folderWatch{f.o.Path, f.o.Interval, counts, f.wake, f.o.Log}, func() error { return f.poller.Run(ctx, notices) })
}

// poll looks at all files once.
func (f *Folder) poll(context.Context) ([]providers.Notice, error) {
	dir, err := openFolder(f.o.Path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	var out []providers.Notice
	var again time.Duration
	bad := map[string]string{}
	for _, name := range names {
		list, left, err := f.see(dir, name)
		out = append(out, list...)
		if left > 0 && (again == 0 || left < again) {
			again = left
		}
		if err != nil {
			bad[name] = fmt.Sprintf("%s: %v", name, err)
		}
	}
	for name, w := range f.files {
		if !slices.Contains(names, name) {
			out = append(out, w.removed()...)
			delete(f.files, name)
		}
	}
	out = append(out, f.settleRecalled(out, again == 0 && len(bad) == 0)...)
	f.wake.in(again)
	f.note(bad)
	return unique(out), nil
}

// Recall notes what an earlier run had read; see providers.Recaller. A drill is finished by the next run.
func (f *Folder) Recall(notices []providers.Notice) bool {
	if !f.o.Drills {
		f.recalled = notices
	}
	return !f.o.Drills
}

// settleRecalled withdraws the notices of an earlier run whose files have gone. Until all files were understood, they hold.
func (f *Folder) settleRecalled(shown []providers.Notice, all bool) []providers.Notice {
	var out []providers.Notice
	for _, n := range f.recalled {
		if !slices.ContainsFunc(shown, func(m providers.Notice) bool { return m.ID == n.ID }) {
			n.Withdrawn = all
			out = append(out, n)
		}
	}
	f.recalled = nil
	if !all {
		f.recalled = out
	}
	return out
}

// unique keeps one notice of those with the same id, as two files may name the same event: one that holds, before one that was
// withdrawn.
func unique(list []providers.Notice) []providers.Notice {
	var out []providers.Notice
	for _, withdrawn := range []bool{false, true} {
		for _, n := range list {
			if n.Withdrawn == withdrawn && !slices.ContainsFunc(out, func(o providers.Notice) bool { return o.ID == n.ID }) {
				out = append(out, n)
			}
		}
	}
	return out
}

// see looks at one file.
func (f *Folder) see(dir int, name string) (out []providers.Notice, left time.Duration, err error) {
	w := f.files[name]
	if w == nil {
		w = &watched{}
		f.files[name] = w
	}
	v, found, err := read(dir, name)
	switch {
	case errors.Is(err, errReplaced):
		return w.current(), f.o.Settle, nil
	case err != nil:
		w.unsettle()
		return w.current(), 0, err
	case !found:
		return w.removed(), 0, nil
	}
	out, left, err = w.see(v, rules{source: f.o.Name, lead: f.o.Lead, settle: f.o.Settle, drills: f.o.Drills})
	if err != nil {
		return w.current(), 0, err
	}
	return out, left, nil
}

// names lists the files that count.
func (f *Folder) names() ([]string, error) {
	d, err := os.Open(f.o.Path)
	if err != nil {
		return nil, &providers.PollError{Result: providers.Unreachable, Err: err}
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, &providers.PollError{Result: providers.Unreachable, Err: err}
	}
	var names []string
	for _, e := range entries {
		if counts(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	if len(names) > maxFiles {
		return nil, &providers.PollError{Result: providers.Malformed, Err: fmt.Errorf("folder %s holds %d files, at most %d can be notices: remove what is over", f.o.Path, len(names), maxFiles)}
	}
	return names, nil
}

// counts tells notices from files that are being written.
func counts(name string) bool {
	return !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".tmp") && !strings.HasSuffix(name, "~")
}

// note keeps what could not be used, and logs what is new about it.
func (f *Folder) note(bad map[string]string) {
	f.mu.Lock()
	before := f.bad
	f.bad = bad
	f.mu.Unlock()
	for name, why := range bad {
		if before[name] != why {
			f.o.Log.Warn("file is no notice", zap.String("source", f.o.Name), zap.String("folder", f.o.Path), zap.String("why", why))
		}
	}
}
