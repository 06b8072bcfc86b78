package migrate

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestEstimate(t *testing.T) {
	type seen struct {
		bytes int64
		took  time.Duration
	}
	const ms = time.Millisecond
	line := []seen{{1e3, 11 * ms}, {1e6, 1010 * ms}, {2e6, 2010 * ms}, {5e5, 510 * ms}} // 10 ms + 1 MB/s
	tests := []struct {
		name     string
		seen     []seen
		left     time.Duration
		min, max int64
	}{
		{"nothing known", nil, ms, anySize, anySize},
		{"no time", nil, 0, -1, -1},
		{"time over", line, -time.Second, -1, -1},
		{"a line", line, 510 * ms, 490_000, 510_000},
		{"less than the floor", line, 5 * ms, -1, 5000},
		{"plenty of time", line, time.Hour, anySize, anySize},
		{"one size, not enough for it", []seen{{1e6, time.Second}, {1e6, time.Second}}, 500 * ms, 490_000, 510_000},
		{"one size, larger ones get a chance", []seen{{1e6, time.Second}}, time.Second, anySize, anySize},
		{"larger ones were faster", []seen{{1e6, time.Second}, {2e6, 500 * ms}}, time.Second, anySize, anySize},
		{"no time at all was needed", []seen{{1e6, 0}, {2e6, 0}}, ms, anySize, anySize},
		{"far beyond what was seen", []seen{{1000, ms}, {2000, 2 * ms}}, 20 * ms, anySize, anySize},
		{"one outlier among many", []seen{{1e3, 11 * ms}, {1e6, 1010 * ms}, {2e6, 2010 * ms}, {1e3, 60 * time.Second}},
			2 * time.Second, 500_000, 2_100_000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var e estimate
			for _, s := range test.seen {
				e.observe(s.bytes, s.took)
			}
			if got := e.fits(test.left); got < test.min || got > test.max {
				t.Errorf("fits(%v) = %d, want %d to %d", test.left, got, test.min, test.max)
			}
		})
	}
}

// TestEstimateLearns: from noisy observations of any destination, the estimate ends near the truth for
// sizes that were seen, and follows when the destination becomes slower.
func TestEstimateLearns(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		floor, perByte := r.Float64()*0.1, 1/(1e6+r.Float64()*1e8)
		var e estimate
		teach := func(n int) {
			for range n {
				x := 1e3 + r.Float64()*5e7
				y := (floor + perByte*x) * (0.9 + 0.2*r.Float64())
				e.observe(int64(x), time.Duration(y*float64(time.Second)))
			}
		}
		near := func(x float64) bool {
			truth := floor + perByte*x
			got := e.expect(x)
			return got > truth*0.7 && got < truth*1.4
		}
		teach(60)
		if !near(4e7) {
			t.Errorf("seed %d: expects %v s, truth %v s", seed, e.expect(4e7), floor+perByte*4e7)
		}
		perByte *= 20
		teach(60)
		if !near(4e7) {
			t.Errorf("seed %d, slower: expects %v s, truth %v s", seed, e.expect(4e7), floor+perByte*4e7)
		}
	}
}

// TestEstimateConsistent: fits is the inverse of expect.
func TestEstimateConsistent(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var e estimate
		for range 1 + r.IntN(20) {
			e.observe(r.Int64N(1<<uint(1+r.IntN(40))), time.Duration(r.Int64N(int64(time.Minute))))
		}
		left := time.Duration(r.Int64N(int64(time.Minute)))
		limit := e.fits(left)
		if limit >= 0 && e.expect(float64(limit)) > left.Seconds()*1.0001+1e-9 {
			t.Errorf("seed %d: %d bytes fit %v s, but are expected to take %v s", seed, limit, left.Seconds(), e.expect(float64(limit)))
		}
		if limit != anySize && e.expect(float64(limit+2)*1.001) < left.Seconds()*0.999 {
			t.Errorf("seed %d: more than %d bytes would fit %v s", seed, limit, left.Seconds())
		}
	}
}
