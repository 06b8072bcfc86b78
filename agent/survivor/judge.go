package survivor

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// Witness is who says, beside the silence of a machine, that it is gone.
type Witness string

// Witnesses, the surest first.
const (
	// WitnessShutdown: the cloud says that the machine is shut down (kube.ShutdownTaint).
	WitnessShutdown Witness = "cloud-shutdown"
	// WitnessDeleted: the Node object of a silent machine was deleted, as every cloud controller manager does when its cloud knows
	// the machine no longer.
	WitnessDeleted Witness = "node-deleted"
	// WitnessLastWord: the machine itself said that it would go (kube.OwnMark), and its deadline is over.
	WitnessLastWord Witness = "last-word"
	// WitnessNone: nobody; the configuration lets the silence be enough (survivor.onNotReady).
	WitnessNone Witness = "none"
)

// cloud says whether it is the cloud's own word, which a partition of the network can't bring about.
func (w Witness) cloud() bool { return w == WitnessShutdown || w == WitnessDeleted }

// pulse is what a node's Lease in kube-node-lease says.
type pulse struct {
	found bool
	// beat changes with every renewal.
	beat string
	// over is when the lease ends, by the clock of the machine that has renewed it.
	over time.Time
	// lasts is how long a renewal holds.
	lasts time.Duration
}

// renewed is when it was renewed, by the clock of the machine that has done so; zero when that is not known.
func (p pulse) renewed() time.Time {
	if !p.found {
		return time.Time{}
	}
	return p.over.Add(-p.lasts)
}

// silence is one machine that was seen silent, from the time when that was seen first. All times are of this process's own
// clock: nothing that another machine has written decides alone.
type silence struct {
	member kube.Member // as seen last while it was there
	since  time.Time
	pulse  pulse
	still  time.Time // since when the pulse is the same; zero: it was not read yet
}

// listen takes a reading of the pulse.
func (s *silence) listen(p pulse, now time.Time) {
	if s.still.IsZero() || p.found && p.beat != s.pulse.beat {
		s.still = now
	}
	// The lease of a Node object that was deleted is deleted soon after: that is no sign of life.
	if p.found || !s.pulse.found {
		s.pulse = p
	}
}

// sight is what one fresh look at a node has shown.
type sight struct {
	member kube.Member
	gone   bool // no object has its name
	pulse  pulse
	now    time.Time
	skew   time.Duration // how far this process's clock is ahead of the API server's
}

// verdict is what a look means. dead is said only when it is certain by the rules of the package.
type verdict struct {
	dead    bool
	alive   bool // it was heard, or is another machine: what was seen before counts no more
	witness Witness
	why     string // why not dead, or who says so
}

// rules are what certainty rests on.
type rules struct {
	after      time.Duration
	onNotReady bool
}

// judge holds a fresh look against what was seen before. It changes nothing: what the look shows is compared, not noted.
func (r rules) judge(s silence, l sight) verdict {
	if !l.gone {
		switch {
		case l.member.UID != s.member.UID:
			return verdict{alive: true, why: "another node has its name now"}
		case l.member.BootID != s.member.BootID:
			return verdict{alive: true, why: "the machine has booted again"}
		case !l.member.Silent():
			return verdict{alive: true, why: fmt.Sprintf("its condition Ready is %q", l.member.Ready)}
		}
	}
	if !s.still.IsZero() && l.pulse.found && l.pulse.beat != s.pulse.beat {
		return verdict{alive: true, why: "its lease was renewed"}
	}
	if why := r.beats(s, l); why != "" {
		return verdict{why: why}
	}
	w, why := r.witness(l, s.member.BootID, s.pulse.renewed())
	return verdict{dead: w != "", witness: w, why: why}
}

// beats says why the pulse does not show death; "" when it does. The written end of the lease and the time that was observed
// here must both be over; a machine whose clock is ahead writes an end that comes too late, and is found by observation alone.
func (r rules) beats(s silence, l sight) string {
	observed := l.now.Sub(s.still)
	switch {
	case s.still.IsZero():
		return "its lease was not read yet"
	case !l.pulse.found && !l.gone:
		return "it has no lease in kube-node-lease: nothing shows when its kubelet was last there"
	case l.now.Sub(s.since) < r.after, observed < r.after:
		return fmt.Sprintf("silent for less than %v", r.after)
	case !l.pulse.found:
		return ""
	case l.now.Add(-l.skew).Before(l.pulse.over.Add(r.after)) && observed < l.pulse.lasts+r.after:
		return "its lease is not over for long enough"
	}
	return ""
}

// outlived is how long after its own deadline a machine may still be there, as clouds do not keep them to the second. One that
// renews its lease after that was not taken: what it said of itself was wrong.
const outlived = 2 * time.Minute

// witness finds who else says that the machine is gone; "" when nobody does. renewed is when its lease was renewed last.
func (r rules) witness(l sight, boot string, renewed time.Time) (Witness, string) {
	switch {
	case l.gone:
		return WitnessDeleted, "its Node object was deleted while it was silent"
	case l.member.Tainted(kube.ShutdownTaint):
		return WitnessShutdown, "the cloud says that the machine is shut down"
	}
	if at, said := lastWord(l.member); said && boot != "" && l.now.Add(-l.skew).After(at.Add(r.after)) &&
		!renewed.After(at.Add(outlived)) { // both by the machine's own clock
		return WitnessLastWord, "it said itself that it would be gone by " + at.UTC().Format(time.RFC3339)
	}
	if r.onNotReady {
		return WitnessNone, "its silence is enough (survivor.onNotReady)"
	}
	return "", noWitness
}

const noWitness = "neither the cloud nor its own last word says that it is gone"

// hint says whether a witness may be there, without a look.
func (r rules) hint(m kube.Member, vanished bool) bool {
	_, said := lastWord(m)
	return vanished || said || r.onNotReady || m.Tainted(kube.ShutdownTaint)
}

// lastWord is the deadline of the rescue that runs, or ran, on the machine since it booted. Who has uncordoned it since has taken
// the word back.
func lastWord(m kube.Member) (time.Time, bool) {
	var mark struct {
		Phase    string    `json:"phase"`
		Deadline time.Time `json:"deadline"`
		Boot     string    `json:"boot"`
		Cordoned bool      `json:"cordoned"`
	}
	text := m.Annotations[kube.OwnMark]
	if text == "" || json.Unmarshal([]byte(text), &mark) != nil {
		return time.Time{}, false
	}
	said := (mark.Phase == "copying" || mark.Phase == "ended") && !mark.Deadline.IsZero() && mark.Boot != "" && mark.Boot == m.BootID &&
		(!mark.Cordoned || m.Unschedulable)
	return mark.Deadline, said
}
