package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/providers"
)

// byHand is a source that a test polls itself. Files settle at the second look.
func byHand(t *testing.T, path string) *Source {
	t.Helper()
	s, err := New(Options{Path: path, Settle: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// twice polls twice, so that a file that does not change has settled.
func twice(t *testing.T, s *Source) ([]providers.Notice, error) {
	t.Helper()
	if _, err := s.poll(t.Context()); err != nil {
		return nil, err
	}
	return s.poll(t.Context())
}

func one(t *testing.T, s *Source) providers.Notice {
	t.Helper()
	got, err := twice(t, s)
	if err != nil || len(got) != 1 {
		t.Fatalf("look: %v, %v", got, err)
	}
	return got[0]
}

func none(t *testing.T, s *Source) {
	t.Helper()
	if got, err := twice(t, s); err != nil || len(got) != 0 {
		t.Errorf("look: %v, %v; want nothing", got, err)
	}
}

func TestEmptyFileIsADrainOfTheNode(t *testing.T) {
	for name, content := range map[string]string{"touch": "", "echo": "\n", "braces": "{}"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder(t), "notice")
			none(t, byHand(t, path))
			put(t, path, content, 0o600)
			n := one(t, byHand(t, path))
			if n.Kind != providers.Drain || n.Source != "file" || len(n.Executors) > 0 || n.Drill || n.Withdrawn {
				t.Errorf("notice %+v", n)
			}
			if lead := n.Deadline.Sub(n.Seen); lead > DefaultLead || lead < DefaultLead-time.Minute {
				t.Errorf("lead time %v", lead)
			}
		})
	}
}

func TestDefect02IDAndDeadlineSurviveARestart(t *testing.T) {
	path := filepath.Join(folder(t), "notice")
	put(t, path, `{"in":"10m"}`, 0o600)
	written := time.Now().Add(-5 * time.Minute)
	if err := os.Chtimes(path, written, written); err != nil {
		t.Fatal(err)
	}
	a, b := one(t, byHand(t, path)), one(t, byHand(t, path))
	if a.ID != b.ID || !a.Deadline.Equal(b.Deadline) || !a.Deadline.Equal(written.Add(10*time.Minute)) {
		t.Errorf("one run says %+v, the next %+v", a, b)
	}
	put(t, path, `{"in":"10m"}`, 0o600)
	if c := one(t, byHand(t, path)); c.ID == a.ID {
		t.Error("another file is the same event")
	}
}

func TestOldFileGetsItsFullTime(t *testing.T) {
	path := filepath.Join(folder(t), "notice")
	for name, age := range map[string]time.Duration{"old": 48 * time.Hour, "from the future": -48 * time.Hour} {
		put(t, path, `{"in":"60s"}`, 0o600)
		written := time.Now().Add(-age)
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
		s := byHand(t, path)
		n := one(t, s)
		if lead := n.Deadline.Sub(n.Seen); lead != time.Minute {
			t.Errorf("%s: lead time %v", name, lead)
		}
		if again := one(t, s); !again.Deadline.Equal(n.Deadline) {
			t.Errorf("%s: the deadline moves", name)
		}
	}
}

func TestAllFields(t *testing.T) {
	path := filepath.Join(folder(t), "notice")
	put(t, path, `{"deadline":"2030-01-02T03:04:05+01:00","kind":"maintenance","executors":["1","7"],"drill":true,"id":"night:1"}`, 0o640)
	n := one(t, byHand(t, path))
	want := providers.Notice{
		ID: "file-night:1", Source: "file", Kind: providers.Maintenance, Executors: []string{"1", "7"},
		Deadline: time.Date(2030, 1, 2, 2, 4, 5, 0, time.UTC), Drill: true,
	}
	if n.ID != want.ID || n.Kind != want.Kind || !slices.Equal(n.Executors, want.Executors) || !n.Deadline.Equal(want.Deadline) || !n.Drill {
		t.Errorf("notice %+v, want %+v", n, want)
	}
}

func TestRemovalAndRewriting(t *testing.T) {
	path := filepath.Join(folder(t), "notice")
	s := byHand(t, path)

	put(t, path, "", 0o600)
	if got, err := s.poll(t.Context()); len(got) != 0 || err != nil {
		t.Fatalf("a file that has not settled: %v, %v", got, err)
	}
	_ = os.Remove(path)
	none(t, s) // nothing was said, so nothing is withdrawn

	put(t, path, "", 0o600)
	first := one(t, s)
	put(t, path, `{"kind":"preemption"}`, 0o600)
	got, err := twice(t, s)
	if err != nil || len(got) != 2 || got[0].ID == first.ID || got[0].Withdrawn || got[1].ID != first.ID || !got[1].Withdrawn {
		t.Fatalf("rewritten: %+v, %v; want the new notice and then the old one withdrawn", got, err)
	}
	second := got[0]
	if n := one(t, s); n.ID != second.ID {
		t.Errorf("then %+v", n)
	}

	_ = os.Remove(path)
	got, err = s.poll(t.Context())
	if err != nil || len(got) != 1 || got[0].ID != second.ID || !got[0].Withdrawn || got[0].Kind != providers.Preemption {
		t.Fatalf("removed: %+v, %v", got, err)
	}
	none(t, s)

	put(t, path, `{"id":"x","in":"1h"}`, 0o600)
	x := one(t, s)
	put(t, path, `{"id":"x","in":"2h"}`, 0o600)
	if y := one(t, s); y.ID != x.ID || !y.Deadline.After(x.Deadline) {
		t.Errorf("same event with a later deadline: %+v, %+v", x, y)
	}
}

func TestBrokenFileChangesNothing(t *testing.T) {
	path := filepath.Join(folder(t), "notice")
	s := byHand(t, path)
	put(t, path, `{"id":"x"}`, 0o600)
	x := one(t, s)
	for _, content := range []string{`{"id":"x`, `{"id":"x","in":"later"}`, "\x00"} {
		put(t, path, content, 0o600)
		if got, err := s.poll(t.Context()); err != nil || len(got) != 1 || got[0].ID != x.ID {
			t.Errorf("%q, not settled: %v, %v", content, got, err)
		}
		for range 2 { // and it stays an error, look after look
			_, err := s.poll(t.Context())
			wantResult(t, err, providers.Malformed)
		}
	}
	_ = os.Remove(path)
	if got, err := s.poll(t.Context()); err != nil || len(got) != 1 || !got[0].Withdrawn || got[0].ID != x.ID {
		t.Errorf("removed: %v, %v", got, err)
	}
}

func wantResult(t *testing.T, err error, want providers.Result) {
	t.Helper()
	var pe *providers.PollError
	if !errors.As(err, &pe) || pe.Result != want {
		t.Errorf("error %v, want one that says %s", err, want)
	}
}

// TestDefect09StrangersCannotGiveNotice: whoever can make the file can end executors.
func TestDefect09StrangersCannotGiveNotice(t *testing.T) {
	const stranger = 12345
	for name, c := range map[string]struct {
		make func(t *testing.T, path string) error
		root bool
		want providers.Result
		says string
	}{
		"world-writable": {func(_ *testing.T, p string) error { return os.Chmod(p, 0o602) }, false, providers.Denied, "chmod go-w"},
		"group-writable": {func(_ *testing.T, p string) error { return os.Chmod(p, 0o620) }, false, providers.Denied, "chmod go-w"},
		"other owner":    {func(_ *testing.T, p string) error { return os.Chown(p, stranger, 0) }, true, providers.Denied, "belongs to user 12345"},
		"symbolic link": {func(_ *testing.T, p string) error {
			return replace(p, func() error { return os.Symlink("/etc/hostname", p) })
		}, false, providers.Denied, "symbolic link"},
		"dangling link": {func(_ *testing.T, p string) error {
			return replace(p, func() error { return os.Symlink("/nowhere", p) })
		}, false, providers.Denied, "symbolic link"},
		"hard link":      {func(_ *testing.T, p string) error { return os.Link(p, p+".2") }, false, providers.Denied, "2 links"},
		"named pipe":     {func(_ *testing.T, p string) error { return replace(p, func() error { return unix.Mkfifo(p, 0o600) }) }, false, providers.Denied, "no regular file"},
		"folder":         {func(_ *testing.T, p string) error { return replace(p, func() error { return os.Mkdir(p, 0o700) }) }, false, providers.Denied, "no regular file"},
		"too large":      {func(_ *testing.T, p string) error { return os.Truncate(p, maxSize+1) }, false, providers.Malformed, "larger than"},
		"open folder":    {func(_ *testing.T, p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, false, providers.Denied, "folder"},
		"group's folder": {func(_ *testing.T, p string) error { return os.Chmod(filepath.Dir(p), 0o770) }, false, providers.Denied, "folder"},
		"folder's owner": {func(_ *testing.T, p string) error { return os.Chown(filepath.Dir(p), stranger, 0) }, true, providers.Denied, "belongs to user 12345"},
		"folder is away": {func(_ *testing.T, p string) error { return os.RemoveAll(filepath.Dir(p)) }, false, providers.Unreachable, "folder"},
		"folder is a file": {func(_ *testing.T, p string) error {
			return replace(filepath.Dir(p), func() error { return os.WriteFile(filepath.Dir(p), nil, 0o600) })
		}, false, providers.Unreachable, "folder"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			dir := filepath.Join(folder(t), "lifeboat")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "notice")
			put(t, path, "", 0o600)
			if err := c.make(t, path); err != nil {
				t.Fatal(err)
			}
			got, err := twice(t, byHand(t, path))
			wantResult(t, err, c.want)
			if err == nil || !strings.Contains(err.Error(), c.says) || len(got) > 0 {
				t.Errorf("%v, error %v, want one that says %q", got, err, c.says)
			}
		})
	}
	t.Run("sticky folder", func(t *testing.T) {
		dir := folder(t)
		if err := unix.Chmod(dir, 0o1777); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "notice")
		put(t, path, "", 0o600)
		one(t, byHand(t, path)) // as /tmp: nobody else can replace a file of root
	})
}

func replace(path string, with func() error) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return with()
}

// run starts a source; the test ends it.
func run(t *testing.T, o Options) <-chan providers.Notice {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	notices, done := make(chan providers.Notice), make(chan error, 1)
	go func() { done <- s.Run(ctx, notices) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return notices
}

func next(t *testing.T, notices <-chan providers.Notice) providers.Notice {
	t.Helper()
	select {
	case n := <-notices:
		return n
	case <-time.After(10 * time.Second):
		t.Fatal("no notice")
		return providers.Notice{}
	}
}

func TestEventsMakeItQuick(t *testing.T) {
	path := filepath.Join(folder(t), "notice")
	// Without events the first look after the start would be in an hour.
	notices := run(t, Options{Path: path, Interval: time.Hour, Settle: 20 * time.Millisecond})
	put(t, path, `{"id":"x"}`, 0o600)
	if n := next(t, notices); n.ID != "file-x" || n.Withdrawn {
		t.Errorf("notice %+v", n)
	}
	_ = os.Remove(path)
	if n := next(t, notices); n.ID != "file-x" || !n.Withdrawn {
		t.Errorf("notice %+v", n)
	}
}

func TestFileThatIsBeingWrittenIsOneNotice(t *testing.T) {
	path := filepath.Join(folder(t), "notice")
	core, logs := observer.New(zap.InfoLevel)
	notices := run(t, Options{Path: path, Interval: time.Millisecond, Settle: 300 * time.Millisecond, Log: zap.New(core)})
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, part := range []string{`{"in":`, `"60s",`, `"drill":true`, `}`, "\n"} {
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
	}
	if n := next(t, notices); !n.Drill {
		t.Errorf("notice %+v", n)
	}
	if n := logs.FilterMessage("notice").Len() + logs.FilterMessage("source of notices down").Len(); n > 1 {
		t.Errorf("log: %v", logs.All())
	}
}

func TestFolderThatAppearsLater(t *testing.T) {
	dir := filepath.Join(folder(t), "late")
	notices := run(t, Options{Path: filepath.Join(dir, "notice"), Interval: 2 * time.Millisecond, Settle: time.Millisecond})
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "notice"), `{"id":"x"}`, 0o600)
	if n := next(t, notices); n.ID != "file-x" {
		t.Errorf("notice %+v", n)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, o := range map[string]Options{
		"no path":  {},
		"relative": {Path: "run/notice"},
		"root":     {Path: "//"},
		"negative": {Path: "/run/lifeboat/notice", Lead: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestReplacedFileIsNoRemoval: a file that is renamed over another one is there at any moment.
func TestReplacedFileIsNoRemoval(t *testing.T) {
	dir := folder(t)
	put(t, filepath.Join(dir, "notice"), "{}", 0o600)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 300 {
			put(t, filepath.Join(dir, "notice"), "{}", 0o600)
		}
	}()
	for {
		if _, found, err := look(dir, "notice"); err == nil && !found {
			t.Error("not found")
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
