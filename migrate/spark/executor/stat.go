package executor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	maxCommandLine = 1 << 20
	maxEnviron     = 4 << 20 // the kernel allows a quarter of the stack limit, 2 MiB by default
	maxStatus      = 64 << 10

	kernelThread = 0x00200000 // PF_KTHREAD in the flags of /proc/PID/stat
)

var errTooLong = errors.New("longer than the cap")

// procStat is the part of /proc/PID/stat that tells processes apart.
type procStat struct {
	comm   string
	state  byte
	parent int
	flags  uint64
	start  uint64
}

func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

// parseStat reads one line of /proc/PID/stat (proc_pid_stat(5)). The library's parser
// (procfs.Proc.Stat) scans all 52 fields with reflection; this runs for every process at every scan.
func parseStat(b []byte) (procStat, error) {
	// The name may hold spaces and parentheses itself, so its end is the last one.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return procStat{}, errors.New("no process name in stat")
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return procStat{}, fmt.Errorf("%d fields after the name in stat, want at least 20", len(fields))
	}
	st := procStat{comm: string(b[open+1 : end]), state: fields[0][0]}
	var err error
	if st.parent, err = strconv.Atoi(string(fields[1])); err != nil {
		return procStat{}, fmt.Errorf("parent in stat: %w", err)
	}
	if st.flags, err = strconv.ParseUint(string(fields[6]), 10, 64); err != nil {
		return procStat{}, fmt.Errorf("flags in stat: %w", err)
	}
	if st.start, err = strconv.ParseUint(string(fields[19]), 10, 64); err != nil {
		return procStat{}, fmt.Errorf("start time in stat: %w", err)
	}
	return st, nil
}

// parseHandles tells from /proc/PID/status whether a signal has a handler (the SigCgt mask).
func parseHandles(status []byte, sig unix.Signal) (bool, error) {
	for line := range bytes.Lines(status) {
		mask, ok := bytes.CutPrefix(line, []byte("SigCgt:"))
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64)
		if err != nil {
			return false, fmt.Errorf("SigCgt in status: %w", err)
		}
		return bits&(1<<(uint(sig)-1)) != 0, nil
	}
	return false, errors.New("no SigCgt in status")
}

// StartTime is the start of a process in clock ticks since boot: together with its id it is the
// identity of the process. ErrGone when there is no such process, or only what is left of a dead one.
func StartTime(proc string, pid int) (uint64, error) {
	st, err := readStat(proc, pid, nil)
	if err != nil {
		return 0, err
	}
	return st.start, nil
}

func readStat(proc string, pid int, buf []byte) (procStat, error) {
	b, err := readCapped(procPath(proc, pid, "stat"), buf, 4096)
	if gone(err) {
		return procStat{}, ErrGone
	}
	if err != nil {
		return procStat{}, err
	}
	st, err := parseStat(b)
	if err == nil && st.dead() {
		err = ErrGone
	}
	return st, err
}

func handles(proc string, pid int, sig unix.Signal) (bool, error) {
	b, err := readCapped(procPath(proc, pid, "status"), nil, maxStatus)
	if err != nil {
		return false, err
	}
	return parseHandles(b, sig)
}

func procPath(proc string, pid int, name string) string {
	return filepath.Join(proc, strconv.Itoa(pid), name)
}

// readCapped reads a file of proc to its end, into buf when that is large enough: sizes are not known
// before. Plain system calls: os.File would register each descriptor with the poller.
func readCapped(path string, buf []byte, limit int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if cap(buf) < 4096 {
		buf = make([]byte, 0, 4096)
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = grow(buf)
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n <= 0:
			return buf, nil
		}
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			clear(buf)
			return nil, &os.PathError{Op: "read", Path: path, Err: errTooLong}
		}
	}
}

// grow doubles a buffer and wipes the old one: it may have held an environment.
func grow(buf []byte) []byte {
	bigger := make([]byte, len(buf), 2*cap(buf))
	copy(bigger, buf)
	clear(buf)
	return bigger
}
