package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

const (
	// knownFor is how long an application is remembered after its last executor on this node was seen.
	knownFor = 7 * 24 * time.Hour
	// maxKnown is how many applications are remembered, and maxKnownDirs how many local dirs of each.
	maxKnown     = 1000
	maxKnownDirs = 64
	// writeEvery is how old the time in the file may get while nothing else changes.
	writeEvery = time.Hour
)

// knownApp is what a rescue needs of an application whose executors here have already gone, while their
// folders are still served by the external shuffle service.
type knownApp struct {
	App       string    `json:"app"`
	DriverURL string    `json:"driverUrl"`
	Spark     string    `json:"spark"`
	Scala     string    `json:"scala"`
	LocalDirs []string  `json:"localDirs"`
	Seen      time.Time `json:"seen"`
}

// known remembers the standalone applications seen on this node, across restarts of the agent.
type known struct {
	path string
	now  func() time.Time

	mu      sync.Mutex
	apps    map[string]knownApp
	written time.Time
}

// openKnown reads what an earlier run of the agent had seen. A damaged file is no reason to fail: it only
// holds what can be seen again.
func openKnown(state string) (*known, error) {
	k := &known{path: filepath.Join(state, "applications.json"), now: time.Now, apps: map[string]knownApp{}}
	data, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, err
	}
	apps := map[string]knownApp{}
	err = json.Unmarshal(data, &apps)
	for id, a := range apps {
		if a.App == id {
			k.apps[id] = a
		}
	}
	return k, err
}

// saw takes in what runs now, and writes the file when that says something new.
func (k *known) saw(list []executor.Executor) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed := false
	for _, e := range list {
		if e.Manager != executor.Standalone {
			continue
		}
		old, had := k.apps[e.App]
		now := knownApp{
			App: e.App, DriverURL: e.DriverURL, Spark: e.Spark, Scala: e.Scala,
			LocalDirs: union(old.LocalDirs, e.LocalDirs), Seen: k.now(),
		}
		if now.Spark == "" { // not known yet of an executor that has just started
			now.Spark, now.Scala = old.Spark, old.Scala
		}
		changed = changed || !had || !old.same(now)
		k.apps[e.App] = now
	}
	changed = k.forget() || changed
	if !changed && (len(k.apps) == 0 || k.now().Sub(k.written) < writeEvery) {
		return nil
	}
	return k.write()
}

// same compares all but the time.
func (a knownApp) same(b knownApp) bool {
	return a.DriverURL == b.DriverURL && a.Spark == b.Spark && a.Scala == b.Scala && slices.Equal(a.LocalDirs, b.LocalDirs)
}

// union adds what is new: the executors of one application have other local dirs under another worker.
func union(had, more []string) []string {
	all := slices.Clone(had)
	for _, dir := range more {
		if len(all) < maxKnownDirs && !slices.Contains(all, dir) {
			all = append(all, dir)
		}
	}
	return all
}

func (k *known) forget() bool {
	before := len(k.apps)
	for id, a := range k.apps {
		if k.now().Sub(a.Seen) > knownFor {
			delete(k.apps, id)
		}
	}
	for len(k.apps) > maxKnown {
		list := k.sorted()
		delete(k.apps, list[0].App)
	}
	return len(k.apps) != before
}

func (k *known) list() []knownApp {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sorted()
}

func (k *known) sorted() []knownApp {
	list := make([]knownApp, 0, len(k.apps))
	for _, a := range k.apps {
		list = append(list, a)
	}
	slices.SortFunc(list, func(x, y knownApp) int { return x.Seen.Compare(y.Seen) })
	return list
}

// write replaces the file as a whole, so that a crash leaves the old one or the new one.
func (k *known) write() error {
	data, err := json.Marshal(k.apps)
	if err != nil {
		return err
	}
	tmp := k.path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, k.path); err != nil {
		return err
	}
	k.written = k.now()
	return nil
}
