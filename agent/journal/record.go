package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

// version is written in the first record; a journal of a later version is not read.
const version = 1

// Types of records, in the order in which a rescue usually writes them.
const (
	typeNotice      = "notice"       // always the first: what this rescue is for
	typeMerged      = "merged"       // a further notice that this rescue serves too
	typeWithdrawn   = "withdrawn"    // a notice that was taken back before anybody was told
	typeBegin       = "begin"        // a run of the agent takes the rescue up; again after each restart
	typeTellIntent  = "told-intent"  // on disk before the driver is told
	typeTold        = "told"         // the driver has answered, or the signal was sent
	typeTarget      = "target"       // gives a destination the number that saved records use
	typeSaved       = "saved"        // acknowledged: data and index; waiting: Spark does not know yet
	typeUnsaved     = "unsaved"      // was saved, but its copy has gone
	typeLost        = "lost"         // given up
	typeEndIntent   = "ended-intent" // on disk before the executor is signalled
	typeEnded       = "ended"        // the executor has left
	typeInterrupted = "interrupted"  // the agent stops before the rescue is over; the next run goes on
	typeDone        = "done"         // always the last: the rescue is over and has its report
)

// record is one line. Keys are short only where thousands of lines carry them.
type record struct {
	Time int64  `json:"t"` // milliseconds since 1970
	Type string `json:"type"`

	Version  int               `json:"v,omitempty"`
	Notice   *providers.Notice `json:"notice,omitempty"`
	DryRun   bool              `json:"dryRun,omitempty"`
	Node     string            `json:"node,omitempty"`
	Agent    string            `json:"agent,omitempty"` // version of the agent
	Deadline int64             `json:"deadline,omitempty"`

	App      string `json:"app,omitempty"`
	Executor string `json:"executor,omitempty"`
	Trigger  string `json:"trigger,omitempty"`
	Accepted bool   `json:"accepted,omitempty"`

	Shuffle *int   `json:"shuffle,omitempty"`
	Map     *int64 `json:"map,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"`
	To      int    `json:"to,omitempty"` // number of a target record
	Waiting bool   `json:"waiting,omitempty"`

	Host string `json:"host,omitempty"`
	Port int    `json:"port,omitempty"`
	URL  string `json:"url,omitempty"`

	Why    string `json:"why,omitempty"` // reason of a loss; how an executor ended; why the agent stops
	Result string `json:"result,omitempty"`
	Exit   int    `json:"exit,omitempty"`
}

func (r *record) setOutput(id migrate.OutputID) {
	r.App, r.Shuffle, r.Map = id.App, &id.Shuffle, &id.Map
}

func (r *record) output() migrate.OutputID {
	return migrate.OutputID{App: r.App, Shuffle: *r.Shuffle, Map: *r.Map}
}

func (r *record) executor() Executor { return Executor{App: r.App, ID: r.Executor} }

func (r *record) at() time.Time { return time.UnixMilli(r.Time).UTC() }

// encode is the record as one line.
func (r *record) encode() ([]byte, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return append(line, '\n'), nil
}

// decode reads one line without its end and checks that the record has what its type needs.
func decode(line []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	return &r, r.check()
}

func (r *record) check() error {
	switch r.Type {
	case typeNotice:
		if r.Notice == nil {
			return errors.New("notice record without a notice")
		}
		if r.Version != version {
			return fmt.Errorf("written in version %d of the journal; this agent reads version %d", r.Version, version)
		}
	case typeMerged, typeWithdrawn:
		if r.Notice == nil {
			return errors.New(r.Type + " record without a notice")
		}
	case typeTellIntent, typeTold, typeEndIntent, typeEnded:
		if r.App == "" || r.Executor == "" {
			return errors.New(r.Type + " record without app and executor")
		}
	case typeSaved, typeUnsaved, typeLost:
		if r.App == "" || r.Shuffle == nil || r.Map == nil {
			return errors.New(r.Type + " record without app, shuffle and map")
		}
	case typeTarget:
		if r.To <= 0 {
			return errors.New("target record without a number")
		}
	case typeBegin, typeInterrupted, typeDone:
	default:
		return fmt.Errorf("unknown record type %q", r.Type)
	}
	return nil
}
