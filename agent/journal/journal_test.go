package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	id1 = "20261121-101502-7f3a"
	id2 = "20261121-101503-0001"
	id3 = "20261122-000000-ffff"
	app = "app-20261121101502-0001"
)

var (
	peer3  = migrate.Target{Executor: "3", Host: "10.0.0.7", Port: 40123}
	bucket = migrate.Target{URL: "s3://bucket/path"}
)

func testStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "state"), zap.NewNop())
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func output(n int) migrate.OutputID { return migrate.OutputID{App: app, Shuffle: 0, Map: int64(n)} }

func notice(id string) providers.Notice {
	return providers.Notice{ID: id, Source: "file", Kind: providers.Preemption, Deadline: time.Unix(2e9, 0).UTC()}
}

// begun is a rescue with something of everything in its journal, still open.
func begun(t *testing.T, s *Store) *Journal {
	t.Helper()
	j, err := s.Create(id1, notice("n1"), Scope{})
	must(t, err)
	for _, err := range []error{
		j.Begin("node", "v1", time.Unix(2e9, 5e6)),
		j.TellIntent(app, "1", "rpc"),
		j.Told(app, "1", "rpc", true),
		j.TellIntent("other", "1", "sigpwr"),
		j.Saved(output(0), 100, peer3),
		j.Stored(output(1), 200, bucket),
		j.Saved(output(2), 300, peer3),
		j.Unsaved(output(2), "peer gone"),
		j.Lost(output(3), 400, "deadline"),
		j.Lost(output(4), 500, "deadline"),
		j.Saved(output(4), 500, peer3),
		j.Merged(notice("n2")),
		j.EndIntent(app, "1"),
		j.Ended(app, "1", "SIGTERM"),
		j.EndIntent("other", "1"),
		j.Interrupted("SIGTERM"),
	} {
		must(t, err)
	}
	return j
}

func TestWhatIsWrittenIsReplayed(t *testing.T) {
	s := testStore(t)
	must(t, begun(t, s).Close())
	j, r, err := s.Open(id1)
	must(t, err)
	defer j.Close()
	if r.ID != id1 || r.Notice.ID != "n1" || r.Begins != 1 || !r.Interrupted || r.Finished() {
		t.Errorf("head: %+v", r)
	}
	if !r.Deadline.Equal(time.Unix(2e9, 5e6)) || len(r.Merged) != 1 || r.Merged[0].ID != "n2" {
		t.Errorf("deadline %v, merged %v", r.Deadline, r.Merged)
	}
	first, second := r.Told[Executor{app, "1"}], r.Told[Executor{"other", "1"}]
	if first.Trigger != "rpc" || !first.Accepted || first.At.IsZero() || first.Intended.IsZero() {
		t.Errorf("told %+v", first)
	}
	if second.Trigger != "sigpwr" || !second.At.IsZero() || second.Intended.IsZero() {
		t.Errorf("only intended: %+v", second)
	}
	if e := r.Ended[Executor{app, "1"}]; e.At.IsZero() || e.How != "SIGTERM" {
		t.Errorf("ended %+v", e)
	}
	if e := r.Ended[Executor{"other", "1"}]; !e.At.IsZero() || e.Intended.IsZero() {
		t.Errorf("end only intended: %+v", e)
	}
	if len(r.Saved) != 3 || r.Saved[output(0)].Target != peer3 || r.Saved[output(1)].Target != bucket || r.Saved[output(4)].Bytes != 500 {
		t.Errorf("saved %+v", r.Saved)
	}
	if !r.Saved[output(1)].Waiting || r.Saved[output(0)].Waiting {
		t.Errorf("waiting: %+v", r.Saved)
	}
	if len(r.Lost) != 1 || r.Lost[output(3)].Reason != "deadline" || r.Lost[output(3)].Bytes != 400 {
		t.Errorf("lost %+v", r.Lost)
	}
	if len(r.Damage) != 0 || r.Cut != 0 {
		t.Errorf("damage %v, cut %d", r.Damage, r.Cut)
	}
}

func TestGoingOnKeepsTargetNumbers(t *testing.T) {
	s := testStore(t)
	must(t, begun(t, s).Close())
	j, _, err := s.Open(id1)
	must(t, err)
	other := migrate.Target{Executor: "9", Host: "h9", Port: 9}
	must(t, j.Begin("node", "v2", time.Time{}))
	must(t, j.Saved(output(10), 1, bucket))
	must(t, j.Saved(output(11), 1, other))
	must(t, j.Done("some", 3))
	must(t, j.Close())
	r, err := s.Read(id1)
	must(t, err)
	if r.Saved[output(0)].Target != peer3 || r.Saved[output(10)].Target != bucket || r.Saved[output(11)].Target != other {
		t.Errorf("saved %+v", r.Saved)
	}
	if r.Done == nil || r.Done.Result != "some" || r.Done.Exit != 3 || r.Interrupted || r.Begins != 2 || !r.Deadline.IsZero() {
		t.Errorf("%+v", r)
	}
}

func TestHalfWrittenLastLine(t *testing.T) {
	s := testStore(t)
	must(t, begun(t, s).Close())
	path := filepath.Join(Folder(s.dir, id1), journalFile)
	whole, err := os.ReadFile(path)
	must(t, err)
	appendTo(t, path, `{"t":1,"type":"sav`)
	r, err := s.Read(id1)
	must(t, err)
	if r.Cut != 18 || len(r.Saved) != 3 || len(r.Damage) != 0 {
		t.Errorf("cut %d, %d saved, %v", r.Cut, len(r.Saved), r.Damage)
	}
	core, logs := observer.New(zap.WarnLevel)
	s.log = zap.New(core)
	j, _, err := s.Open(id1)
	must(t, err)
	if logs.FilterMessageSnippet("half-written").Len() != 1 {
		t.Errorf("no warning: %v", logs.All())
	}
	must(t, j.Saved(output(20), 1, peer3))
	must(t, j.Close())
	got, err := os.ReadFile(path)
	must(t, err)
	if !strings.HasPrefix(string(got), string(whole)) || strings.Contains(string(got), `"sav{`) {
		t.Errorf("not cut off:\n%s", got[len(whole):])
	}
	r, err = s.Read(id1)
	must(t, err)
	if len(r.Saved) != 4 || len(r.Damage) != 0 {
		t.Errorf("%d saved, %v", len(r.Saved), r.Damage)
	}
}

func TestDamagedMiddleLineIsNamedAndTheRestIsRead(t *testing.T) {
	for name, bad := range map[string]string{
		"no JSON":         "{broken\n",
		"zeros":           "\x00\x00\x00\n",
		"empty line":      "\n",
		"unknown type":    `{"t":1,"type":"mystery"}` + "\n",
		"no such target":  fmt.Sprintf(`{"t":1,"type":"saved","app":%q,"shuffle":0,"map":77,"to":99}`, app) + "\n",
		"no executor":     `{"t":1,"type":"told","app":"a"}` + "\n",
		"no map":          `{"t":1,"type":"lost","app":"a","shuffle":1}` + "\n",
		"number 0":        `{"t":1,"type":"target"}` + "\n",
		"merged nothing":  `{"t":1,"type":"merged"}` + "\n",
		"a second notice": `{"t":1,"type":"notice","v":1,"notice":{"id":"x"}}` + "\n",
		"very long":       strings.Repeat("x", maxLine+10) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			must(t, begun(t, s).Close())
			path := filepath.Join(Folder(s.dir, id1), journalFile)
			data, err := os.ReadFile(path)
			must(t, err)
			head, tail, _ := strings.Cut(string(data), "\n")
			must(t, os.WriteFile(path, []byte(head+"\n"+bad+tail), 0o600))
			j, r, err := s.Open(id1)
			must(t, err)
			must(t, j.Close())
			if len(r.Saved) != 3 || r.Notice.ID != "n1" {
				t.Errorf("the rest was not read: %+v", r)
			}
			if len(r.Damage) != 1 || !strings.HasPrefix(r.Damage[0].Error(), path+":2: ") {
				t.Errorf("damage %v", r.Damage)
			}
		})
	}
}

func TestDamagedFirstLineIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"empty":         "",
		"half a line":   `{"t":1,"type":"notice"`,
		"broken":        "{\n",
		"no notice":     `{"t":1,"type":"notice","v":1}` + "\n",
		"other type":    `{"t":1,"type":"begin"}` + "\n",
		"later version": `{"t":1,"type":"notice","v":2,"notice":{"id":"x"}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			must(t, begun(t, s).Close())
			path := filepath.Join(Folder(s.dir, id1), journalFile)
			must(t, os.WriteFile(path, []byte(text), 0o600))
			_, _, err := s.Open(id1)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if r, err := s.Unfinished(); r != nil || err != nil {
				t.Errorf("unfinished: %v %v", r, err)
			}
			if s.Acted("n1") {
				t.Error("acted on a notice that can't be read")
			}
			j, err := s.Create(id2, notice("n1"), Scope{}) // the lock was given back
			must(t, err)
			must(t, j.Close())
		})
	}
}

func TestOneRescueAtATime(t *testing.T) {
	s := testStore(t)
	j := begun(t, s)
	var busy *BusyError
	if _, err := s.Create(id2, notice("n9"), Scope{}); !errors.As(err, &busy) || busy.ID != id1 || busy.PID != os.Getpid() {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{id1, s.dir, fmt.Sprint(os.Getpid())} {
		if !strings.Contains(busy.Error(), want) {
			t.Errorf("%q does not name %s", busy, want)
		}
	}
	if _, _, err := s.Open(id1); !errors.As(err, &busy) {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := os.Stat(Folder(s.dir, id2)); !errors.Is(err, os.ErrNotExist) {
		t.Error("a folder was made for the refused rescue")
	}
	if r, err := s.Unfinished(); err != nil || r.ID != id1 {
		t.Errorf("the running one is unfinished: %v %v", r, err)
	}
	must(t, j.Close())
	must(t, j.Close())
	if err := j.Saved(output(1), 1, peer3); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	j, err := s.Create(id2, notice("n9"), Scope{})
	must(t, err)
	must(t, j.Close())
	if _, err := s.Create(id2, notice("n9"), Scope{}); err == nil {
		t.Error("one id twice")
	}
}

func TestFlushedWithin20Milliseconds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "j")
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		must(t, err)
		l, err := os.Create(filepath.Join(dir, "l"))
		must(t, err)
		j := newJournal(id1, f, &lock{file: l}, nil)
		must(t, j.Saved(output(1), 1, peer3))
		if size(t, path) != 0 {
			t.Error("not buffered")
		}
		time.Sleep(flushEvery)
		synctest.Wait()
		first := size(t, path)
		if first == 0 {
			t.Error("not flushed in time")
		}
		must(t, j.Saved(output(2), 1, peer3))
		must(t, j.TellIntent(app, "1", "rpc"))
		if size(t, path) <= first {
			t.Error("an intent is not written at once")
		}
		must(t, j.Close())
	})
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Size()
}

// TestFullDisk: while the disk takes nothing, records are kept; when it does again, none is missing and none
// is broken. A pipe whose deadline has passed stands in for the disk.
func TestFullDisk(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	must(t, w.SetWriteDeadline(time.Unix(1, 0))) // every write fails before its first byte
	l, err := os.Create(filepath.Join(t.TempDir(), "l"))
	must(t, err)
	j := newJournal(id1, w, &lock{file: l}, nil)
	_ = j.Saved(output(1), 1, peer3)
	if err := j.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := j.Saved(output(2), 1, peer3); err == nil {
		t.Error("nobody is told that records are behind")
	}
	must(t, w.SetWriteDeadline(time.Time{}))
	must(t, j.Flush())
	must(t, j.Saved(output(3), 1, peer3))
	must(t, j.Flush())
	must(t, w.Close())
	got, err := replay("pipe", &withNotice{Reader: r})
	must(t, err)
	if len(got.Saved) != 3 || len(got.Damage) != 0 || got.Cut != 0 {
		t.Errorf("%d saved, %v", len(got.Saved), got.Damage)
	}
}

// TestKilled: what a killed process had flushed is there, and the lock is free.
func TestKilled(t *testing.T) {
	s := testStore(t)
	j := begun(t, s)
	must(t, j.Saved(output(50), 1, peer3))
	must(t, j.Flush())
	must(t, j.lock.file.Close()) // as the kernel does it: the name of the holder stays in the file
	j2, r, err := s.Open(id1)
	must(t, err)
	defer j2.Close()
	if _, ok := r.Saved[output(50)]; !ok {
		t.Error("a flushed record is lost")
	}
}

func TestManyWritersAndSize(t *testing.T) {
	s := testStore(t)
	j, err := s.Create(id1, notice("n1"), Scope{})
	must(t, err)
	path := filepath.Join(Folder(s.dir, id1), journalFile)
	before := size(t, path)
	const writers, each = 8, 2500
	var all sync.WaitGroup
	start := time.Now()
	for w := range writers {
		all.Go(func() {
			for i := range each {
				to := migrate.Target{Executor: fmt.Sprint(i % 16), Host: "10.0.0.7", Port: 40000 + i%16}
				if err := j.Saved(output(123_000+w*each+i), 1<<20, to); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	must(t, j.Close())
	took := time.Since(start)
	per := float64(size(t, path)-before) / (writers * each)
	t.Logf("%d records in %v, %.0f bytes each", writers*each, took, per)
	if per > 120 {
		t.Errorf("%.0f bytes for each saved record", per)
	}
	r, err := s.Read(id1)
	must(t, err)
	if len(r.Saved) != writers*each || len(r.Damage) != 0 {
		t.Errorf("%d saved, %v", len(r.Saved), r.Damage)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Close()))
}

func TestScopeIsReplayed(t *testing.T) {
	s := testStore(t)
	j, err := s.Create(id1, notice("n1"), Scope{App: app})
	must(t, err)
	must(t, j.Close())
	r, err := s.Unfinished()
	must(t, err)
	if r == nil || r.Scope != (Scope{App: app}) {
		t.Errorf("got %+v", r)
	}
}
