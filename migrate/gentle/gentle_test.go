package gentle

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

// spy is a blob that notes at what priority it is read.
type spy struct {
	*strings.Reader
	mu       sync.Mutex
	priority []uintptr
}

func (s *spy) ReadAt(p []byte, off int64) (int, error) {
	prio, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, whoProcess, 0, 0)
	s.mu.Lock()
	s.priority = append(s.priority, prio)
	s.mu.Unlock()
	return s.Reader.ReadAt(p, off)
}

func (s *spy) Size() int64 { return s.Reader.Size() }

func TestReadsAtIdlePriority(t *testing.T) {
	readers, err := NewReaders(2)
	if err != nil {
		t.Fatal(err)
	}
	index, data := &spy{Reader: strings.NewReader("12345678")}, &spy{Reader: strings.NewReader("the data")}
	plain := &migrate.Output{ID: migrate.OutputID{App: "a", Shuffle: 1, Map: 2}, Executor: "3", Index: index, Data: data}
	out := readers.Output(plain)
	if out.ID != plain.ID || out.Executor != "3" || out.Bytes() != plain.Bytes() {
		t.Errorf("not the same output: %+v", out)
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			text, err := io.ReadAll(io.NewSectionReader(out.Data, 4, 4))
			if string(text) != "data" || err != nil {
				t.Errorf("read %q, %v", text, err)
			}
		})
	}
	all.Wait()
	if _, err := out.Index.ReadAt(make([]byte, 1), 8); !errors.Is(err, io.EOF) {
		t.Errorf("an error got lost: %v", err)
	}
	readers.Close()
	readers.Close()
	if _, err := out.Data.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after the end: %v", err)
	}
	for _, p := range append(data.priority, index.priority...) {
		if p>>classShift != classIdle {
			t.Errorf("read in class %d", p>>classShift)
		}
	}
	runtime.LockOSThread() // nobody else got a thread with that priority
	defer runtime.UnlockOSThread()
	if prio, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, whoProcess, 0, 0); prio>>classShift == classIdle {
		t.Error("the priority has stayed behind")
	}
	if none := readers.Output(&migrate.Output{Index: index}); none.Data != nil {
		t.Error("an output without data got some")
	}
}
