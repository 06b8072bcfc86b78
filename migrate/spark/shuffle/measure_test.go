package shuffle

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fill writes outputs of one byte over 64 buckets.
func (n *node) fill(outputs int) {
	n.t.Helper()
	for m := range outputs {
		dir := n.path("local/blockmgr-a", fmt.Sprintf("%02x", m%64))
		if m < 64 {
			n.must(os.MkdirAll(dir, 0o755))
		}
		base := filepath.Join(dir, fmt.Sprintf("shuffle_0_%d_0", m))
		n.must(os.WriteFile(base+".index", index(0, 1, 1, 1), 0o644))
		n.must(os.WriteFile(base+".data", []byte("d"), 0o644))
	}
	for m := range min(outputs, 64) {
		backdate(n.t, n.path("local/blockmgr-a", fmt.Sprintf("%02x", m)))
	}
	backdate(n.t, n.path("local/blockmgr-a"), n.path("local"))
}

func BenchmarkScan(b *testing.B) {
	n := newNode(b)
	n.fill(10_000)
	open := func(limit int) *Store {
		s, err := Open(b.Context(), Options{App: app, Roots: []Root{{Proc: n.proc, PID: nodePID, Dirs: []string{"/local"}}}, Limit: NewLimit(limit)})
		n.must(err)
		return s
	}
	first := func(limit int) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				s := open(limit)
				if list, _, err := s.Scan(b.Context()); len(list) != 10_000 || err != nil {
					b.Fatal(len(list), err)
				}
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
		}
	}
	b.Run("first/pinned", first(19_000))
	b.Run("first/lazy", first(1))
	b.Run("idle", func(b *testing.B) {
		s := open(19_000)
		defer s.Close()
		if _, _, err := s.Scan(b.Context()); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if list, _, err := s.Scan(b.Context()); len(list) != 0 || err != nil {
				b.Fatal(len(list), err)
			}
		}
	})
}

// TestMemoryOfManyOutputs measures what 100,000 outputs cost. LIFEBOAT_MEASURE=1 switches it on.
func TestMemoryOfManyOutputs(t *testing.T) {
	if os.Getenv("LIFEBOAT_MEASURE") == "" {
		t.Skip("set LIFEBOAT_MEASURE=1")
	}
	n := newNode(t)
	n.fill(100_000)
	runtime.GC()
	before := status(t)
	s := n.open(Options{Limit: NewLimit(18_000)})
	start := time.Now()
	list, _, err := s.Scan(t.Context())
	n.must(err)
	took := time.Since(start)
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("%d outputs in %v; heap %d KiB; before %s; after %s", len(list), took, mem.HeapAlloc>>10, before, status(t))
	runtime.KeepAlive(list)
	for _, line := range strings.Split(status(t), " ") {
		if kib, err := strconv.Atoi(line); err == nil && kib > 96<<10 {
			t.Errorf("%d KiB", kib)
		}
	}
}

func status(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") {
			words = append(words, strings.Fields(line)...)
		}
	}
	return strings.Join(words, " ")
}
