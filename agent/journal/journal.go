package journal

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	// flushEvery is the longest time that a record stays in memory only.
	flushEvery = 20 * time.Millisecond
	// retryEvery is the pause after a write that failed.
	retryEvery = 500 * time.Millisecond
	// flushAt is how many bytes are written together at most.
	flushAt = 64 << 10
	// maxBehind caps what is kept in memory while the disk does not take it; what comes then is not written.
	maxBehind = 8 << 20
)

// ErrClosed is the error of records after Close.
var ErrClosed = errors.New("journal is closed")

// Journal writes the records of one rescue. All methods may be called by many goroutines at once.
//
// Records go to the kernel within 20 ms, so that a kill of the agent loses no more; those that say what is about
// to be done to others are there when their method returns. The disk is waited for only at the end: an executor
// does not outlive a power cut, and the disk of a node that shuffles may take its time. An error says that
// records are behind or missing; they are kept and tried again with the next, as a disk may be full for a moment.
type Journal struct {
	id   string
	now  func() time.Time
	lock *lock

	mu      sync.Mutex
	file    *os.File
	buf     []byte
	timer   *time.Timer // runs while buf is not empty
	targets map[migrate.Target]int
	closed  bool
	dropped int   // records that were not kept
	err     error // of the last write; nil when it went well
}

func newJournal(id string, f *os.File, l *lock, targets map[int]migrate.Target) *Journal {
	j := &Journal{id: id, now: time.Now, lock: l, file: f, targets: map[migrate.Target]int{}}
	for n, t := range targets {
		j.targets[t] = n
	}
	return j
}

// ID is the rescue's id.
func (j *Journal) ID() string { return j.id }

// Begin notes that a run of the agent takes the rescue up.
func (j *Journal) Begin(node, agentVersion string, deadline time.Time) error {
	r := record{Type: typeBegin, Node: node, Agent: agentVersion}
	if !deadline.IsZero() {
		r.Deadline = deadline.UnixMilli()
	}
	return j.write(r)
}

// Merged notes a further notice that this rescue serves too: it is acted on no more.
func (j *Journal) Merged(n providers.Notice) error {
	return j.write(record{Type: typeMerged, Notice: &n})
}

// Withdrawn notes that a notice of this rescue was taken back before anybody was told. The same notice is acted on
// when it comes again. When none is left, the rescue has ended without having done anything.
func (j *Journal) Withdrawn(n providers.Notice) error {
	return j.write(record{Type: typeWithdrawn, Notice: &n})
}

// TellIntent is out of the agent's hands before the driver is told of an executor's end, with the trigger that was
// chosen. When it fails, nobody may be told.
func (j *Journal) TellIntent(app, executor, trigger string) error {
	return j.write(record{Type: typeTellIntent, App: app, Executor: executor, Trigger: trigger})
}

// Told notes that the driver has answered.
func (j *Journal) Told(app, executor, trigger string, accepted bool) error {
	return j.write(record{Type: typeTold, App: app, Executor: executor, Trigger: trigger, Accepted: accepted})
}

// Saved notes an output whose data and index were acknowledged.
func (j *Journal) Saved(id migrate.OutputID, bytes int64, to migrate.Target) error {
	r := record{Type: typeSaved, Bytes: bytes}
	r.setOutput(id)
	return j.append(r, &to)
}

// Stored notes an output that lies whole in object storage, where Spark knows nothing of it: it counts once it was
// given to an executor.
func (j *Journal) Stored(id migrate.OutputID, bytes int64, to migrate.Target) error {
	r := record{Type: typeSaved, Bytes: bytes, Waiting: true}
	r.setOutput(id)
	return j.append(r, &to)
}

// Unsaved notes that the copy of an output has gone, as with the peer that held it.
func (j *Journal) Unsaved(id migrate.OutputID, why string) error {
	r := record{Type: typeUnsaved, Why: why}
	r.setOutput(id)
	return j.append(r, nil)
}

// Lost notes an output that was given up.
func (j *Journal) Lost(id migrate.OutputID, bytes int64, reason string) error {
	r := record{Type: typeLost, Bytes: bytes, Why: reason}
	r.setOutput(id)
	return j.append(r, nil)
}

// EndIntent is out of the agent's hands before an executor is signalled.
func (j *Journal) EndIntent(app, executor string) error {
	return j.write(record{Type: typeEndIntent, App: app, Executor: executor})
}

// Ended notes that an executor has left, and how.
func (j *Journal) Ended(app, executor, how string) error {
	return j.write(record{Type: typeEnded, App: app, Executor: executor, Why: how})
}

// Interrupted notes that the agent stops before the rescue is over.
func (j *Journal) Interrupted(why string) error {
	return j.sync(record{Type: typeInterrupted, Why: why})
}

// Done notes that the rescue is over. It is written after the report.
func (j *Journal) Done(result string, exit int) error {
	return j.sync(record{Type: typeDone, Result: result, Exit: exit})
}

func (j *Journal) notice(n providers.Notice, s Scope) error {
	return j.write(record{Type: typeNotice, Version: version, Notice: &n, App: s.App, DryRun: s.DryRun})
}

// append adds a record that is flushed soon. A target is named by a record of its own, once.
func (j *Journal) append(r record, to *migrate.Target) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	if to != nil {
		n, err := j.number(*to)
		if err != nil {
			return err
		}
		r.To = n
	}
	if err := j.add(r); err != nil {
		return err
	}
	if len(j.buf) >= flushAt && j.err == nil {
		return j.flushLocked()
	}
	return j.err
}

// write adds a record and returns when the kernel has all records so far.
func (j *Journal) write(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.writeLocked(r)
}

// sync adds a record and returns when all records so far are on the disk.
func (j *Journal) sync(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writeLocked(r); err != nil {
		return err
	}
	return j.syncLocked()
}

func (j *Journal) writeLocked(r record) error {
	if j.closed {
		return ErrClosed
	}
	if err := j.add(r); err != nil {
		return err
	}
	return j.flushLocked()
}

func (j *Journal) syncLocked() error {
	if err := j.flushLocked(); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (j *Journal) number(t migrate.Target) (int, error) {
	if n, ok := j.targets[t]; ok {
		return n, nil
	}
	n := 1
	for _, taken := range j.targets {
		n = max(n, taken+1)
	}
	err := j.add(record{Type: typeTarget, To: n, Executor: t.Executor, Host: t.Host, Port: t.Port, URL: t.URL})
	if err == nil {
		j.targets[t] = n
	}
	return n, err
}

// add puts a record into the buffer and makes sure that it is flushed in time.
func (j *Journal) add(r record) error {
	r.Time = j.now().UnixMilli()
	line, err := r.encode()
	if err != nil {
		return err
	}
	if len(line) > maxLine {
		return fmt.Errorf("journal: %s record of %d bytes is too long", r.Type, len(line))
	}
	if len(j.buf)+len(line) > maxBehind {
		j.dropped++
		return fmt.Errorf("journal: %d records not written: %w", j.dropped, j.err)
	}
	j.buf = append(j.buf, line...)
	j.flushIn(flushEvery)
	return nil
}

func (j *Journal) flushIn(d time.Duration) {
	if j.timer == nil {
		j.timer = time.AfterFunc(d, func() { _ = j.Flush() })
	}
}

// Flush hands everything so far to the kernel.
func (j *Journal) Flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	return j.flushLocked()
}

// flushLocked keeps what was not written, from the very byte where it stopped, for the next time.
func (j *Journal) flushLocked() error {
	if j.timer != nil {
		j.timer.Stop()
		j.timer = nil
	}
	if len(j.buf) == 0 {
		return nil
	}
	n, err := j.file.Write(j.buf)
	j.buf = j.buf[:copy(j.buf, j.buf[n:])]
	j.err = nil
	if err != nil {
		j.err = fmt.Errorf("journal: %w", err)
		j.flushIn(retryEvery)
	}
	return j.err
}

// Close writes everything to the disk and lets the next rescue begin. It may be called again.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	err := j.syncLocked()
	if j.dropped > 0 {
		err = errors.Join(err, fmt.Errorf("journal: %d records were not written", j.dropped))
	}
	j.closed = true
	if j.timer != nil {
		j.timer.Stop()
	}
	return errors.Join(err, j.file.Close(), j.lock.release())
}
