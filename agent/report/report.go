// Package report is what remains of a rescue: what was found, saved and lost, where it went, how long
// each phase took, and what the losses will cost. The agent writes one at the end of each rescue;
// `lifeboat report` and its exit code read it.
package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// Outcome says in one word how a rescue, or one application's part of it, ended.
type Outcome string

// The outcomes.
const (
	All     Outcome = "all"             // every map output that was found is saved
	Stored  Outcome = "stored"          // none is lost; some only wait in object storage
	Some    Outcome = "some"            // some are saved, some are lost
	None    Outcome = "none"            // all are lost
	Nothing Outcome = "nothing-to-save" // no map output was found
)

// ExitCode is what commands return: 0 all saved or nothing to save, 3 some lost or only stored, 4 nothing saved.
func (o Outcome) ExitCode() int {
	switch o {
	case All, Nothing:
		return 0
	case Some, Stored:
		return 3
	case None:
		return 4
	}
	return 1
}

const (
	// maxExamples caps the outputs that one loss names.
	maxExamples = 100
	// maxReasons caps the losses of one application; reasons may hold the text of errors.
	maxReasons   = 50
	otherReasons = "other reasons"
)

// Amount counts map outputs.
type Amount struct {
	Outputs int   `json:"outputs"`
	Bytes   int64 `json:"bytes"` // index and data together
}

// Add counts one more output of so many bytes.
func (a *Amount) Add(bytes int64) {
	a.Outputs++
	a.Bytes += bytes
}

func (a *Amount) plus(b Amount) {
	a.Outputs += b.Outputs
	a.Bytes += b.Bytes
}

// Report is one rescue. In a dry run, saved and lost are what would have been.
type Report struct {
	ID      string           `json:"id"`
	Node    string           `json:"node"`
	Version string           `json:"version"` // of the agent
	Notice  providers.Notice `json:"notice"`
	// Merged are further notices that this rescue served too.
	Merged   []providers.Notice `json:"merged,omitempty"`
	DryRun   bool               `json:"dryRun,omitempty"`
	Began    time.Time          `json:"began"`
	Ended    time.Time          `json:"ended"`
	Deadline time.Time          `json:"deadline"` // when the node is taken
	// SecondsLeft is the time from the end of the rescue to the deadline; negative when it was missed.
	SecondsLeft float64 `json:"secondsLeft"`
	Outcome     Outcome `json:"outcome"`
	// Interrupted: the agent was stopped before the rescue was over; it can go on.
	Interrupted bool `json:"interrupted,omitempty"`
	// Withdrawn: the notice was taken back before anybody was told, and nothing was done.
	Withdrawn    bool          `json:"withdrawn,omitempty"`
	Runs         int           `json:"runs,omitempty"` // how many runs of the agent worked on it, when more than one
	Phases       []Phase       `json:"phases"`
	Applications []Application `json:"applications"`
	// Acknowledged are the notices whose clouds were told that this node may go, and how that went.
	Acknowledged []Acknowledgement `json:"acknowledged,omitempty"`
	// Skipped are files that look like map outputs and are none that could be sent.
	Skipped []Skipped `json:"skipped,omitempty"`
	// Unsaid is what the API server of Kubernetes had not taken at the end of the rescue: it is tried again for a while, and
	// what is given up is a problem then.
	Unsaid []string `json:"unsaid,omitempty"`
	// Problems are what went wrong beside the outputs, each once, in words.
	Problems []string `json:"problems,omitempty"`
}

// Acknowledgement is what a cloud was told after a rescue that saved everything.
type Acknowledgement struct {
	Notice string    `json:"notice"`
	Source string    `json:"source"`
	At     time.Time `json:"at"`
	Error  string    `json:"error,omitempty"` // why it was not taken; the node then goes at its deadline
}

// Phase is how long one part of the rescue took. Of several applications that went side by side, the slowest counts.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Application is one application's part.
type Application struct {
	ID      string  `json:"id"`
	Name    string  `json:"name,omitempty"`
	Driver  string  `json:"driver"` // its RPC address
	Spark   string  `json:"spark"`  // version; "" unknown
	Outcome Outcome `json:"outcome"`
	Error   string  `json:"error,omitempty"` // why its rescue could not go on
	// Notes are what a person should know, as that peers on this host do not protect a running stage.
	Notes     []string   `json:"notes,omitempty"`
	Phases    []Phase    `json:"phases,omitempty"`
	Executors []Executor `json:"executors"`
	Found     Amount     `json:"found"`
	Saved     Amount     `json:"saved"`
	// Stored are neither saved nor lost: they lie in object storage where the application does not look for them,
	// and count once they were given to an executor.
	Stored       Amount        `json:"stored"`
	Lost         Amount        `json:"lost"`
	Losses       []Loss        `json:"losses,omitempty"`
	Destinations []Destination `json:"destinations,omitempty"`
	Retries      int           `json:"retries"` // copies that were begun again
	Recompute    Recompute     `json:"recompute"`
}

// Executor is one executor that leaves.
type Executor struct {
	ID      string `json:"id"`
	Host    string `json:"host"`
	Trigger string `json:"trigger,omitempty"` // how its driver was told: rpc, sigpwr or hook
	Told    bool   `json:"told"`
	Ended   bool   `json:"ended"`
	EndedBy string `json:"endedBy,omitempty"` // pod deleted, SIGTERM, SIGKILL, by itself
	// EndedAfterSeconds is the time from the notice to its end.
	EndedAfterSeconds float64 `json:"endedAfterSeconds,omitempty"`
	// RDDBlocksLost are cached blocks that nobody moved; -1 when the driver did not say.
	RDDBlocksLost int `json:"rddBlocksLost"`
}

// Loss groups lost outputs by reason.
type Loss struct {
	Reason string `json:"reason"`
	Amount
	Examples []string `json:"examples"` // at most 100, as migrate.OutputID.String writes them
}

// Destination is how much went to one place.
type Destination struct {
	Target string `json:"target"` // as migrate.Target.String writes it
	Amount
	Waiting bool `json:"waiting,omitempty"` // these are the stored ones
}

// Recompute is task time in seconds, from the durations of the map tasks in the driver's list.
type Recompute struct {
	Known    bool    `json:"known"` // false: the driver's task list was not to be had
	Avoided  float64 `json:"avoidedTaskSeconds"`
	Incurred float64 `json:"incurredTaskSeconds"`
}

// Skipped is a file that was left out.
type Skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// AddSaved counts an output that is found and saved.
func (a *Application) AddSaved(target string, bytes int64) {
	a.Saved.Add(bytes)
	a.addTo(target, false, bytes)
}

// AddStored counts an output that is found and only stored.
func (a *Application) AddStored(target string, bytes int64) {
	a.Stored.Add(bytes)
	a.addTo(target, true, bytes)
}

func (a *Application) addTo(target string, waiting bool, bytes int64) {
	a.Found.Add(bytes)
	i := slices.IndexFunc(a.Destinations, func(d Destination) bool { return d.Target == target && d.Waiting == waiting })
	if i < 0 {
		i = len(a.Destinations)
		a.Destinations = append(a.Destinations, Destination{Target: target, Waiting: waiting})
	}
	a.Destinations[i].Add(bytes)
}

// AddLost counts an output that is found and lost. A reason is one of migrate's words, or begins with
// one and a colon.
func (a *Application) AddLost(output, reason string, bytes int64) {
	a.Found.Add(bytes)
	a.Lost.Add(bytes)
	find := func(reason string) int {
		return slices.IndexFunc(a.Losses, func(l Loss) bool { return l.Reason == reason })
	}
	i := find(reason)
	if i < 0 && len(a.Losses) >= maxReasons {
		reason = otherReasons
		i = find(reason)
	}
	if i < 0 {
		i = len(a.Losses)
		a.Losses = append(a.Losses, Loss{Reason: reason, Examples: []string{}})
	}
	a.Losses[i].Add(bytes)
	if len(a.Losses[i].Examples) < maxExamples {
		a.Losses[i].Examples = append(a.Losses[i].Examples, output)
	}
}

// Settle fills in what follows from the rest: outcomes, seconds left, and an order that does not
// change from run to run. Call it once, when all outputs are counted and Ended is set.
func (r *Report) Settle() {
	var sum Application
	r.Phases = orEmpty(r.Phases)
	r.Applications = orEmpty(r.Applications)
	for i := range r.Applications {
		a := &r.Applications[i]
		a.Executors = orEmpty(a.Executors)
		a.Outcome = outcome(a.Found, a.Saved, a.Stored, a.Lost)
		sum.Found.plus(a.Found)
		sum.Saved.plus(a.Saved)
		sum.Stored.plus(a.Stored)
		sum.Lost.plus(a.Lost)
		slices.SortFunc(a.Executors, func(x, y Executor) int { return natural(x.ID, y.ID) })
		slices.SortFunc(a.Losses, func(x, y Loss) int {
			return cmp.Or(cmp.Compare(y.Outputs, x.Outputs), cmp.Compare(x.Reason, y.Reason))
		})
		slices.SortFunc(a.Destinations, func(x, y Destination) int { return natural(x.Target, y.Target) })
	}
	slices.SortFunc(r.Applications, func(x, y Application) int { return cmp.Compare(x.ID, y.ID) })
	slices.SortFunc(r.Skipped, func(x, y Skipped) int { return cmp.Compare(x.Path, y.Path) })
	r.Outcome = outcome(sum.Found, sum.Saved, sum.Stored, sum.Lost)
	if !r.Deadline.IsZero() {
		r.SecondsLeft = r.Deadline.Sub(r.Ended).Seconds()
	}
}

// orEmpty makes an absent list [] in JSON, not null: readers may loop over it without a look.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// outcome: what was found and is neither saved, stored nor lost counts as not saved.
func outcome(found, saved, stored, lost Amount) Outcome {
	switch {
	case found.Outputs == 0:
		return Nothing
	case stored.Outputs > 0 && lost.Outputs == 0 && saved.Outputs+stored.Outputs >= found.Outputs:
		return Stored
	case saved.Outputs+stored.Outputs == 0:
		return None
	case lost.Outputs == 0 && saved.Outputs >= found.Outputs:
		return All
	}
	return Some
}

// natural puts 2 before 10 and 10 before "driver".
func natural(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// TotalStored sums what the applications only stored.
func (r *Report) TotalStored() (stored Amount) {
	for _, a := range r.Applications {
		stored.plus(a.Stored)
	}
	return stored
}

// ExitCode is what a command that made or shows this report returns.
func (r *Report) ExitCode() int { return r.Outcome.ExitCode() }

// Total sums the applications.
func (r *Report) Total() (found, saved, lost Amount) {
	for _, a := range r.Applications {
		found.plus(a.Found)
		saved.plus(a.Saved)
		lost.plus(a.Lost)
	}
	return found, saved, lost
}
