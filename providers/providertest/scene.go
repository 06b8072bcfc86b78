package providertest

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
)

// scene is a rig with what it shows now and who watches it.
type scene struct {
	Rig
	t     *testing.T
	lead  time.Duration // of an Untimed rig
	shown time.Time     // the deadline that was announced last, which names the event; zero: none
	last  *watcher
}

func newScene(t *testing.T, s Suite) *scene {
	t.Helper()
	c := &scene{Rig: s.New(t), t: t}
	if u, is := c.Rig.(Untimed); is {
		c.lead = u.Lead()
	}
	return c
}

// announce shows the event with this deadline. An origin that can't show two in a row is made ready before.
func (c *scene) announce(d time.Time) {
	c.note(d)
	c.Announce(d)
}

// note says which event comes next.
func (c *scene) note(d time.Time) {
	if c.last != nil {
		c.last.mu.Lock()
		defer c.last.mu.Unlock()
	}
	c.shown = d
}

// ready prepares for another event after one that was seen; there is no fault at that time. It returns true when that
// took another machine: the watcher has ended then.
func (c *scene) ready() (replaced bool) {
	c.t.Helper()
	if c.shown.IsZero() {
		return false
	}
	if m, is := c.Rig.(Machines); is {
		if c.last != nil {
			c.last.stop()
		}
		m.Replace()
		c.last, c.shown = nil, time.Time{}
		return true
	}
	if c.lead > 0 {
		c.Withdraw()
		// Each event of such an origin was sent once, and has ended when it was withdrawn once.
		c.last.await("a withdrawal", func() bool { return 2*len(c.last.withdrawals()) == len(c.last.all()) })
	}
	return false
}

// countsEvents is true for an origin that names events by nothing, so that a source can do no better than count them.
func (c *scene) countsEvents() bool {
	_, one := c.Rig.(Machines)
	return c.lead > 0 && !one
}

// watch starts a run of a new source.
func (c *scene) watch() *watcher {
	c.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return c.watchSource(c.Source(reg), reg)
}

func (c *scene) watchSource(source providers.Source, reg *prometheus.Registry) *watcher {
	c.t.Helper()
	c.last = newWatcher(c, source, reg)
	return c.last
}

// sameDeadline compares what two runs said of one event. Without a time from the origin each counts from when it saw it.
func (c *scene) sameDeadline(a, b providers.Notice) bool {
	if c.lead > 0 {
		return a.Deadline.Sub(a.Seen) == b.Deadline.Sub(b.Seen)
	}
	return a.Deadline.Equal(b.Deadline)
}
