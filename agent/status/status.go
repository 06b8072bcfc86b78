// Package status shows how the agent is: metrics for Prometheus, health and readiness for whoever
// runs it, and a status page in JSON that follows a rescue while it runs. Nothing here changes
// anything: whoever can reach the address can look, and no more.
package status

import (
	"fmt"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// Status is the answer of /status.
type Status struct {
	Version    string             `json:"version"`
	Node       string             `json:"node"`
	Started    time.Time          `json:"started"`
	Stopping   bool               `json:"stopping,omitempty"` // SIGTERM has come: no new rescue begins
	Sources    []providers.Health `json:"sources"`
	State      StateFolder        `json:"state"`
	Executors  []Executor         `json:"executors"`
	Rescue     *Rescue            `json:"rescue"`               // null: none runs
	LastReport string             `json:"lastReport,omitempty"` // id, for `lifeboat report ID`
}

// StateFolder says whether journals can be written.
type StateFolder struct {
	Path  string `json:"path"`
	Error string `json:"error,omitempty"` // "" while it is writable
}

// Executor is one that was seen on this node.
type Executor struct {
	App   string `json:"app"`
	ID    string `json:"id"`
	Host  string `json:"host"`
	PID   int    `json:"pid"`
	Spark string `json:"spark,omitempty"`
}

// Rescue is how far the running rescue is.
type Rescue struct {
	ID          string           `json:"id"`
	Notice      providers.Notice `json:"notice"`
	Began       time.Time        `json:"began"`
	Deadline    time.Time        `json:"deadline"`
	SecondsLeft float64          `json:"secondsLeft"`
	Phases      []string         `json:"phases"` // what the applications are doing
	Found       int              `json:"foundOutputs"`
	Saved       int              `json:"savedOutputs"`
	Lost        int              `json:"lostOutputs"`
	FoundBytes  int64            `json:"foundBytes"`
	SavedBytes  int64            `json:"savedBytes"`
	LostBytes   int64            `json:"lostBytes"`
}

// NotReady lists why the agent could not do its duty now; empty when it could: one source of notices
// answers, and journals can be written.
func (s Status) NotReady() []string {
	reasons := []string{}
	answers := false
	for _, h := range s.Sources {
		answers = answers || h.OK
	}
	switch {
	case len(s.Sources) == 0:
		reasons = append(reasons, "no source of notices is enabled")
	case !answers:
		for _, h := range s.Sources {
			reasons = append(reasons, fmt.Sprintf("notice source %s does not answer: %s", h.Source, h.Error))
		}
	}
	if s.State.Error != "" {
		reasons = append(reasons, s.State.Error)
	}
	if s.Stopping {
		reasons = append(reasons, "stopping")
	}
	return reasons
}
