package agent

import (
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers"
)

// policy is what the configuration says about kinds of notices.
type policy struct {
	kinds config.Notices
	ahead time.Duration
}

// act is what a kind leads to: one of config's words. A kind that is not known is recorded: nobody can say what it
// asks for.
func (p policy) act(k providers.Kind) string {
	if act := p.kinds.Act(string(k)); act != "" {
		return act
	}
	return config.ActRecord
}

// begins is when the rescue for a notice begins. Maintenance and pauses are announced hours or weeks before: all that
// time the node is good for work.
func (p policy) begins(n providers.Notice) time.Time {
	if n.Kind == providers.Maintenance || n.Kind == providers.Pause {
		return n.Deadline.Add(-p.ahead)
	}
	return n.Seen
}

// aim is what a rescue is for: whose executors leave, and until when.
type aim struct {
	whole  bool    // the node
	groups []group // what else, when it is not the node
	until  time.Time
}

// group is some executors.
type group struct {
	app       string   // "" for any
	executors []string // none: all of the application
}

func groupOf(n providers.Notice) group { return group{app: n.App, executors: n.Executors} }

func (p group) whole() bool { return p.app == "" && len(p.executors) == 0 }

func (p group) has(e executor.Executor) bool {
	return (p.app == "" || e.App == p.app) && (len(p.executors) == 0 || slices.Contains(p.executors, e.ID))
}

// covers is true when q asks for nothing beyond p.
func (p group) covers(q group) bool {
	if p.app != "" && p.app != q.app {
		return false
	}
	return len(p.executors) == 0 ||
		len(q.executors) > 0 && !slices.ContainsFunc(q.executors, func(id string) bool { return !slices.Contains(p.executors, id) })
}

// aimOf puts notices together, in the order in which they came. A drill is of no account beside a real notice that came
// before it, and sets no deadline beside any real one; but whom it has already sent away is gone. So is a deadline of no account
// that was over before now, beside one that is not: this node has outlived it.
func aimOf(now time.Time, notices []providers.Notice) aim {
	var a aim
	var counting []providers.Notice
	real := false
	for _, n := range notices {
		if n.Drill && real {
			continue
		}
		if !n.Drill && !real {
			real, counting = true, nil
		}
		counting = append(counting, n)
		if p := groupOf(n); p.whole() {
			a.whole = true
		} else if !a.covers(p) {
			a.groups = append(a.groups, p)
		}
	}
	if a.whole {
		a.groups = nil
	}
	ahead := slices.DeleteFunc(slices.Clone(counting), func(n providers.Notice) bool { return n.Deadline.Before(now) })
	if len(ahead) > 0 {
		counting = ahead
	}
	a.until = earliest(counting)
	return a
}

// earliest is when what the notices are about is taken: the node at the earliest moment that any of them names for it.
// Where single executors leave, each at its earliest moment, it is the last of those: the files of one that has
// left are held open and copied on.
func earliest(notices []providers.Notice) time.Time {
	var node time.Time
	first := map[string]time.Time{}
	sooner := func(at, than time.Time) bool { return than.IsZero() || at.Before(than) }
	for _, n := range notices {
		switch {
		case groupOf(n).whole():
			if sooner(n.Deadline, node) {
				node = n.Deadline
			}
		case len(n.Executors) == 0:
			if key := n.App; sooner(n.Deadline, first[key]) {
				first[key] = n.Deadline
			}
		}
		for _, id := range n.Executors {
			if key := n.App + "\x00" + id; sooner(n.Deadline, first[key]) {
				first[key] = n.Deadline
			}
		}
	}
	if !node.IsZero() {
		return node
	}
	var last time.Time
	for _, at := range first {
		if at.After(last) {
			last = at
		}
	}
	return last
}

func (a aim) covers(p group) bool {
	return a.whole || slices.ContainsFunc(a.groups, func(q group) bool { return q.covers(p) })
}

// includes is true when b asks for nobody beyond a.
func (a aim) includes(b aim) bool {
	return a.whole || !b.whole && !slices.ContainsFunc(b.groups, func(p group) bool { return !a.covers(p) })
}

// has says whether an executor leaves.
func (a aim) has(e executor.Executor) bool {
	return a.whole || slices.ContainsFunc(a.groups, func(p group) bool { return p.has(e) })
}

// hasAll says whether all executors of an application leave.
func (a aim) hasAll(app string) bool { return a.covers(group{app: app}) }
