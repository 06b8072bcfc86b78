package file

import (
	"cmp"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// rules are how a file becomes a notice.
type rules struct {
	source string
	lead   time.Duration // when the file does not say
	settle time.Duration
	drills bool // every notice is a drill
}

// watched is one file and what was said about it. It belongs to a poll function.
type watched struct {
	last      version
	lastSince time.Time
	live      *providers.Notice // what the reader holds for valid
	liveFrom  version
}

// see takes what the file is like now. left is the time after which another look is needed, because the file may still be
// being written; 0 for none. After an error, what was said before still holds.
func (w *watched) see(v version, r rules) (out []providers.Notice, left time.Duration, err error) {
	if w.live != nil && v == w.liveFrom {
		return []providers.Notice{*w.live}, 0, nil
	}
	if left := w.unsettled(v, r.settle); left > 0 {
		return w.current(), left, nil
	}
	q, err := decode(v.content)
	if err != nil {
		return nil, 0, err
	}
	n := r.notice(q, v)
	w.liveFrom = v
	return w.replace(&n), 0, nil
}

// removed takes the end of the file.
func (w *watched) removed() []providers.Notice {
	w.unsettle()
	return w.replace(nil)
}

// unsettle forgets how long the file has been as it is.
func (w *watched) unsettle() { w.last = version{} }

// unsettled is how long the file must stay like this until it counts.
func (w *watched) unsettled(v version, settle time.Duration) time.Duration {
	now := time.Now()
	if v != w.last {
		w.last, w.lastSince = v, now
	}
	return max(settle-now.Sub(w.lastSince), 0)
}

// current is what was said before and still holds.
func (w *watched) current() []providers.Notice {
	if w.live == nil {
		return nil
	}
	return []providers.Notice{*w.live}
}

// replace makes next the live notice (nil: none). The one before is withdrawn after the new one is
// sent, so that the reader is never without a notice in between.
func (w *watched) replace(next *providers.Notice) []providers.Notice {
	before := w.live
	w.live = next
	var out []providers.Notice
	if next != nil {
		out = append(out, *next)
	}
	if before != nil && (next == nil || next.ID != before.ID) {
		gone := *before
		gone.Withdrawn, gone.Seen = true, time.Now()
		out = append(out, gone)
	}
	return out
}

// notice makes the notice that a version of the file stands for.
func (r rules) notice(q request, v version) providers.Notice {
	now := time.Now()
	n := providers.Notice{
		ID: r.source + "-" + cmp.Or(q.ID, v.digest()), Source: r.source, Kind: q.Kind, App: q.App, Executors: q.Executors,
		Drill: q.Drill || r.drills, DryRun: q.DryRun, Seen: now,
	}
	if q.Deadline != nil {
		n.Deadline = q.Deadline.UTC()
		return n
	}
	// Counted from the writing, so that another run of the agent finds the same deadline. A file that
	// was found too late for that gets its full time: an old file must not mean "no time left".
	lead := cmp.Or(q.in, r.lead)
	n.Deadline = v.mtime.Add(lead)
	if v.mtime.After(now) || n.Deadline.Before(now) {
		n.Deadline = now.Add(lead)
	}
	return n
}
