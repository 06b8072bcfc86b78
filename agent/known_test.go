package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
)

func standalone(app string, dirs ...string) executor.Executor {
	return executor.Executor{
		App: app, ID: "1", DriverURL: "spark://CoarseGrainedScheduler@d:7078", Spark: "3.5.9", Scala: "2.12",
		LocalDirs: dirs, Manager: executor.Standalone,
	}
}

// rememberer is a known whose clock stands still until it is moved.
func rememberer(t *testing.T, state string, now *time.Time) *known {
	t.Helper()
	k, err := openKnown(state)
	must(t, err)
	k.now = func() time.Time { return *now }
	return k
}

func (k *known) ids() []string {
	var ids []string
	for _, a := range k.list() {
		ids = append(ids, a.App)
	}
	return ids
}

func TestKnownSurvivesARestart(t *testing.T) {
	state, now := t.TempDir(), time.Now()
	k := rememberer(t, state, &now)
	yarn := standalone("app-2", "/b")
	yarn.Manager = executor.YARN
	must(t, k.saw([]executor.Executor{standalone("app-1", "/a"), yarn}))
	again := rememberer(t, state, &now).list()
	want := knownApp{App: "app-1", DriverURL: "spark://CoarseGrainedScheduler@d:7078", Spark: "3.5.9", Scala: "2.12", LocalDirs: []string{"/a"}}
	if len(again) != 1 || !again[0].Seen.Equal(now) {
		t.Fatalf("got %+v", again)
	}
	again[0].Seen = time.Time{}
	if !reflect.DeepEqual(again[0], want) {
		t.Errorf("got %+v, want %+v", again[0], want)
	}
}

func TestKnownIsForgottenAWeekAfterItsLastExecutor(t *testing.T) {
	state, now := t.TempDir(), time.Now()
	k := rememberer(t, state, &now)
	app := []executor.Executor{standalone("app-1", "/a")}
	for range 20 * 24 { // it runs for 20 days
		must(t, k.saw(app))
		now = now.Add(time.Hour)
	}
	// The agent is restarted when its last executor has just gone: it had been seen until now, not 20 days ago.
	k = rememberer(t, state, &now)
	must(t, k.saw(nil))
	if got := k.ids(); len(got) != 1 {
		t.Fatalf("forgotten while it ran: %v", got)
	}
	now = now.Add(knownFor + writeEvery)
	must(t, k.saw(nil))
	if got := k.ids(); len(got) != 0 {
		t.Errorf("still known: %v", got)
	}
	if got := rememberer(t, state, &now).ids(); len(got) != 0 {
		t.Errorf("still in the file: %v", got)
	}
}

func TestKnownKeepsAllLocalDirsAndTheVersion(t *testing.T) {
	state, now := t.TempDir(), time.Now()
	k := rememberer(t, state, &now)
	fresh := standalone("app-1", "/b")
	fresh.Spark, fresh.Scala = "", ""
	both := []executor.Executor{standalone("app-1", "/a"), fresh}
	must(t, k.saw(both))
	info, err := os.Stat(filepath.Join(state, "applications.json"))
	must(t, err)
	must(t, k.saw(both))
	after, err := os.Stat(filepath.Join(state, "applications.json"))
	must(t, err)
	if !os.SameFile(info, after) {
		t.Error("written again although nothing is new")
	}
	got := rememberer(t, state, &now).list()
	if len(got) != 1 || !reflect.DeepEqual(got[0].LocalDirs, []string{"/a", "/b"}) || got[0].Spark != "3.5.9" {
		t.Errorf("got %+v", got)
	}
}

func TestKnownIsBounded(t *testing.T) {
	now := time.Now()
	k := rememberer(t, t.TempDir(), &now)
	for i := range maxKnown + 10 {
		k.apps[fmt.Sprint(i)] = knownApp{App: fmt.Sprint(i), Seen: now.Add(time.Duration(i) * time.Second)}
	}
	must(t, k.saw(nil))
	if got := k.ids(); len(got) != maxKnown || got[0] != "10" {
		t.Errorf("%d known, oldest %s", len(got), got[0])
	}
}

func TestDamagedKnownFileIsNoReasonToFail(t *testing.T) {
	for _, text := range []string{"", "null", "{", "[]", `{"app-1":null}`, `{"app-1":{"app":"app-2"}}`, `{"app-1":7,"app-2":{"app":"app-2"}}`} {
		t.Run(text, func(t *testing.T) {
			state := t.TempDir()
			must(t, os.WriteFile(filepath.Join(state, "applications.json"), []byte(text), 0o600))
			k, _ := openKnown(state)
			must(t, k.saw([]executor.Executor{standalone("app-9", "/a")}))
			if got := k.ids(); got[len(got)-1] != "app-9" {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestKnownFileThatCanNotBeWritten(t *testing.T) {
	state, now := t.TempDir(), time.Now()
	k := rememberer(t, state, &now)
	must(t, os.Mkdir(k.path+".tmp", 0o700))
	if err := k.saw([]executor.Executor{standalone("app-1", "/a")}); err == nil {
		t.Error("no error")
	}
	if got := k.ids(); len(got) != 1 {
		t.Errorf("not remembered in memory: %v", got)
	}
	must(t, os.Remove(k.path+".tmp"))
	must(t, k.saw(nil)) // tried again
	if got := rememberer(t, state, &now).ids(); len(got) != 1 {
		t.Errorf("not written when it could be: %v", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
