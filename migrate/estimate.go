package migrate

import (
	"math"
	"time"
)

const (
	// keep is the weight that an observation still has after the next one: about the last twenty count.
	keep = 0.95
	// alike is the relative variance of the sizes below which no slope is looked for. It can be small,
	// since line's answer lies between all floor and all proportional however noisy the times are. It has to be:
	// outputs are sent in the order of their worth, so that neighbours are alike in size.
	alike = 1e-4
	// reach is how many times larger than the largest output seen an output may be and still be judged
	// by what was seen. Beyond that a small error in the slope would say anything.
	reach = 8
	// outlier caps one observation at so many times what was expected: a stall of a few seconds says
	// nothing about the next output.
	outlier = 4
	// anySize is a limit that limits nothing.
	anySize = math.MaxInt64
)

// estimate learns how long one slot of a destination takes for an output of a given size: a latency
// floor and a time per byte, a least-squares line through the recent outputs. In doubt it is
// optimistic: an output that was begun in vain costs nothing, one that was never begun is lost.
// The zero estimate knows nothing.
type estimate struct {
	weight, x, y, xx, xy float64 // decayed sums; x in bytes, y in seconds
	largest              float64 // bytes of the largest output seen
}

// observe records that an output of so many bytes took so long.
func (e *estimate) observe(bytes int64, took time.Duration) {
	x, y := float64(max(bytes, 1)), took.Seconds()
	if e.weight > 0 && x <= 2*e.largest {
		y = min(y, max(outlier*e.expect(x), time.Millisecond.Seconds()))
	}
	e.weight = e.weight*keep + 1
	e.x = e.x*keep + x
	e.y = e.y*keep + y
	e.xx = e.xx*keep + x*x
	e.xy = e.xy*keep + x*y
	e.largest = max(e.largest, x)
}

// line is the time that an output takes: floor plus perByte for each byte, both zero or more. ok is
// false when the outputs seen are too much alike in size to tell the two apart.
func (e *estimate) line() (floor, perByte float64, ok bool) {
	meanX, meanY := e.x/e.weight, e.y/e.weight
	variance := e.xx/e.weight - meanX*meanX
	if variance < alike*meanX*meanX {
		return 0, 0, false
	}
	perByte = (e.xy/e.weight - meanX*meanY) / variance
	floor = meanY - perByte*meanX
	switch {
	case perByte <= 0:
		return 0, 0, false
	case floor < 0: // steeper than proportional: the line through the origin that fits best
		return 0, e.xy / e.xx, true
	}
	return floor, perByte, true
}

// expect is the time in seconds for an output of x bytes, zero when nothing is known.
func (e *estimate) expect(x float64) float64 {
	if e.weight == 0 {
		return 0
	}
	if floor, perByte, ok := e.line(); ok {
		return floor + perByte*min(x, reach*e.largest)
	}
	// All outputs had one size: a smaller one may take less in proportion, a larger one no longer.
	return e.y / e.weight * min(1, x/(e.x/e.weight))
}

// fits is the size of the largest output that would be done within the time left; anySize when all
// would, -1 when none would.
func (e *estimate) fits(left time.Duration) int64 {
	if left <= 0 {
		return -1
	}
	t := left.Seconds()
	if e.weight == 0 || e.expect(reach*e.largest) <= t {
		return anySize
	}
	floor, perByte, ok := e.line()
	if !ok { // then expect grows in proportion up to the mean size
		floor, perByte = 0, e.y/e.x
	}
	if t < floor {
		return -1
	}
	return int64((t - floor) / perByte)
}
