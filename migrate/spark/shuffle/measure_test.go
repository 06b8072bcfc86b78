package shuffle

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
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

// BenchmarkMemoryOfManyOutputs says what 100,000 outputs cost in live heap, and in the process at its peak.
func BenchmarkMemoryOfManyOutputs(b *testing.B) {
	n := newNode(b)
	n.fill(100_000)
	for b.Loop() {
		s := n.open(Options{Limit: NewLimit(18_000)})
		list, _, err := s.Scan(b.Context())
		n.must(err)
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "MiB-heap")
		b.ReportMetric(peakRSS(b), "MiB-peak-RSS")
		runtime.KeepAlive(list)
	}
}

func peakRSS(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "VmHWM:" {
			kib, err := strconv.Atoi(words[1])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}
