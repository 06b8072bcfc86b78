package migrate

import (
	"slices"
	"testing"
	"time"
)

// sized is a blob of so many bytes that nobody reads.
type sized int64

func (s sized) Size() int64                       { return int64(s) }
func (s sized) ReadAt([]byte, int64) (int, error) { panic("read") }

func output(id, bytes int64) *Output {
	return &Output{ID: OutputID{App: "app", Map: id}, Executor: "1", Index: sized(bytes)}
}

func TestPlan(t *testing.T) {
	orphan := output(9, 1)
	orphan.Executor = ""
	young := output(1, 100)
	young.Committed = time.Unix(200, 0)
	old := output(2, 100)
	old.Committed = time.Unix(100, 0)
	tests := []struct {
		name  string
		outs  []*Output
		costs map[int64]time.Duration
		live  bool
		want  []int64
	}{
		{name: "nothing", want: []int64{}},
		{name: "no costs: small first", outs: []*Output{output(1, 300), output(2, 100), output(3, 200)}, want: []int64{2, 3, 1}},
		{name: "the most time per byte", outs: []*Output{output(1, 100), output(2, 100), output(3, 1000)},
			costs: map[int64]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 30 * time.Second}, want: []int64{3, 2, 1}},
		{name: "unknown counts as the median", outs: []*Output{output(1, 100), output(2, 100), output(3, 100), output(4, 100)},
			costs: map[int64]time.Duration{1: time.Second, 2: 5 * time.Second, 3: 9 * time.Second}, want: []int64{3, 2, 4, 1}},
		{name: "equal value per byte: smaller first", outs: []*Output{output(1, 200), output(2, 100)},
			costs: map[int64]time.Duration{1: 2 * time.Second, 2: time.Second}, want: []int64{2, 1}},
		{name: "equal size: older first", outs: []*Output{young, old}, want: []int64{2, 1}},
		{name: "no time at all still counts", outs: []*Output{output(1, 100), output(2, 10)},
			costs: map[int64]time.Duration{1: 0, 2: 0}, want: []int64{2, 1}},
		{name: "orphans last", outs: []*Output{orphan, output(1, 1<<40)}, want: []int64{1, 9}},
		{name: "orphans alive", outs: []*Output{output(1, 1<<40), orphan}, live: true, want: []int64{9, 1}},
		{name: "empty files", outs: []*Output{output(2, 1), output(1, 0)}, want: []int64{1, 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := []int64{}
			for _, out := range Plan(test.outs, test.costs, test.live) {
				got = append(got, out.ID.Map)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("order %v, want %v", got, test.want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		costs map[int64]time.Duration
		want  time.Duration
	}{
		{nil, usualCost},
		{map[int64]time.Duration{1: 7}, leastCost},
		{map[int64]time.Duration{1: time.Second, 2: 3 * time.Second, 3: time.Hour}, 3 * time.Second},
	} {
		if got := median(test.costs); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.costs, got, test.want)
		}
	}
}
