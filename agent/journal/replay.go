package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

// maxLine caps one record. The longest is a notice that names executors.
const maxLine = 1 << 20

// Executor names one executor; ids alone are not unique on a node with several applications.
type Executor struct{ App, ID string }

// Told is what is known about telling the driver of one executor's end.
type Told struct {
	Trigger  string    // the trigger that was chosen, once and for all
	Intended time.Time // when the intent was on disk
	// At is when the driver had answered. Zero: the agent ended between intent and answer, so the
	// driver may have been told or not, and only the same trigger may be tried again.
	At       time.Time
	Accepted bool // the driver's answer; false also when it knew already
}

// Scope is what a rescue is for, beside its notice.
type Scope struct {
	App    string // only the executors of this application; "" for all
	DryRun bool   // nothing is done, so there is nothing to go on with
}

// Ended is what is known about the end of one executor.
type Ended struct {
	Intended time.Time // when the intent was on disk
	At       time.Time // when it had left; zero: it may still live
	How      string
}

// Saved is an acknowledged copy.
type Saved struct {
	Bytes  int64
	Target migrate.Target
	At     time.Time
	// Waiting: it is only stored, where Spark does not look for it.
	Waiting bool
}

// Lost is an output that was given up.
type Lost struct {
	Bytes  int64
	Reason string
	At     time.Time
}

// Done is how a rescue ended.
type Done struct {
	Result string
	Exit   int
	At     time.Time
}

// Damage is a line in the middle of a journal that can't be read. What it said is not known: a lost
// saved record costs a second copy, a lost told record a second question, which Spark answers false.
type Damage struct {
	File string
	Line int // from 1
	Err  error
}

func (d *Damage) Error() string { return fmt.Sprintf("%s:%d: %v", d.File, d.Line, d.Err) }

func (d *Damage) Unwrap() error { return d.Err }

// Replay is what a journal says about a rescue.
type Replay struct {
	ID          string
	Notice      providers.Notice
	Scope       Scope
	Merged      []providers.Notice // further notices that the rescue took in
	Created     time.Time          // when the notice was written
	Begins      int                // how many runs of the agent have worked on it
	Deadline    time.Time          // of the last begin; zero when none was written
	Told        map[Executor]Told
	Saved       map[migrate.OutputID]Saved
	Lost        map[migrate.OutputID]Lost
	Ended       map[Executor]Ended
	Interrupted bool  // the last run said that it stops early
	Withdrawn   bool  // nothing was done, because every notice was taken back
	Done        *Done // nil: not finished
	// Damage lists the lines that could not be read. All others were.
	Damage []*Damage
	// Cut is how many bytes of a half-written last line were left out.
	Cut int

	gone    map[string]bool // ids of notices that were taken back
	targets map[int]migrate.Target
	end     int64 // where the next record goes: after the last whole line
}

// Finished is true when nothing is left to do for this rescue.
func (r *Replay) Finished() bool { return r.Done != nil || r.Withdrawn }

// Holding are the notices that the rescue is for and that were not taken back, in the order in which they came, each as it was
// written last.
func (r *Replay) Holding() []providers.Notice {
	var list []providers.Notice
	for _, n := range append([]providers.Notice{r.Notice}, r.Merged...) {
		if r.gone[n.ID] || n.ID == "" { // one that could not be read
			continue
		}
		if i := slices.IndexFunc(list, func(m providers.Notice) bool { return m.ID == n.ID }); i >= 0 {
			list[i] = n
		} else {
			list = append(list, n)
		}
	}
	return list
}

// errEmpty: the agent ended before the notice was on disk, so nothing was done.
var errEmpty = errors.New("empty journal: nothing was begun")

func newReplay() *Replay {
	return &Replay{
		Told: map[Executor]Told{}, Ended: map[Executor]Ended{},
		Saved: map[migrate.OutputID]Saved{}, Lost: map[migrate.OutputID]Lost{},
		gone: map[string]bool{}, targets: map[int]migrate.Target{},
	}
}

// replay reads a whole journal; file is used in errors only. Damaged lines are kept as Damage and
// reading goes on, because every line stands for itself; but without a notice there is no replay.
func replay(file string, in io.Reader) (*Replay, error) {
	r := newReplay()
	lines := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		line, size, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			r.Cut = size
			break
		}
		if err != nil && !errors.Is(err, errLongLine) {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		r.end += int64(size)
		if err == nil {
			err = r.line(n, line)
		}
		if err != nil && n == 1 {
			return nil, &Damage{File: file, Line: n, Err: err}
		}
		if err != nil {
			r.Damage = append(r.Damage, &Damage{File: file, Line: n, Err: err})
		}
	}
	if r.end == 0 {
		return nil, fmt.Errorf("%s: %w", file, errEmpty)
	}
	return r, nil
}

var errLongLine = fmt.Errorf("longer than %d bytes", maxLine)

// readLine returns one line without its end, and how many bytes it took. At the end of the file the
// size is that of a last line without an end, which does not count.
func readLine(in *bufio.Reader) (line []byte, size int, err error) {
	for {
		part, err := in.ReadSlice('\n')
		size += len(part)
		if size <= maxLine {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil && size > maxLine {
			err = errLongLine
		}
		return bytes.TrimSuffix(line, []byte("\n")), size, err
	}
}

func (r *Replay) line(n int, line []byte) error {
	rec, err := decode(line)
	if err != nil {
		return err
	}
	if (n == 1) != (rec.Type == typeNotice) {
		return fmt.Errorf("%s record out of place: the notice comes first, and only once", rec.Type)
	}
	return r.apply(rec)
}

// apply adds one record; what comes later counts.
func (r *Replay) apply(rec *record) error {
	switch rec.Type {
	case typeNotice:
		r.Notice, r.Created = *rec.Notice, rec.at()
		r.Scope = Scope{App: rec.App, DryRun: rec.DryRun}
	case typeMerged:
		r.Merged = append(r.Merged, *rec.Notice)
		delete(r.gone, rec.Notice.ID)
	case typeBegin:
		r.Begins++
		r.Interrupted = false
		r.Deadline = time.Time{}
		if rec.Deadline != 0 {
			r.Deadline = time.UnixMilli(rec.Deadline).UTC()
		}
	case typeTarget:
		r.targets[rec.To] = migrate.Target{Executor: rec.Executor, Host: rec.Host, Port: rec.Port, URL: rec.URL}
	case typeSaved, typeUnsaved, typeLost:
		return r.applyOutput(rec)
	case typeTellIntent, typeTold, typeEndIntent, typeEnded:
		r.applyExecutor(rec)
	case typeWithdrawn:
		r.gone[rec.Notice.ID] = true
		r.Withdrawn = len(r.Holding()) == 0
	case typeInterrupted:
		r.Interrupted = true
	case typeDone:
		r.Done = &Done{Result: rec.Result, Exit: rec.Exit, At: rec.at()}
	}
	return nil
}

func (r *Replay) applyOutput(rec *record) error {
	id := rec.output()
	switch rec.Type {
	case typeSaved:
		target, ok := r.targets[rec.To]
		if !ok {
			return fmt.Errorf("saved to target %d, which no line names", rec.To)
		}
		r.Saved[id] = Saved{Bytes: rec.Bytes, Target: target, At: rec.at(), Waiting: rec.Waiting}
		delete(r.Lost, id)
	case typeUnsaved:
		delete(r.Saved, id)
	case typeLost:
		r.Lost[id] = Lost{Bytes: rec.Bytes, Reason: rec.Why, At: rec.at()}
	}
	return nil
}

func (r *Replay) applyExecutor(rec *record) {
	who := rec.executor()
	told, ended := r.Told[who], r.Ended[who]
	switch rec.Type {
	case typeTellIntent:
		r.Told[who] = Told{Trigger: rec.Trigger, Intended: rec.at()}
	case typeTold:
		told.Trigger, told.At, told.Accepted = rec.Trigger, rec.at(), rec.Accepted
		r.Told[who] = told
	case typeEndIntent:
		r.Ended[who] = Ended{Intended: rec.at()}
	case typeEnded:
		ended.At, ended.How = rec.at(), rec.Why
		r.Ended[who] = ended
	}
}
