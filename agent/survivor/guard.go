package survivor

import "fmt"

const (
	// tooMany is the share of nodes whose silence at once is more likely a fault of the network or the API server's than
	// their death: more than one half.
	tooManyOf = 2
	// fewInZone are so few nodes of a zone that their share says nothing.
	fewInZone = 3
)

// census counts the fleet, and how much of it is silent.
type census struct {
	all   tally
	zones map[string]*tally
}

type tally struct{ nodes, silent int }

func (t *tally) count(silent bool) {
	t.nodes++
	if silent {
		t.silent++
	}
}

// tooMany says that more than half is silent.
func (t tally) tooMany() bool { return t.silent*tooManyOf > t.nodes }

func newCensus() *census { return &census{zones: make(map[string]*tally)} }

func (c *census) count(zone string, silent bool) {
	c.all.count(silent)
	if zone == "" {
		return
	}
	t := c.zones[zone]
	if t == nil {
		t = new(tally)
		c.zones[zone] = t
	}
	t.count(silent)
}

// held says why nothing may be done about a silent node of this zone unless the cloud itself says that it is gone; "" when
// nothing speaks against it.
func (c *census) held(zone string) string {
	if c.all.nodes > 1 && c.all.tooMany() { // one node alone can't be compared with others
		return fmt.Sprintf("%d of %d nodes are silent at once: it may be the network", c.all.silent, c.all.nodes)
	}
	if t := c.zones[zone]; t != nil && t.nodes >= fewInZone && t.tooMany() {
		return fmt.Sprintf("%d of %d nodes of zone %s are silent at once: it may be the network", t.silent, t.nodes, zone)
	}
	return ""
}
