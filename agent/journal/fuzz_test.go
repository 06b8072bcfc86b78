package journal

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
)

const noticeLine = `{"t":1,"type":"notice","v":1,"notice":{"id":"n","source":"file","kind":"preemption","deadline":"2026-11-21T10:00:00Z","seen":"2026-11-21T10:00:00Z"}}` + "\n"

// withNotice reads a first line before what follows.
type withNotice struct {
	io.Reader
	all io.Reader
}

func (w *withNotice) Read(p []byte) (int, error) {
	if w.all == nil {
		w.all = io.MultiReader(strings.NewReader(noticeLine), w.Reader)
	}
	return w.all.Read(p)
}

// FuzzReplay: whatever stands in a journal, every whole line is either applied or named as damage, the
// cut is exactly the half-written rest, and reading what is left gives the same.
func FuzzReplay(f *testing.F) {
	s, err := Open(filepath.Join(f.TempDir(), "s"), zap.NewNop())
	if err != nil {
		f.Fatal(err)
	}
	j, err := s.Create(id1, notice("n1"), Scope{})
	if err != nil {
		f.Fatal(err)
	}
	_ = j.TellIntent(app, "1", "rpc")
	_ = j.Saved(output(1), 5, peer3)
	_ = j.Unsaved(output(1), "gone")
	_ = j.Lost(output(1), 5, "gone")
	_ = j.Done("none", 4)
	_ = j.Close()
	valid, err := os.ReadFile(filepath.Join(Folder(s.dir, id1), journalFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add(valid[:len(valid)-7])
	f.Add([]byte(noticeLine + "{}\n\n\x00\n" + noticeLine))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := replay("f", bytes.NewReader(data))
		if err != nil {
			return
		}
		whole := bytes.LastIndexByte(data, '\n') + 1
		if r.end != int64(whole) || r.Cut != len(data)-whole {
			t.Fatalf("end %d, cut %d of %d bytes", r.end, r.Cut, len(data))
		}
		if len(r.Damage) >= bytes.Count(data, []byte("\n")) {
			t.Fatalf("%d damaged lines of %d", len(r.Damage), bytes.Count(data, []byte("\n")))
		}
		again, err := replay("f", bytes.NewReader(data[:whole]))
		if err != nil || again.Cut != 0 || len(again.Saved) != len(r.Saved) || len(again.Damage) != len(r.Damage) {
			t.Fatalf("read again: %v %+v", err, again)
		}
	})
}
