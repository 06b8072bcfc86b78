// Package journal keeps on disk what a rescue has done, one line for each step, so that a restarted
// agent goes on where it was and acts on no notice twice. A rescue writes here before it tells the
// driver and before it ends an executor, and after each acknowledged copy.
//
// A journal is state/rescues/<id>/journal.jsonl: JSON lines, appended only.
package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

const (
	rescuesFolder = "rescues"
	journalFile   = "journal.jsonl"
	lockFile      = "lock"
)

var rescueID = regexp.MustCompile(`^\d{8}-\d{6}-[0-9a-f]{4}$`)

// NewID makes a rescue's id from the time of its beginning: 20261121-101502-7f3a. Ids sort by time
// (UTC, to the second).
func NewID(now time.Time) string {
	var tail [2]byte
	_, _ = rand.Read(tail[:]) // never fails: crypto/rand ends the program first
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(tail[:])
}

// ValidID tells a rescue's id from anything else; ids become names of folders.
func ValidID(id string) bool { return rescueID.MatchString(id) }

// Folder is where everything about one rescue lies.
func Folder(state, id string) string { return filepath.Join(state, rescuesFolder, id) }

// IDs lists the rescues of a state folder, oldest first. A folder that does not exist has none.
func IDs(state string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(state, rescuesFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && ValidID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Store is the state folder of one agent. Its methods may be called by many goroutines at once.
type Store struct {
	dir string
	log *zap.Logger

	mu      sync.Mutex
	digests map[string]*Replay // of finished rescues: they change no more
}

// Open makes the state folder if it is missing, and refuses one that others could have written
// to: what stands there decides what is signalled.
func Open(state string, log *zap.Logger) (*Store, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := own(state); err != nil {
		return nil, err
	}
	rescues := filepath.Join(state, rescuesFolder)
	if err := os.Mkdir(rescues, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := own(rescues); err != nil {
		return nil, err
	}
	return &Store{dir: state, log: log, digests: map[string]*Replay{}}, nil
}

// own checks that a folder is ours alone. One that is open to others is closed when it holds nothing
// but our own things (Kubernetes makes host folders 0755); any other folder is left as it is.
func own(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("state folder: %s is no folder (a symlink is not followed)", dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("state folder: %s belongs to user %d, the agent is user %d: give it the folder (chown)", dir, st.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	for _, e := range entries {
		if !isOurs(e.Name()) {
			return fmt.Errorf("state folder: %s is open to others (mode %04o) and holds things that are not Lifeboat's, as %q: set a folder of its own",
				dir, info.Mode().Perm(), e.Name())
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	return nil
}

// isOurs is true for the names that the agent itself makes in a state folder.
func isOurs(name string) bool {
	switch name {
	case rescuesFolder, lockFile, "applications.json", "applications.json.tmp", "claims.json", "claims.json.tmp", "drills", "salvage", "adoption":
		return true
	}
	return ValidID(name)
}

// Dir is the state folder.
func (s *Store) Dir() string { return s.dir }

// Writable tries to write to the state folder: full, read-only and vanished disks show here.
func (s *Store) Writable() error {
	f, err := os.CreateTemp(filepath.Join(s.dir, rescuesFolder), ".writable-*")
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Create begins the journal of a new rescue with its notice, which is in its file when Create returns; after
// an error nothing is. While another rescue runs on this state folder the error is a *BusyError. A dry run
// neither waits for another rescue nor makes one wait.
func (s *Store) Create(id string, n providers.Notice, scope Scope) (*Journal, error) {
	if !ValidID(id) {
		return nil, fmt.Errorf("journal: %q is no rescue id", id)
	}
	var l *lock
	if !scope.DryRun {
		var err error
		if l, err = s.lock(id); err != nil {
			return nil, err
		}
	}
	dir := Folder(s.dir, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), l.release())
	}
	j, err := s.create(id, n, scope, l)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir), l.release())
	}
	return j, nil
}

func (s *Store) create(id string, n providers.Notice, scope Scope, l *lock) (*Journal, error) {
	dir := Folder(s.dir, id)
	f, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := newJournal(id, f, l, nil)
	if err := j.notice(n, scope); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

// Open takes a rescue up again: what its journal says, and the journal to go on with. A half-written
// last line is cut off; damaged lines are in the replay and in the log.
func (s *Store) Open(id string) (*Journal, *Replay, error) {
	if !ValidID(id) {
		return nil, nil, fmt.Errorf("journal: %q is no rescue id", id)
	}
	l, err := s.lock(id)
	if err != nil {
		return nil, nil, err
	}
	j, r, err := s.open(id, l)
	if err != nil {
		return nil, nil, errors.Join(err, l.release())
	}
	return j, r, nil
}

func (s *Store) open(id string, l *lock) (*Journal, *Replay, error) {
	path := filepath.Join(Folder(s.dir, id), journalFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	r, err := replay(path, f)
	if err == nil && r.Cut > 0 {
		s.log.Warn("half-written last line of the journal is cut off", zap.String("file", path), zap.Int("bytes", r.Cut))
		err = f.Truncate(r.end)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("journal: %w", err), f.Close())
	}
	r.ID = id
	for _, d := range r.Damage {
		s.log.Error("damaged line in the journal: what it said is not known", zap.Error(d))
	}
	return newJournal(id, f, l, r.targets), r, nil
}

// Read is what a journal says; it changes nothing and needs no lock.
func (s *Store) Read(id string) (*Replay, error) {
	if !ValidID(id) {
		return nil, fmt.Errorf("journal: %q is no rescue id", id)
	}
	f, err := s.openRead(id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := replay(f.Name(), f)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	r.ID = id
	return r, nil
}

func (s *Store) openRead(id string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(Folder(s.dir, id), journalFile), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return f, nil
}

// Unfinished is the latest rescue that is not done, or nil; dry runs are left out. It may be one that another
// process runs at this moment: Open then says so. A journal that can't be read is passed over, with a warning.
func (s *Store) Unfinished() (*Replay, error) {
	ids, err := IDs(s.dir)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Backward(ids) {
		if s.endsDone(id) {
			continue
		}
		r, err := s.Read(id)
		if err != nil {
			s.passOver(id, err)
		} else if !r.Finished() && !r.Scope.DryRun {
			return r, nil
		}
	}
	return nil, nil
}

func (s *Store) passOver(id string, err error) {
	s.log.Warn("journal can't be read, the rescue is passed over", zap.String("rescue", id), zap.Error(err))
}

// endsDone is a quick look at the end of a journal: a done record is always its last.
func (s *Store) endsDone(id string) bool {
	f, err := s.openRead(id)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	tail := make([]byte, min(info.Size(), 4<<10))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return false
	}
	whole, isWhole := bytes.CutSuffix(tail, []byte("\n"))
	rec, err := decode(whole[bytes.LastIndexByte(whole, '\n')+1:])
	return isWhole && err == nil && rec.Type == typeDone
}

// Prune removes all rescues but the newest keep; never one that runs.
func (s *Store) Prune(keep int) error {
	ids, err := IDs(s.dir)
	if err != nil || len(ids) <= keep {
		return err
	}
	running := s.running()
	var all []error
	for _, id := range ids[:len(ids)-keep] {
		if id != running {
			all = append(all, os.RemoveAll(Folder(s.dir, id)))
			s.forget(id)
		}
	}
	return errors.Join(all...)
}

// SyncFolder makes the names in a folder survive a power cut.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
