//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// salvageJob leaves outputs with and without data on every executor.
var salvageJob = lab.Job{Maps: 24, Reduces: 4, KiBPerMap: 64, MsPerMap: 50, EmptyEvery: 5}

// mirrored is a cluster whose doomed node copies ahead into a folder that all nodes share.
type mirrored struct {
	*lab.Fleet
	folder   string // the object storage
	doomed   *lab.Agent
	survivor *lab.Agent // of the first other node
	atRisk   int        // outputs on the doomed node
}

// mirror runs one round of a job and waits until all that it left on the doomed node is copied. With fallback the application
// reads its fallback storage there. Daemon says that the survivor's agent runs.
func mirror(t *testing.T, version string, fallback, daemon bool) *mirrored {
	t.Helper()
	ctx := deadline(t, 4*time.Minute)
	c := cluster(t, version)
	m := &mirrored{folder: filepath.Join(c.Dir(), "objects")}
	must(t, os.Mkdir(m.folder, 0o777))
	conf := map[string]string{}
	if fallback {
		conf["spark.storage.decommission.fallbackStorage.path"] = "file://" + m.folder + "/"
	}
	var err error
	m.Fleet, err = c.Fleet(ctx, lab.FleetOptions{App: lab.AppOptions{Job: salvageJob, Conf: conf}})
	must(t, err)
	config := fmt.Sprintf("scan: 1s\nobjects: {path: \"file://%s\"}\n", m.folder)
	m.doomed, err = c.StartAgent(ctx, m.Doomed, lab.AgentOptions{
		Binary: binary(t), Config: config + "mirror: {mode: always, bandwidth: 1000}\n",
	})
	must(t, err)
	m.survivor, err = c.NewAgent(m.Peers[0], lab.AgentOptions{Binary: binary(t), Config: config})
	must(t, err)
	if daemon {
		must(t, m.survivor.Start(ctx))
	}
	round(t, m.App)
	m.atRisk = len(tasksOf(t, m.App, m.Doomed.Executors()))
	if m.atRisk == 0 {
		t.Fatal("no map task ran on the doomed node")
	}
	must(t, lab.Until(ctx, "all outputs of the doomed node are copied", func(context.Context) (bool, error) {
		return m.stored(t) == m.atRisk, nil
	}))
	return m
}

// stored counts the map outputs whose index lies in the object storage.
func (m *mirrored) stored(t *testing.T) int {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(m.folder, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".index") && !strings.Contains(path, "/.lifeboat/") {
			n++
		}
		return err
	}))
	return n
}

// die takes the doomed node without a word, its agent first, and waits until the driver has noticed.
func (m *mirrored) die(t *testing.T) {
	t.Helper()
	m.doomed.Kill()
	must(t, m.Doomed.Kill())
	must(t, m.App.WaitGone(deadline(t, time.Minute), m.Doomed.Address))
}

// nothingAgain fails the test when a round runs map tasks.
func (m *mirrored) nothingAgain(t *testing.T) {
	t.Helper()
	if r := round(t, m.App); r.MapTasks != 0 || r.Counted > 0 {
		t.Errorf("%d map tasks ran again, want 0", r.MapTasks)
	}
}

// TestNoNotice: a node that copied ahead dies without a word, with its agent. The agents that are left make the copies count: in
// the fallback storage where the application reads it, else by giving them to living executors.
func TestNoNotice(t *testing.T) {
	for name, c := range map[string]struct {
		version  string
		fallback bool
	}{
		"fallback": {"3.5.9", true}, "given back": {sparkVersion(), false},
	} {
		t.Run(name, func(t *testing.T) {
			m := mirror(t, c.version, c.fallback, true)
			m.die(t)
			rep := salvaged(t, m.survivor)
			if _, saved, lost := rep.Total(); saved.Outputs != m.atRisk || lost.Outputs != 0 {
				t.Errorf("%d of %d salvaged, %d lost", saved.Outputs, m.atRisk, lost.Outputs)
			}
			m.nothingAgain(t)
			// The report is there before the catalog is settled.
			must(t, lab.Until(deadline(t, time.Minute), "nothing is left to salvage", func(ctx context.Context) (bool, error) {
				_, errs, code := m.survivor.Command(ctx, "salvage", "--app", m.App.ID)
				return code != 0 && strings.Contains(errs, agent.ErrNoCopies.Error()), nil
			}))
		})
	}
}

// salvaged waits for the report of a salvage.
func salvaged(t *testing.T, a *lab.Agent) *report.Report {
	t.Helper()
	var rep report.Report
	must(t, lab.Until(deadline(t, 2*time.Minute), "copies are salvaged", func(context.Context) (bool, error) {
		paths, err := filepath.Glob(filepath.Join(agent.SalvageState(a.State), "rescues", "*", "report.json"))
		if err != nil || len(paths) == 0 {
			return false, err
		}
		raw, err := os.ReadFile(paths[0])
		if err != nil {
			return false, err
		}
		return true, json.Unmarshal(raw, &rep)
	}))
	return &rep
}

// TestLateSalvage: nobody looks out, and a person salvages by hand, both ways.
func TestLateSalvage(t *testing.T) {
	for name, fallback := range map[string]bool{"fallback": true, "given back": false} {
		t.Run(name, func(t *testing.T) {
			m := mirror(t, sparkVersion(), fallback, false)
			m.die(t)
			out, errs, code := m.survivor.Command(deadline(t, time.Minute), "salvage", "--app", m.App.ID, "-o", "json")
			var rep report.Report
			if err := json.Unmarshal([]byte(out), &rep); err != nil || code != 0 {
				t.Fatalf("code %d, %v: %s%s", code, err, out, errs)
			}
			if _, saved, _ := rep.Total(); saved.Outputs != m.atRisk {
				t.Errorf("%d of %d salvaged", saved.Outputs, m.atRisk)
			}
			m.nothingAgain(t)
		})
	}
}

// TestSalvageTooLate: what Spark has computed again stays as it is, and a job that has ended is left alone.
func TestSalvageTooLate(t *testing.T) {
	m := mirror(t, sparkVersion(), true, false)
	m.die(t)
	if r := round(t, m.App); r.MapTasks == 0 {
		t.Fatal("nothing was computed again, so there is nothing to leave alone")
	}
	if _, errs, code := m.survivor.Command(deadline(t, time.Minute), "salvage", "--app", m.App.ID); code != 0 {
		t.Errorf("code %d: %s", code, errs)
	}
	m.nothingAgain(t)

	must(t, m.App.Stop(deadline(t, time.Minute)))
	before := m.stored(t)
	_, errs, code := m.survivor.Command(deadline(t, time.Minute), "salvage", "--app", m.App.ID, "--executor", "0")
	if code == 0 || errs == "" {
		t.Errorf("salvaged for a job that has ended: code %d, %s", code, errs)
	}
	if after := m.stored(t); after != before {
		t.Errorf("%d outputs were stored before, %d after", before, after)
	}

	list, errs, code := m.survivor.Command(deadline(t, time.Minute), "objects", "list")
	if code != 0 || !strings.Contains(list, m.App.ID) {
		t.Errorf("list: code %d, %s%s", code, list, errs)
	}
	foreign := filepath.Join(m.folder, m.App.ID, "somebody-elses")
	must(t, os.WriteFile(foreign, nil, 0o600))
	m.removed(t, m.folder)
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("the clean-up took what Lifeboat had not stored: %v", err)
	}
}

// removed runs the clean-up, dry and then for real. The copies are made old enough for it.
func (m *mirrored) removed(t *testing.T, folder string) {
	t.Helper()
	old := time.Now().Add(-48 * time.Hour)
	must(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chtimes(path, old, old)
	}))
	before := m.stored(t)
	for _, flag := range []string{"--dry-run", "--drivers-reachable"} {
		out, errs, code := m.survivor.Command(deadline(t, time.Minute), "objects", "gc", flag)
		if code != 0 {
			t.Errorf("gc %s: code %d, %s%s", flag, code, out, errs)
		}
		if flag == "--dry-run" && m.stored(t) != before {
			t.Error("a dry run removed something")
		}
	}
	if n := m.stored(t); n != 0 {
		t.Errorf("%d outputs are left", n)
	}
}

// TestRescueAfterMirror: what is copied already only has to be announced.
func TestRescueAfterMirror(t *testing.T) {
	m := mirror(t, sparkVersion(), true, true)
	m.doomed.Announce(2 * time.Minute)
	rep := rescued(t, m.doomed)
	allSaved(t, rep)
	for _, d := range rep.Applications[0].Destinations {
		if !strings.HasPrefix(d.Target, "file:") {
			t.Errorf("%d outputs were copied to %s although all were stored", d.Outputs, d.Target)
		}
	}
	must(t, m.Doomed.Kill())
	m.nothingAgain(t)
	if err := m.survivor.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, err := m.survivor.Wait(deadline(t, time.Minute))
	must(t, err)
	if paths, _ := filepath.Glob(filepath.Join(agent.SalvageState(m.survivor.State), "rescues", "*")); len(paths) != 0 {
		t.Errorf("what a rescue had saved was salvaged: %v", paths)
	}
}
