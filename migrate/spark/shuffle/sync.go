package shuffle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Sync has the kernel write what the file systems of a process's local directories hold to their disks (syncfs(2)), each
// file system once. Directories that the store does not have are left out. A disk may never answer: then Sync returns when ctx
// ends, with an error that says which one it was, and the kernel goes on by itself. Scans are not held up.
func (s *Store) Sync(ctx context.Context, pid int, dirs []string) error {
	type disk struct {
		fd  int
		dir string
	}
	var disks []disk
	var all []error
	s.scan.Lock()
	seen := map[uint64]bool{}
	for _, l := range s.locals {
		if l.pid != pid || seen[l.device] || !slices.Contains(dirs, l.dir) {
			continue
		}
		seen[l.device] = true
		fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			all = append(all, fmt.Errorf("sync of %s: %w", l.dir, err))
			continue
		}
		disks = append(disks, disk{fd, l.dir})
	}
	s.scan.Unlock()
	done := make([]chan error, len(disks))
	for i, d := range disks {
		done[i] = make(chan error, 1)
		go func() {
			defer unix.Close(d.fd)
			done[i] <- unix.Syncfs(d.fd)
		}()
	}
	for i, d := range disks {
		select {
		case err := <-done[i]:
			if err != nil {
				all = append(all, fmt.Errorf("sync of %s: %w", d.dir, err))
			}
		case <-ctx.Done():
			all = append(all, fmt.Errorf("sync of %s: not done in time: %w", d.dir, context.Cause(ctx)))
		}
	}
	return errors.Join(all...)
}
