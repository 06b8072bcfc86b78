package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// BookFile is the file in the agent's state folder that says which claims were marked.
	BookFile = "claims.json"
	// maxBooked claims are remembered, each for bookedFor: a machine that comes back later is a new one.
	maxBooked = 200
	bookedFor = 24 * time.Hour
)

// entry is what is known of one claim that this node has marked, or is about to.
type entry struct {
	ClaimMark
	Boot   string `json:"boot"`             // of the machine when it was marked
	Done   bool   `json:"done,omitempty"`   // the API server has taken the mark
	Hidden bool   `json:"hidden,omitempty"` // and the claim is hidden from Spark
}

// book remembers marks across restarts of the agent: those that the API server has not taken are written by the next run, and
// what was hidden is offered again when the machine comes back with its disks, of which the file itself is the proof.
type book struct {
	path string // "": in memory only
	boot string
	now  func() time.Time

	mu      sync.Mutex
	entries map[string]entry
}

// openBook reads what an earlier run has written. A damaged file is no reason to fail.
func openBook(state, boot string) (*book, error) {
	b := &book{boot: boot, now: time.Now, entries: map[string]entry{}}
	if state == "" {
		return b, nil
	}
	b.path = filepath.Join(state, BookFile)
	data, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	read := map[string]entry{}
	err = json.Unmarshal(data, &read)
	for key, e := range read {
		if e.Namespace+"/"+e.Claim == key {
			b.entries[key] = e
		}
	}
	return b, err
}

// bootID names this run of the machine (random(4)), as its first process sees it; "" when it can't be read.
func bootID(proc string) string {
	id, err := os.ReadFile(filepath.Join(proc, "1", "root", "proc", "sys", "kernel", "random", "boot_id"))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(id))
}

// put notes a claim, before anything is done to it and afterwards.
func (b *book) put(m ClaimMark, done, hidden bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[m.Namespace+"/"+m.Claim] = entry{ClaimMark: m, Boot: b.boot, Done: done, Hidden: hidden}
	b.forget()
	return b.write()
}

// drop forgets a claim.
func (b *book) drop(m ClaimMark) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, m.Namespace+"/"+m.Claim)
	return b.write()
}

// all are the entries, the oldest first.
func (b *book) all() []entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sorted()
}

func (b *book) sorted() []entry {
	return slices.SortedFunc(maps.Values(b.entries), func(x, y entry) int { return x.At.Compare(y.At) })
}

func (b *book) forget() {
	for key, e := range b.entries {
		if b.now().Sub(e.At) > bookedFor {
			delete(b.entries, key)
		}
	}
	for _, e := range b.sorted()[:max(len(b.entries)-maxBooked, 0)] {
		delete(b.entries, e.Namespace+"/"+e.Claim)
	}
}

// write replaces the file as a whole. mu is held.
func (b *book) write() error {
	if b.path == "" {
		return nil
	}
	data, err := json.Marshal(b.entries)
	if err != nil {
		return err
	}
	tmp := b.path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, b.path)
}
