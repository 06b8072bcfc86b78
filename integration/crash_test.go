//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// slow copies one output at a time to each peer, so that there is a middle in which to interrupt.
const slow = "shutdown: {grace: 8s}\nmigrate: {connections: 1, inFlight: 1}\n"

// TestAgentEnds ends the agent in the middle of a rescue: by kill -9, by SIGTERM with more to do than the grace
// allows, and by SIGTERM with enough grace. Each time the next run of it goes on, and nothing that a peer
// acknowledged is sent again. The peers are stopped while the agent must not get any further.
func TestAgentEnds(t *testing.T) {
	f := launch(t, sparkVersion(), lab.Job{Maps: 240, Reduces: 2, KiBPerMap: 64, MsPerMap: 20},
		lab.AgentOptions{Config: slow, Poll: 200 * time.Millisecond})
	round(t, f.app)
	ctx := deadline(t, 3*time.Minute)
	f.agent.Announce(2 * time.Minute)
	f.inTheMiddle(t, 5)
	f.signalPeers(t, syscall.SIGSTOP)
	f.agent.Kill()
	before, files := f.saved(t), f.received(t)
	t.Logf("killed when %d outputs were acknowledged", len(before))

	must(t, f.agent.Start(ctx)) // the peers are still stopped
	must(t, lab.Until(ctx, "the rescue is taken up again", func(context.Context) (bool, error) {
		return len(f.records(t, "begin")) == 2, nil
	}))
	must(t, f.agent.Signal(syscall.SIGTERM))
	began := time.Now()
	f.exits(t)
	if took := time.Since(began); took < 7*time.Second || took > 12*time.Second {
		t.Errorf("the agent went on for %v after SIGTERM, want its grace of 8 s", took)
	}
	if n := len(f.records(t, "interrupted")); n != 1 {
		t.Errorf("%d interrupted records, want 1", n)
	}
	if n := len(f.doomed.Executors()); n != 2 {
		t.Errorf("%d executors live after the interruption, want 2: nothing may be ended", n)
	}

	f.signalPeers(t, syscall.SIGCONT)
	must(t, f.agent.Start(ctx))
	f.inTheMiddle(t, len(before)+5)
	must(t, f.agent.Signal(syscall.SIGTERM))
	f.exits(t)
	rep := f.report(t)
	allSaved(t, rep)
	if rep.Runs != 3 {
		t.Errorf("the report counts %d runs of the agent, want 3", rep.Runs)
	}
	f.sentOnce(t, before, files)
	must(t, f.doomed.Kill())
	if again := round(t, f.app); again.MapTasks != 0 {
		t.Errorf("%d map tasks ran again, want 0", again.MapTasks)
	}
}

// inTheMiddle waits until that many outputs are acknowledged and the rescue is not over.
func (f *fleet) inTheMiddle(t *testing.T, outputs int) {
	t.Helper()
	ctx := deadline(t, time.Minute)
	for len(f.saved(t)) < outputs {
		if ctx.Err() != nil {
			t.Fatalf("%d outputs acknowledged, want %d; end of the agent's log:\n%s", len(f.saved(t)), outputs, lab.Tail(f.agent.Log, 20))
		}
	}
	if len(f.records(t, "done")) > 0 {
		t.Fatal("the rescue is over already")
	}
}

// exits waits for the end of the agent, which has to be a clean one.
func (f *fleet) exits(t *testing.T) {
	t.Helper()
	code, err := f.agent.Wait(deadline(t, time.Minute))
	must(t, err)
	if code != 0 {
		t.Errorf("the agent's exit code is %d, want 0; end of its log:\n%s", code, lab.Tail(f.agent.Log, 20))
	}
}

// record is one line of a journal, as far as these tests read it.
type record struct {
	Type    string
	App     string
	Shuffle int
	Map     int64
}

func (r record) output() string { return fmt.Sprintf("shuffle_%d_%d_0", r.Shuffle, r.Map) }

// records are the whole lines of one type in the journal of the only rescue.
func (f *fleet) records(t *testing.T, kind string) []record {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(f.agent.State, "rescues", "*", "journal.jsonl"))
	must(t, err)
	var found []record
	for _, path := range paths {
		text, err := os.ReadFile(path)
		must(t, err)
		for line := range bytes.Lines(text) {
			var r record
			if json.Unmarshal(line, &r) == nil && r.Type == kind {
				found = append(found, r)
			}
		}
	}
	return found
}

// saved are the outputs that the journal says are acknowledged.
func (f *fleet) saved(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, r := range f.records(t, "saved") {
		found[r.output()] = true
	}
	return found
}

// received are the data files of the peers with the time at which each was written.
func (f *fleet) received(t *testing.T) map[string]time.Time {
	t.Helper()
	found := map[string]time.Time{}
	for _, n := range f.Nodes() {
		if n == f.doomed {
			continue
		}
		for _, dir := range n.LocalDirs() {
			must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || filepath.Ext(path) != ".data" {
					return nil //nolint:nilerr // Spark's own files come and go
				}
				if info, err := d.Info(); err == nil {
					found[filepath.Base(path)] = info.ModTime()
				}
				return nil
			}))
		}
	}
	return found
}

// sentOnce fails the test when an output was acknowledged twice, or the data of one that was acknowledged early
// was written again.
func (f *fleet) sentOnce(t *testing.T, early map[string]bool, files map[string]time.Time) {
	t.Helper()
	count := map[string]int{}
	for _, r := range f.records(t, "saved") {
		if count[r.output()]++; count[r.output()] > 1 {
			t.Errorf("%s was sent again after it had been acknowledged", r.output())
		}
	}
	if n := len(f.records(t, "unsaved")); n > 0 {
		t.Errorf("%d outputs were given up that their peers still held", n)
	}
	now := f.received(t)
	for output := range early {
		name := output + ".data"
		if files[name].IsZero() || !files[name].Equal(now[name]) {
			t.Errorf("%s was written at %v and again at %v", name, files[name], now[name])
		}
	}
}

// signalPeers stops or continues the executors of all other nodes.
func (f *fleet) signalPeers(t *testing.T, sig syscall.Signal) {
	t.Helper()
	for _, n := range f.Nodes() {
		if n == f.doomed {
			continue
		}
		for _, p := range n.Executors() {
			must(t, syscall.Kill(p.PID, sig))
		}
	}
}

// report reads the report of an agent that has ended.
func (f *fleet) report(t *testing.T) *report.Report {
	t.Helper()
	rep, err := f.agent.Report(deadline(t, time.Second))
	must(t, err)
	return rep
}
