package executor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/prometheus/procfs"
)

const listening = 0x0A // TCP_LISTEN in /proc/net/tcp

// ListeningPorts lists the TCP ports on which a process accepts connections, lowest first. An
// executor's block manager is among them (in client mode nothing else of an executor listens).
// ErrGone when the process has ended.
func (f Finder) ListeningPorts(pid int) ([]int, error) {
	sockets, err := f.sockets(pid)
	if err != nil || len(sockets) == 0 {
		return nil, err
	}
	// The process's own view: its network namespace is not the agent's.
	fs, err := procfs.NewFS(filepath.Join(f.proc(), strconv.Itoa(pid)))
	if err != nil {
		return nil, ErrGone
	}
	tcp, err := fs.NetTCP()
	if err != nil {
		return nil, accessError(pid, "read its sockets", "CAP_SYS_PTRACE", err)
	}
	tcp6, err := fs.NetTCP6()
	if err != nil && !errors.Is(err, os.ErrNotExist) { // absent when IPv6 is switched off
		return nil, accessError(pid, "read its sockets", "CAP_SYS_PTRACE", err)
	}
	var ports []int
	for _, line := range slices.Concat(tcp, tcp6) {
		if line.St == listening && sockets[line.Inode] && line.LocalPort <= 65535 {
			ports = append(ports, int(line.LocalPort))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

// sockets is the set of socket inodes among the descriptors of a process.
func (f Finder) sockets(pid int) (map[uint64]bool, error) {
	fs, err := procfs.NewFS(f.proc())
	if err != nil {
		return nil, err
	}
	p, err := fs.Proc(pid)
	if err != nil {
		return nil, accessError(pid, "look at it", "CAP_SYS_PTRACE", err)
	}
	targets, err := p.FileDescriptorTargets()
	if err != nil {
		return nil, accessError(pid, "list its descriptors", "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", err)
	}
	sockets, readable := make(map[uint64]bool), false
	for _, target := range targets {
		readable = readable || target != ""
		var inode uint64
		if n, _ := fmt.Sscanf(target, "socket:[%d]", &inode); n == 1 {
			sockets[inode] = true
		}
	}
	// The library leaves links that it can't read empty.
	if len(targets) > 0 && !readable {
		return nil, accessError(pid, "read its descriptors", "CAP_SYS_PTRACE", &os.PathError{Op: "readlink", Path: procPath(f.proc(), pid, "fd"), Err: os.ErrPermission})
	}
	return sockets, nil
}
