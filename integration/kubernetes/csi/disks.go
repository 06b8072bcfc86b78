package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Errors of disks.
var (
	errNoDisk    = errors.New("there is no such disk")
	errAttached  = errors.New("the disk is attached")
	errBadDiskID = errors.New("not the id of a disk")
)

// disks are folders that stand for disks: NAME/data is what a pod sees, NAME/attached the name of the node that has the
// disk, NAME/delay how long attaching and detaching take. On files, so that the controller may be restarted.
type disks struct {
	folder string
	locks  sync.Map // a mutex for each disk: attach and detach read, wait and write
}

func openDisks(folder string) (*disks, error) {
	if !filepath.IsAbs(folder) {
		return nil, fmt.Errorf("--disks must be an absolute path, not %q", folder)
	}
	return &disks{folder: folder}, os.MkdirAll(folder, 0o755)
}

// path is a file of a disk; an id comes from outside, and must be a plain name.
func (d *disks) path(id, file string) (string, error) {
	if id == "" || strings.HasPrefix(id, ".") || strings.ContainsRune(id, '/') {
		return "", fmt.Errorf("%w: %q", errBadDiskID, id)
	}
	return filepath.Join(d.folder, id, file), nil
}

// lock holds a disk until the function that it returns is called; others can be attached meanwhile.
func (d *disks) lock(id string) (unlock func()) {
	mu, _ := d.locks.LoadOrStore(id, &sync.Mutex{})
	mu.(*sync.Mutex).Lock()
	return mu.(*sync.Mutex).Unlock
}

// create makes a disk, or leaves the one that is there.
func (d *disks) create(id string, delay time.Duration) error {
	data, err := d.path(id, "data")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(data, 0o777); err != nil { // Spark is not root, and a folder gets no fsGroup
		return err
	}
	return os.WriteFile(filepath.Join(filepath.Dir(data), "delay"), []byte(delay.String()), 0o644)
}

// remove deletes a disk with all that is on it, but never one that a node has.
func (d *disks) remove(id string) error {
	defer d.lock(id)()
	node, err := d.attachedTo(id)
	switch {
	case errors.Is(err, errNoDisk):
		return nil
	case err != nil:
		return err
	case node != "":
		return fmt.Errorf("%w to %s", errAttached, node)
	}
	data, err := d.path(id, "data")
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(data))
}

// attachedTo is the node that has a disk, or "".
func (d *disks) attachedTo(id string) (string, error) {
	data, err := d.path(id, "data")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(data); err != nil {
		return "", fmt.Errorf("%w: %s", errNoDisk, id)
	}
	node, err := os.ReadFile(filepath.Join(filepath.Dir(data), "attached"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(node), err
}

// attach gives a disk to a node. As with a cloud's disks, a node that has died keeps it until somebody detaches it.
func (d *disks) attach(ctx context.Context, id, node string) error {
	defer d.lock(id)()
	has, err := d.attachedTo(id)
	if err != nil || has == node {
		return err
	}
	if has != "" {
		return fmt.Errorf("%w to %s", errAttached, has)
	}
	if err := d.wait(ctx, id); err != nil {
		return err
	}
	return d.write(id, node)
}

// detach takes a disk from a node; that another node has it, or none, is no error.
func (d *disks) detach(ctx context.Context, id, node string) error {
	defer d.lock(id)()
	has, err := d.attachedTo(id)
	if errors.Is(err, errNoDisk) || err == nil && (has == "" || node != "" && has != node) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.wait(ctx, id); err != nil {
		return err
	}
	attached, err := d.path(id, "attached")
	if err != nil {
		return err
	}
	return os.Remove(attached)
}

// write notes who has the disk, at once or not at all.
func (d *disks) write(id, node string) error {
	attached, err := d.path(id, "attached")
	if err != nil {
		return err
	}
	if err := os.WriteFile(attached+".new", []byte(node), 0o644); err != nil {
		return err
	}
	return os.Rename(attached+".new", attached)
}

// wait takes as long as the disk's class says.
func (d *disks) wait(ctx context.Context, id string) error {
	file, err := d.path(id, "delay")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	delay, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("delay of disk %s: %w", id, err)
	}
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
