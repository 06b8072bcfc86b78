package aws

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// LifecycleName is the name of the source of Auto Scaling lifecycle states.
const LifecycleName = "aws-asg"

// LifecycleInterval between polls.
const LifecycleInterval = 5 * time.Second

// lifecycleItem is documented in the EC2 Auto Scaling user guide, "Retrieve the target lifecycle state through
// instance metadata": one word, as InService; 404 outside of a group.
const lifecycleItem = "autoscaling/target-lifecycle-state"

// NewLifecycle makes the source of the Auto Scaling group's intentions with this instance. It opens no connection.
// The error is ErrDisabled when the environment forbids to ask.
//
//   - Terminated, and in a warm pool Warmed:Stopped, Warmed:Hibernated and Warmed:Terminated, are a drain: the
//     instance goes. The metadata names no time. With a lifecycle hook the instance stays until the hook's heartbeat
//     timeout; without one it goes at once. Options.Lead says how long to count on.
//   - Standby and Warmed:Running are a cordon: the instance runs on without being in service.
//   - InService and Detached (the instance leaves the group and runs on) withdraw what was said before.
//
// The state carries no id and no time. So an event is named by the state, the start of the machine, and how often this run
// has seen the instance come back; a run that comes later starts to count anew.
func NewLifecycle(o Options) (*Source, error) {
	s, err := newSource(LifecycleName, lifecycleItem, LifecycleInterval, o)
	if err != nil {
		return nil, err
	}
	l := &lifecycle{Source: s, boot: providers.BootID()}
	s.read, s.ends = l.read, true
	return s, nil
}

// lifecycle is what the source remembers of the states.
type lifecycle struct {
	*Source
	boot string
	back int // how often the instance came back from a state that was a notice
}

func (l *lifecycle) read(a answer, now time.Time) ([]providers.Notice, error) {
	if !a.found {
		// That is what an instance says that was never in a group, and a metadata service in trouble: no word
		// about a state that was told before.
		return l.book.Kept(), nil
	}
	state, err := decodeState(a.body)
	if err != nil {
		return nil, err
	}
	var kind providers.Kind
	switch state {
	case "Terminated", "Warmed:Stopped", "Warmed:Hibernated", "Warmed:Terminated":
		kind = providers.Drain
	case "Standby", "Warmed:Running":
		kind = providers.Cordon
	case "InService", "Detached":
		gone := l.book.Settle(nil)
		if len(gone) > 0 {
			l.back++
		}
		return gone, nil
	default:
		l.once("state "+state, "unknown target lifecycle state; it changes nothing", zap.String("state", state))
		return l.book.Kept(), nil
	}
	id := []string{l.boot, state}
	if l.back > 0 {
		id = append(id, strconv.Itoa(l.back+1))
	}
	n := l.notice(event{id: id, kind: kind, lead: l.o.Lead, said: state}, a, now)
	return l.book.Settle([]providers.Notice{n}), nil
}

// maxState is twice the longest state that is known.
const maxState = 40

// decodeState reads the item. Every word may be a state, as some have been added; a page of a proxy is none.
func decodeState(body []byte) (string, error) {
	state := strings.TrimSpace(string(body))
	if len(state) > maxState || slices.ContainsFunc(strings.Split(state, ":"), noWord) {
		return "", errors.New("that is no lifecycle state")
	}
	return state, nil
}

func noWord(s string) bool {
	return s == "" || strings.ContainsFunc(s, func(c rune) bool { return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') })
}
