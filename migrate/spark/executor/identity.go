package executor

import (
	"bytes"
	"fmt"
	"strconv"
)

// Identity is as whom a process touches files.
type Identity struct {
	UID, GID int   // those that the file system looks at
	Groups   []int // its supplementary groups
}

// maxGroups is the kernel's own limit (NGROUPS_MAX).
const maxGroups = 65536

// IdentityOf reads as whom a process touches files. start is its start time (Executor.Start): ErrGone when the id belongs
// to another process by now.
func (f Finder) IdentityOf(pid int, start uint64) (Identity, error) {
	b, err := readCapped(procPath(f.proc(), pid, "status"), nil, maxEnviron) // it lists all groups
	if err != nil {
		return Identity{}, accessError(pid, "read its status", "hostPID", err)
	}
	id, err := parseIdentity(b)
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if now, err := StartTime(f.proc(), pid); err != nil || now != start {
		return Identity{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return id, nil
}

// parseIdentity reads /proc/PID/status (proc_pid_status(5)): Uid and Gid each list the real, effective, saved and file
// system's.
func parseIdentity(status []byte) (Identity, error) {
	const files, kinds = 3, 4
	var id Identity
	seen := 0
	for line := range bytes.Lines(status) {
		key, rest, _ := bytes.Cut(line, []byte{':'})
		var into *int
		switch string(key) {
		case "Uid":
			into = &id.UID
		case "Gid":
			into = &id.GID
		case "Groups":
		default:
			continue
		}
		numbers, err := parseIDs(rest)
		if err != nil {
			return Identity{}, fmt.Errorf("%s in status: %w", key, err)
		}
		seen++
		switch {
		case into == nil:
			id.Groups = numbers
		case len(numbers) != kinds:
			return Identity{}, fmt.Errorf("%s in status: %d numbers, want %d", key, len(numbers), kinds)
		default:
			*into = numbers[files]
		}
	}
	if seen != 3 {
		return Identity{}, fmt.Errorf("status has %d of Uid, Gid and Groups", seen)
	}
	return id, nil
}

func parseIDs(text []byte) ([]int, error) {
	var ids []int
	for field := range bytes.FieldsSeq(text) {
		n, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return nil, err
		}
		if len(ids) == maxGroups {
			return nil, errTooLong
		}
		ids = append(ids, int(n))
	}
	return ids, nil
}
