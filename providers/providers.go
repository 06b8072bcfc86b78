// Package providers holds what every source of interruption notices shares: the Notice and the
// Source, and the poll loop. A notice is where a rescue starts; the packages below this one each
// watch one source.
package providers

import (
	"context"
	"slices"
	"time"
)

// Kind says why a node goes.
type Kind string

// The kinds of notices.
const (
	Preemption  Kind = "preemption"  // the cloud takes a spot node back
	Drain       Kind = "drain"       // somebody empties the node
	Rebalance   Kind = "rebalance"   // the cloud says that a preemption has become likely
	Maintenance Kind = "maintenance" // the machine is rebooted, moved to other hardware or retired at the deadline
	Cordon      Kind = "cordon"      // nothing new is to start here; nothing has to go yet
	Pause       Kind = "pause"       // the machine stands still or is moved for seconds, and stays
)

// Kinds are all that are known.
func Kinds() []Kind { return []Kind{Preemption, Drain, Rebalance, Maintenance, Cordon, Pause} }

// Label is the kind as a metric label: one that is not known is "other", so that an origin can't make up labels.
func (k Kind) Label() string {
	if slices.Contains(Kinds(), k) {
		return string(k)
	}
	return "other"
}

// Notice says that this node, or some executors on it, go away. It is a fact as its origin tells it: what is done about
// it, and when, is the reader's business.
type Notice struct {
	// ID is the same for the same event each time that it is seen, also by another run of the agent:
	// a notice is acted on once.
	ID     string `json:"id"`
	Source string `json:"source"` // as "aws-spot" or "file"
	Kind   Kind   `json:"kind"`
	// App is the application whose executors are meant; empty means any.
	App string `json:"app,omitempty"`
	// Executors limits the notice to these executor ids; empty means the whole node.
	Executors []string `json:"executors,omitempty"`
	// Deadline is when the node is taken, by this node's clock: a source takes out what the service's clock differs.
	// Where the origin names no time it is Seen plus the documented lead time, and does not move from poll to poll.
	Deadline  time.Time `json:"deadline"`
	Seen      time.Time `json:"seen"` // when the source read it
	Withdrawn bool      `json:"withdrawn,omitempty"`
	Drill     bool      `json:"drill,omitempty"`
	// DryRun is a drill that only looks: nobody is told, nothing is copied or ended.
	DryRun bool `json:"dryRun,omitempty"`
}

// Source watches one origin of notices.
type Source interface {
	// Name is a short constant word, used as a metric label and in Notice.Source.
	Name() string
	// Run sends every notice it sees until ctx ends, also those after the first one. A notice is sent
	// once per call of Run, and again with the same ID when something in it changes (Deadline,
	// Executors, Withdrawn): the reader merges by ID. An origin that has no notice to show withdraws
	// only what it had announced itself, and only where its cloud documents that notices can end.
	// Trouble with the origin (away, refused, malformed) is never a reason to return: it is logged
	// once per change of state, counted, and tried again. Run returns ctx's error, or one that no
	// retry can mend (bad configuration). A source runs once at a time, and may run again.
	Run(ctx context.Context, notices chan<- Notice) error
}

// Health is what a source last heard from its origin; readiness and the status page show it.
type Health struct {
	Source     string    `json:"source"`
	OK         bool      `json:"ok"` // the last poll was answered in a way that the source understands
	LastAnswer time.Time `json:"lastAnswer"`
	Error      string    `json:"error,omitempty"` // why not OK
	// Skew is how far this node's clock is ahead of the service's, in nanoseconds; 0 within the tolerance of Skew.
	Skew time.Duration `json:"skew,omitempty"`
}

// Sight is what a source sees; every source of this project has it.
type Sight interface {
	Health() Health
	// Notices are those that the last answer of the origin showed, without withdrawn ones.
	Notices() []Notice
}

// Recaller is a source whose notices can end. Before it runs it can be told of those that an earlier run of the agent had heard
// from it and began to act on: what its origin shows as ended is withdrawn then, by the same rules as what it has announced itself.
// It answers false when its origin documents no end, so that there is nothing to wait for.
type Recaller interface {
	Recall(notices []Notice) bool
}

// Acknowledger is a source that can tell the cloud that this node is ready to go. An error that is ErrFinal will be the
// same when it is asked again.
type Acknowledger interface {
	Acknowledge(ctx context.Context, noticeID string) error
}
