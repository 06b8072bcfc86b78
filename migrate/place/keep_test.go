package place

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
)

// kept places outputs and keeps them until the test, or Keep, ends.
func kept(t *testing.T, v *volume, n int) (outs []*migrate.Output, ended chan error) {
	t.Helper()
	p := v.open()
	for m := range n {
		out := v.output(int64(m), 1000)
		if _, err := p.Put(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := p.Keep(ctx, outs)
		ended <- err
	}()
	t.Cleanup(func() { cancel(); <-done })
	return outs, ended
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not seen: %s", what)
		}
	}
}

func (v *volume) has(out *migrate.Output) bool {
	for _, name := range []string{out.ID.IndexBlock(), out.ID.DataBlock()} {
		if _, err := os.Lstat(v.path(name)); err != nil {
			return false
		}
	}
	return true
}

// TestKeep takes names away as a recovery of Spark does.
func TestKeep(t *testing.T) {
	v := newVolume(t, 2)
	outs, _ := kept(t, v, 5)
	for range 2 {
		for _, out := range outs {
			must(t, os.Remove(v.path(out.ID.DataBlock())))
			must(t, os.Remove(v.path(out.ID.IndexBlock())))
		}
		for _, out := range outs {
			eventually(t, out.ID.String()+" is put back", func() bool { return v.has(out) })
		}
	}
	// Spark may move the old file to the place of the name: it is the same file.
	out := outs[0]
	must(t, os.Rename(filepath.Join(v.old, out.ID.DataBlock()), filepath.Join(v.old, "x")))
	must(t, os.Remove(v.path(out.ID.DataBlock())))
	eventually(t, "a file is found that has another name by now", func() bool { return v.has(out) })
}

func TestKeepGivesUp(t *testing.T) {
	v := newVolume(t, 1)
	outs, ended := kept(t, v, 1)
	for {
		_ = os.Remove(v.path(outs[0].ID.DataBlock()))
		select {
		case err := <-ended:
			if !errors.Is(err, ErrTakenAway) {
				t.Errorf("got %v", err)
			}
			return
		case <-t.Context().Done():
			t.Fatal("never given up")
		default:
		}
	}
}
