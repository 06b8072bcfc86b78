package migrate

import (
	"math"
	"time"
)

const (
	// trial is how long a place has to be at work before its speed means anything, as a part of the time left:
	// its first copies also open connections and start threads.
	trial = 1.0 / 16
	// longestTrial is long enough, however late the deadline is.
	longestTrial = time.Second
	// haste is the part of the time left in which the better classes should be done by themselves. The rest is for
	// what no estimate knows: a speed that falls, outputs that are still to come.
	haste = 0.75
	// glance is how often places that are held back are looked at again, as a part of the time left: when copies
	// to the better ones take longer than they should, nothing happens that would show it.
	glance         = 1.0 / 64
	shortestGlance = 10 * time.Millisecond
)

// overflow says what places of a lower class may take although better ones are healthy: what these won't be done
// with before the deadline, as fast as they have been. It holds for one moment, at which none of the better ones
// has a free slot for what is queued.
type overflow struct {
	queue  *queue
	places []*place
	paces  []pace           // of each place
	left   float64          // seconds
	above  map[string]int64 // the answers so far, by the places asked about
}

// pace is what is thought of the speed of one place.
type pace struct {
	estimate
	young bool      // too early to say
	rests []float64 // seconds until each of its busy slots is free
	idle  int       // its other slots
}

// newOverflow looks at all places; nil without a deadline: then everything can wait for the best ones.
func (e *Engine) newOverflow(now time.Time) *overflow {
	if e.deadline.IsZero() {
		return nil
	}
	left := e.deadline.Sub(now)
	o := &overflow{
		queue: &e.queue, places: e.places, paces: make([]pace, len(e.places)),
		left: haste * left.Seconds(), above: map[string]int64{},
	}
	for i, p := range e.places {
		o.paces[i] = p.pace(now, left)
	}
	return o
}

// pace learns also from what is under way: a copy that has taken longer than it should counts as if it ended
// now. Without that, places so slow that none has acknowledged anything would look fast until it is too late.
func (p *place) pace(now time.Time, left time.Duration) pace {
	a := pace{estimate: p.estimate, idle: p.slots - len(p.flights)}
	if p.first.IsZero() || now.Sub(p.first) < min(longestTrial, time.Duration(trial*float64(left))) {
		a.young = true
		return a
	}
	for _, f := range p.flights {
		age := now.Sub(f.began)
		rest := p.estimate.expect(float64(f.item.bytes)) - age.Seconds()
		if rest < 0 {
			a.observe(f.item.bytes, age)
		}
		a.rests = append(a.rests, max(rest, 0))
	}
	return a
}

// from is the size above which an output of the lane may go to a place of this rank: the largest one that a
// better place would still be done with in time if it were the last one to be begun there.
func (o *overflow) from(l *lane, rank byte) int64 {
	set := make([]byte, len(o.places))
	for i, p := range o.places {
		if p.healthy && l.ranks[i] < rank {
			set[i] = 1
		}
	}
	above, asked := o.above[string(set)]
	if !asked {
		above = o.ask(set)
		o.above[string(set)] = above
	}
	return above
}

// ask is from for a set of better places: 1 for each that is in it. A young one may turn out to be fast enough.
func (o *overflow) ask(set []byte) int64 {
	var team []pace
	above, young := int64(-1), false
	for i, p := range o.places {
		if set[i] == 0 {
			continue
		}
		above = max(above, p.limit)
		young = young || o.paces[i].young
		if o.paces[i].weight > 0 {
			team = append(team, o.paces[i])
		}
	}
	if young || len(team) == 0 {
		return above
	}
	last, ok := o.lastBegun(team, o.backlog(set))
	if !ok {
		return -1
	}
	spare, fits := time.Duration((o.left-last)*float64(time.Second)), int64(-1)
	for _, a := range team {
		fits = max(fits, a.fits(spare))
	}
	return min(above, fits)
}

// backlog is what waits for the places of a set and for no others.
type backlog struct {
	n     int
	bytes int64
	most  int64 // bytes of the largest output
}

func (o *overflow) backlog(set []byte) backlog {
	var b backlog
	for _, l := range o.queue.lanes {
		if o.leans(l, set) {
			b.n += l.n
			b.bytes += l.bytes
			b.most = max(b.most, l.root.most)
		}
	}
	return b
}

// leans says that all places that a lane prefers are in the set.
func (o *overflow) leans(l *lane, set []byte) bool {
	best, inside := byte(never), false
	for i, p := range o.places {
		switch rank := l.ranks[i]; {
		case !p.healthy || rank == never || rank > best:
		case rank < best:
			best, inside = rank, set[i] == 1
		default:
			inside = inside && set[i] == 1
		}
	}
	return inside
}

// lastBegun is after how many seconds a team begins the last output of a backlog, if that is the largest one; false
// when it does not get that far in time. Slots take whole outputs: nine equal ones take eight slots two rounds.
func (o *overflow) lastBegun(team []pace, b backlog) (seconds float64, ok bool) {
	each := float64(b.bytes-b.most) / float64(max(b.n-1, 1))
	begun := func(t float64) (n float64) {
		for _, a := range team {
			n += a.begins(t, each)
		}
		return n
	}
	early, late := 0.0, o.left
	if begun(late) < float64(b.n) {
		return 0, false
	}
	for range 20 {
		if t := (early + late) / 2; begun(t) < float64(b.n) {
			early = t
		} else {
			late = t
		}
	}
	return late, true
}

// begins is how many outputs of a size are begun within t seconds.
func (a *pace) begins(t, size float64) float64 {
	takes := max(a.expect(size), time.Microsecond.Seconds())
	n := float64(a.idle) * (1 + math.Floor(t/takes))
	for _, rest := range a.rests {
		if t >= rest {
			n += 1 + math.Floor((t-rest)/takes)
		}
	}
	return n
}
