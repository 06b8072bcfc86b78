// Package drill is the way from `lifeboat drill` to the agent that runs on the same node: a folder below the state folder, into
// which only the agent's own user and root can write. A drill is a file there, and goes through everything that a notice does.
package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

// Source is the name of the source of drills: the first part of their notices' ids.
const Source = "drill"

const (
	folderName = "drills"
	// lockName is held by every agent that takes drills. Names with a dot in front are no notices.
	lockName = ".agent"
	// stale files are what is left of commands that were killed.
	stale = 48 * time.Hour
)

// ErrNoAgent says that nobody would take a drill.
var ErrNoAgent = errors.New("no agent runs on this state folder")

// Request is one drill.
type Request struct {
	Kind      providers.Kind
	Deadline  time.Time
	App       string
	Executors []string
	DryRun    bool
}

// Folder makes the folder of drills if it is missing, and says where it is.
func Folder(state string) (string, error) {
	dir := filepath.Join(state, folderName)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("folder of drills: %w", err)
	}
	return dir, nil
}

// Attendance shows that an agent takes drills.
type Attendance struct{ file *os.File }

// Attend begins it. Two agents may attend for a while, when one is being replaced.
func Attend(state string) (*Attendance, error) {
	dir, err := Folder(state)
	if err != nil {
		return nil, err
	}
	f, err := openLock(dir)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH)
	}
	if err != nil {
		return nil, fmt.Errorf("folder of drills: %w", err)
	}
	return &Attendance{file: f}, nil
}

// Close ends it; so does the end of the process. A nil Attendance is none.
func (a *Attendance) Close() error {
	if a == nil {
		return nil
	}
	return a.file.Close()
}

func openLock(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
}

// Attended is ErrNoAgent when no agent would take a drill.
func Attended(state string) error {
	dir := filepath.Join(state, folderName)
	f, err := openLock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (%s)", ErrNoAgent, state)
	}
	if err != nil {
		return fmt.Errorf("folder of drills: %w", err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil
	case err != nil:
		return fmt.Errorf("folder of drills: %w", err)
	}
	return fmt.Errorf("%w (%s)", ErrNoAgent, state)
}

// content is the file, as package providers/file reads it.
type content struct {
	ID        string         `json:"id"`
	Kind      providers.Kind `json:"kind"`
	Deadline  time.Time      `json:"deadline"`
	App       string         `json:"app,omitempty"`
	Executors []string       `json:"executors,omitempty"`
	Drill     bool           `json:"drill"`
	DryRun    bool           `json:"dryRun,omitempty"`
}

// Drill is one that was given.
type Drill struct {
	ID   string // of its notice
	path string
}

// Give hands a drill to the agent that runs. The error is ErrNoAgent when there is none.
func Give(state string, r Request) (*Drill, error) {
	if err := Attended(state); err != nil {
		return nil, err
	}
	dir := filepath.Join(state, folderName)
	clean(dir)
	id := journal.NewID(time.Now())
	data, err := json.Marshal(content{
		ID: id, Kind: r.Kind, Deadline: r.Deadline, App: r.App, Executors: r.Executors, Drill: true, DryRun: r.DryRun,
	})
	if err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	path := filepath.Join(dir, id)
	hidden := filepath.Join(dir, "."+id)
	if err := os.WriteFile(hidden, append(data, '\n'), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("drill: %w", err), remove(hidden))
	}
	if err := os.Rename(hidden, path); err != nil {
		return nil, errors.Join(fmt.Errorf("drill: %w", err), remove(hidden))
	}
	return &Drill{ID: Source + "-" + id, path: path}, nil
}

// End takes the drill away: it is withdrawn, or over.
func (d *Drill) End() error { return remove(d.path) }

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drill: %w", err)
	}
	return nil
}

// clean removes what commands have left that were killed long ago.
func clean(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.Name() != lockName && time.Since(info.ModTime()) > stale {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
