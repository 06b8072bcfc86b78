package migratetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
)

// Harness is one fresh destination and the means to look behind it. A nil fault is not tested.
type Harness struct {
	Destination migrate.Destination
	// Stored reads an output as a reader of the destination would; ok is false when a reader would not
	// find it, which is when its index is not visible. It may be called at any time.
	Stored func(id migrate.OutputID) (index, data []byte, ok bool)

	Stall  func() // from now on nothing is answered
	Refuse func() // from now on every output is refused, as by an executor that decommissions itself
	Break  func() // from now on every transfer breaks off, as by a reset connection
	Vanish func() // it is gone, in such a way that the destination can be certain of it
	Heal   func() // the end of Stall, Refuse or Break; wanted if one of them is there
}

// longest is how long one call may take in the suite, and patience how long Put may go on after its
// context has ended: it only has to let go of a connection.
const (
	longest  = 30 * time.Second
	patience = 2 * time.Second
)

// Conform runs the contract of migrate.Destination against fresh destinations made by setup, which
// cleans up with t.Cleanup.
func Conform(t *testing.T, setup func(t *testing.T) Harness) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Harness){
		"stores":       testStores,
		"repeats":      testRepeats,
		"data first":   testDataFirst,
		"concurrent":   testConcurrent,
		"corrupt":      testCorrupt,
		"context over": testContextOver,
		"stall":        testStall,
		"faults":       testFaults,
	} {
		t.Run(name, func(t *testing.T) { test(t, setup(t)) })
	}
}

func (h Harness) put(t *testing.T, out *migrate.Output) (migrate.Location, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	return h.Destination.Put(ctx, out)
}

// check fails the test unless the output lies there with the right bytes.
func (h Harness) check(t *testing.T, out *migrate.Output) {
	t.Helper()
	index, data, ok := h.Stored(out.ID)
	if !ok {
		t.Errorf("%v can't be read", out.ID)
		return
	}
	compare(t, out.ID.IndexBlock(), index, out.Index)
	compare(t, out.ID.DataBlock(), data, out.Data)
}

func compare(t *testing.T, name string, got []byte, blob migrate.Blob) {
	t.Helper()
	var want []byte
	if blob != nil {
		want = blob.(Bytes)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that differ from the %d that were sent", name, len(got), len(want))
	}
}

// testStores: outputs of all sizes arrive whole, and Location says where.
func testStores(t *testing.T, h Harness) {
	for i, size := range []int{0, 1, 1000, 64 << 10, 64<<10 + 1, 3 << 20} {
		out := Output("app-1", 3, int64(i), size)
		at, err := h.put(t, out)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if at.Target != h.Destination.Target() {
			t.Errorf("stored at %v, want %v", at.Target, h.Destination.Target())
		}
		h.check(t, out)
	}
}

// testRepeats: a Put of what is there already succeeds and changes nothing.
func testRepeats(t *testing.T, h Harness) {
	out := Output("app-1", 0, 1, 100_000)
	for range 3 {
		if _, err := h.put(t, out); err != nil {
			t.Fatal(err)
		}
		h.check(t, out)
	}
}

// testDataFirst: nobody ever sees an index without the whole of its data.
func testDataFirst(t *testing.T, h Harness) {
	outs := make([]*migrate.Output, 8)
	for i := range outs {
		outs[i] = Output("app-1", 1, int64(i), 500_000)
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for i := 0; ; i = (i + 1) % len(outs) {
			if _, _, ok := h.Stored(outs[i].ID); ok {
				h.check(t, outs[i])
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for _, out := range outs {
		if _, err := h.put(t, out); err != nil {
			t.Error(err)
		}
	}
	close(done)
	watch.Wait()
}

// testConcurrent: many calls at once, two of them for each output.
func testConcurrent(t *testing.T, h Harness) {
	var puts sync.WaitGroup
	outs := make([]*migrate.Output, 16)
	for i := range outs {
		outs[i] = Output("app-1", 2, int64(i), 10_000*i)
		for range 2 {
			puts.Go(func() {
				if _, err := h.put(t, outs[i]); err != nil {
					t.Errorf("%v: %v", outs[i].ID, err)
				}
			})
		}
	}
	puts.Wait()
	for _, out := range outs {
		h.check(t, out)
	}
}

// testCorrupt: an output that can't be read is reported as such, can't be read at the destination
// either, and harms no other.
func testCorrupt(t *testing.T, h Harness) {
	whole := func() *migrate.Output { return Output("app-1", 4, 0, 200_000) }
	for i, spoil := range []func(*migrate.Output){
		func(o *migrate.Output) { o.Data = Broken{o.Data, 0, ErrUnreadable} },
		func(o *migrate.Output) { o.Data = Broken{o.Data, 150_000, ErrUnreadable} },
		func(o *migrate.Output) { o.Data = Broken{o.Data, 150_000, nil} },
		func(o *migrate.Output) { o.Index = Broken{o.Index, 8, ErrUnreadable} },
		func(o *migrate.Output) { o.Index = Broken{o.Index, 8, nil} },
	} {
		out := whole()
		out.ID.Map = int64(i)
		spoil(out)
		_, err := h.put(t, out)
		if err == nil || migrate.KindOf(err) != migrate.Corrupt {
			t.Errorf("case %d: error %v of kind %v, want corrupt", i, err, migrate.KindOf(err))
		}
		if _, _, ok := h.Stored(out.ID); ok {
			t.Errorf("case %d: can be read", i)
		}
	}
	h.recovers(t)
}

// recovers wants an output stored within a few tries: a destination may have had to close a connection.
func (h Harness) recovers(t *testing.T) {
	t.Helper()
	out := Output("app-1", 99, 99, 1000)
	var err error
	for range 5 {
		if _, err = h.put(t, out); err == nil {
			h.check(t, out)
			return
		}
		if k := migrate.KindOf(err); k != migrate.Transient {
			break
		}
	}
	t.Errorf("does not recover: %v", err)
}

// testContextOver: nothing is stored for a context that is over.
func testContextOver(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := Output("app-1", 5, 0, 1000)
	_, err := h.Destination.Put(ctx, out)
	wantContext(t, err)
	if _, _, ok := h.Stored(out.ID); ok {
		t.Error("stored although the context was over")
	}
	h.recovers(t)
}

func wantContext(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Error("no error although the context had ended")
	} else if k := migrate.KindOf(err); k != migrate.Transient {
		t.Errorf("the end of the context is reported as %v: %v", k, err)
	}
}

// testStall: a Put that hangs ends with its context.
func testStall(t *testing.T, h Harness) {
	if h.Stall == nil {
		t.Skip("no such fault")
	}
	h.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var puts sync.WaitGroup
	for i := range 4 {
		puts.Go(func() {
			_, err := h.Destination.Put(ctx, Output("app-1", 6, int64(i), 100_000))
			over := time.Now()
			deadline, _ := ctx.Deadline()
			wantContext(t, err)
			if late := over.Sub(deadline); late > patience {
				t.Errorf("Put returned %v after the end of its context", late)
			}
		})
	}
	puts.Wait()
	h.Heal()
	h.recovers(t)
}

// testFaults: each kind of trouble is reported as what it is, and nothing is left that could be read.
func testFaults(t *testing.T, h Harness) {
	faults := []struct {
		name   string
		inject func()
		want   migrate.Kind
	}{
		{"break", h.Break, migrate.Transient},
		{"refuse", h.Refuse, migrate.Elsewhere},
		{"vanish", h.Vanish, migrate.Gone}, // the last: nothing heals it
	}
	for i, f := range faults {
		if f.inject == nil {
			continue
		}
		f.inject()
		out := Output("app-1", 7, int64(i), 50_000)
		if err := h.kind(t, out, f.want); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		if f.want == migrate.Gone {
			return
		}
		if _, _, ok := h.Stored(out.ID); ok {
			t.Errorf("%s: can be read", f.name)
		}
		h.Heal()
		h.recovers(t)
	}
}

// kind wants a Put to fail in a way; the first failures may be those of connections made before.
func (h Harness) kind(t *testing.T, out *migrate.Output, want migrate.Kind) error {
	var err error
	for range 5 {
		if _, err = h.put(t, out); err == nil {
			return errors.New("no error")
		}
		if got := migrate.KindOf(err); got == want || got != migrate.Transient {
			break
		}
	}
	if got := migrate.KindOf(err); got != want {
		return fmt.Errorf("error %w of kind %v, want %v", err, got, want)
	}
	return nil
}
