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
	Version    string      `json:"version"`
	Node       string      `json:"node"`
	Started    time.Time   `json:"started"`
	Stopping   bool        `json:"stopping,omitempty"` // SIGTERM has come: no new rescue begins
	Sources    []Source    `json:"sources"`
	Detection  string      `json:"detection,omitempty"` // which cloud was found; "" when nobody looked for one
	Notices    []Notice    `json:"notices"`             // the last ones, and what was made of them, oldest first
	State      StateFolder `json:"state"`
	Executors  []Executor  `json:"executors"`
	Rescue     *Rescue     `json:"rescue"`               // null: none runs
	LastReport string      `json:"lastReport,omitempty"` // id, for `lifeboat report ID`
	Survivor   *Survivor   `json:"survivor,omitempty"`   // of a survivor only, which has no notices, executors or rescues
}

// Source is a source of notices and what it sees now.
type Source struct {
	providers.Health
	Notices []providers.Notice `json:"notices,omitempty"`
	// Drills: it only takes drills, and says nothing about how well real notices are heard.
	Drills bool `json:"drills,omitempty"`
}

// Notice is one that came, and what was made of it.
type Notice struct {
	providers.Notice
	LeadsTo string    `json:"leadsTo"` // as in lifeboat_notices_handled_total
	Since   time.Time `json:"since"`
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
	if s.Survivor != nil {
		return s.survivorNotReady()
	}
	reasons := s.deaf()
	if s.State.Error != "" {
		reasons = append(reasons, s.State.Error)
	}
	if s.Stopping {
		reasons = append(reasons, "stopping")
	}
	return reasons
}

// deaf lists why no notice would be heard now; empty when one source works.
func (s Status) deaf() []string {
	reasons := []string{}
	for _, h := range s.Sources {
		switch {
		case h.Drills:
		case h.OK:
			return []string{}
		default:
			reasons = append(reasons, fmt.Sprintf("notice source %s does not answer: %s", h.Source, h.Error))
		}
	}
	if len(reasons) > 0 {
		return reasons
	}
	if s.Detection != "" {
		return []string{"no source of notices runs: " + s.Detection}
	}
	return []string{"no source of notices is enabled"}
}
