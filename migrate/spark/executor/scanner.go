package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// The version of an executor is looked for so often, and for so long since it was first seen: a JVM that has just started
// has not opened its jars yet, and one with a shaded jar never tells.
const (
	versionTries = 10
	versionTime  = time.Minute
)

// Scanner is a Finder with a memory, for an agent that looks every few seconds: a process that was
// seen before costs one read of its stat. It may be used by many goroutines.
type Scanner struct {
	finder    Finder
	addresses addressSet

	mu    sync.Mutex
	known map[int]*seen // by process id
	stat  []byte        // reused for every stat
}

// seen is what is remembered of a process.
type seen struct {
	start     uint64
	comm      string
	parent    int
	executor  *Executor
	worker    *Worker
	classPath string
	first     time.Time // that it was seen
	tries     int       // looks for the version so far
}

// NewScanner makes a Scanner with an empty memory.
func NewScanner(f Finder) *Scanner {
	return &Scanner{finder: f, addresses: newAddressSet(f.Addresses), known: make(map[int]*seen), stat: make([]byte, 0, 4096)}
}

// Scan looks at all processes. Found is valid also when there is an error: one process that can't be
// read (AccessError) does not hide the others, and it is tried again the next time. Processes that
// end in the middle are left out.
func (s *Scanner) Scan(ctx context.Context) (Found, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fs, err := procfs.NewFS(s.finder.proc())
	if err != nil {
		return Found{}, err
	}
	all, err := fs.AllProcs()
	if err != nil {
		return Found{}, err
	}
	slices.SortFunc(all, func(a, b procfs.Proc) int { return a.PID - b.PID })
	known := make(map[int]*seen, len(all))
	var errs []error
	for _, p := range all {
		if ctx.Err() != nil {
			return Found{}, ctx.Err()
		}
		entry, err := s.look(fs, p.PID)
		switch {
		case gone(err):
		case err != nil:
			errs = append(errs, err)
		case entry != nil:
			known[p.PID] = entry
		}
	}
	dropForks(known)
	s.known = known
	return s.list(all), errors.Join(errs...)
}

// look recognises one process, from memory if possible. Nil: nothing to remember.
func (s *Scanner) look(fs procfs.FS, pid int) (*seen, error) {
	st, err := readStat(s.finder.proc(), pid, s.stat)
	if err != nil {
		return nil, err
	}
	if st.flags&kernelThread != 0 {
		return nil, nil
	}
	// The name is part of the key: a shell that becomes a JVM by exec keeps its id and start time.
	entry := s.known[pid]
	if entry == nil || entry.start != st.start || entry.comm != st.comm {
		if entry, err = s.inspect(pid, st); entry == nil || err != nil {
			return nil, err
		}
	}
	entry.parent = st.parent
	if entry.executor == nil && entry.worker == nil {
		return entry, nil
	}
	return entry, s.refresh(fs, pid, entry)
}

// inspect reads the command line of a process that is new.
func (s *Scanner) inspect(pid int, st procStat) (*seen, error) {
	b, err := readCapped(procPath(s.finder.proc(), pid, "cmdline"), nil, maxCommandLine)
	if err != nil && !gone(err) && st.comm != "java" {
		return nil, nil // whatever it is, it is not ours to complain about
	}
	if err != nil {
		return nil, accessError(pid, "read its command line", "CAP_SYS_PTRACE", err)
	}
	entry := &seen{start: st.start, comm: st.comm, first: time.Now()}
	command, ok := parseSpark(st.comm, splitNul(b))
	if ok {
		return entry, s.describe(pid, command, entry)
	}
	// A java process is looked at again: one that was just forked by another JVM bears its
	// parent's command line until it becomes what it was started for, under the same name.
	if st.comm == "java" {
		return nil, nil
	}
	return entry, nil
}

// describe fills in what the process's environment tells.
func (s *Scanner) describe(pid int, c jvmCommand, entry *seen) error {
	env, err := readEnviron(s.finder.proc(), pid)
	if err != nil {
		return accessError(pid, "read its environment", "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", err)
	}
	entry.classPath = c.classPath
	if c.main == workerMain {
		dirs := s.absolute(pid, workerDirs(env, c.properties))
		entry.worker = &Worker{PID: pid, Start: entry.start, Host: parseWorkerHost(c, env), LocalDirs: dirs}
	} else {
		e, err := parseExecutor(c)
		if err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		e.PID, e.Start, e.Manager = pid, entry.start, manager(c.main, env)
		e.LocalDirs = s.absolute(pid, localDirs(e.Manager, env, c.properties))
		entry.executor = &e
	}
	// What was read in pieces must have come from one process.
	if start, err := StartTime(s.finder.proc(), pid); err != nil || start != entry.start {
		return ErrGone
	}
	return nil
}

// refresh looks at what changes in the life of a JVM: the signal handler and the jars come late.
func (s *Scanner) refresh(fs procfs.FS, pid int, entry *seen) error {
	pwr, err := handles(s.finder.proc(), pid, unix.SIGPWR)
	if err != nil {
		return accessError(pid, "read its signal mask", "CAP_SYS_PTRACE", err)
	}
	if entry.worker != nil {
		entry.worker.HandlesPWR = pwr
		return nil
	}
	e := entry.executor
	e.HandlesPWR = pwr
	if e.Spark == "" && (entry.tries < versionTries || time.Since(entry.first) < versionTime) {
		entry.tries++
		e.Spark, e.Scala = versions(fs, s.finder.proc(), pid, entry.classPath)
	}
	return nil
}

// absolute resolves relative local directories as the JVM does, against its working directory.
func (s *Scanner) absolute(pid int, dirs []string) []string {
	for i, dir := range dirs {
		if filepath.IsAbs(dir) {
			continue
		}
		if cwd, err := os.Readlink(procPath(s.finder.proc(), pid, "cwd")); err == nil {
			dirs[i] = filepath.Join(cwd, dir)
		}
	}
	return dirs
}

// dropForks forgets children that look like their parent: a JVM's child has its command line until exec.
func dropForks(known map[int]*seen) {
	for pid, entry := range known {
		parent := known[entry.parent]
		if parent == nil {
			continue
		}
		if sameExecutor(entry.executor, parent.executor) || (entry.worker != nil && parent.worker != nil) {
			delete(known, pid)
		}
	}
}

func sameExecutor(a, b *Executor) bool {
	return a != nil && b != nil && a.App == b.App && a.ID == b.ID
}

func (s *Scanner) list(all procfs.Procs) Found {
	var found Found
	for _, p := range all {
		entry := s.known[p.PID]
		switch {
		case entry == nil:
		case entry.executor != nil && s.addresses.has(entry.executor.Host):
			e := *entry.executor
			e.LocalDirs = slices.Clone(e.LocalDirs)
			found.Executors = append(found.Executors, e)
		case entry.worker != nil && s.addresses.has(entry.worker.Host):
			w := *entry.worker
			w.LocalDirs = slices.Clone(w.LocalDirs)
			found.Workers = append(found.Workers, w)
		}
	}
	return found
}

// accessError says what would help, when the kernel said no.
func accessError(pid int, what, need string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return &AccessError{PID: pid, What: what, Need: need, Err: err}
	}
	if gone(err) {
		return ErrGone
	}
	return fmt.Errorf("process %d: %s: %w", pid, what, err)
}
