package report

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var began = time.Date(2026, 11, 21, 10, 15, 2, 0, time.UTC)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func blank(id string) *Report {
	return &Report{
		ID: id, Node: "node-7", Version: "v0.1.0",
		Notice: providers.Notice{ID: "i-0abc/terminate/2026-11-21T10:17:00Z", Source: "aws-spot", Kind: providers.Preemption, Seen: began},
		Began:  began, Ended: began.Add(8200 * time.Millisecond), Deadline: began.Add(118 * time.Second),
		Phases: []Phase{{"pin", 0.041}, {"reach", 0.3}, {"tell", 0.02}, {"copy", 6.7}, {"end", 1.139}},
	}
}

func saved() *Report {
	r := blank("20261121-101502-7f3a")
	a := Application{
		ID: "app-20261121100000-0001", Name: "nightly join", Driver: "10.0.0.2:35113", Spark: "4.1.4",
		Executors: []Executor{
			{ID: "10", Host: "10.0.0.7", Trigger: "rpc", Told: true, Ended: true, EndedBy: "SIGTERM", EndedAfterSeconds: 7.9, RDDBlocksLost: 0},
			{ID: "2", Host: "10.0.0.7", Trigger: "sigpwr", Told: true, Ended: true, EndedBy: "by itself", EndedAfterSeconds: 8.1, RDDBlocksLost: -1},
		},
		Recompute: Recompute{Known: true, Avoided: 5025},
	}
	for i := range 2000 {
		a.AddSaved(fmt.Sprintf("executor %d (10.0.0.%d:40123)", i%3+3, i%3+8), 1<<20)
	}
	r.Applications = []Application{a}
	r.Settle()
	return r
}

func mixed() *Report {
	r := saved()
	r.ID = "20261121-112000-0b1e"
	r.Runs = 2
	a := &r.Applications[0]
	a.Retries = 17
	a.Recompute.Incurred = 93.4
	a.Executors[0].RDDBlocksLost = 12
	a.Notes = []string{"Peers on this host do not protect a stage that still runs."}
	for i := range 150 {
		a.AddLost(fmt.Sprintf("%s/shuffle_3_%d", a.ID, i), "deadline", 5<<20)
	}
	a.AddLost(a.ID+"/shuffle_4_1", "corrupt", 100)
	r.Applications = append(r.Applications, Application{
		ID: "app-20261121090000-0000", Driver: "10.0.0.3:1\x1b[31m",
		Error:     "no usable destination: the driver\nis gone",
		Executors: []Executor{{ID: "0", Host: "10.0.0.7", RDDBlocksLost: -1}},
	})
	r.Applications[1].AddLost("app-20261121090000-0000/shuffle_0_1", "driver gone", 1000)
	r.Skipped = []Skipped{
		{"/data/blockmgr-b/0c/shuffle_0_9_0.index", "symlink"},
		{"/data/blockmgr-a/0c/shuffle_0_8_0.index", "length 13 is not a multiple of 8"},
	}
	r.Problems = []string{"some processes are not readable: permission denied"}
	r.Settle()
	return r
}

func none() *Report {
	r := blank("20261121-120000-dead")
	a := Application{
		ID: "spark-1", Driver: "10.0.0.2:35113", Error: "dialect refused",
		Executors: []Executor{{ID: "1", Host: "10.0.0.7", RDDBlocksLost: -1}},
	}
	a.AddLost("spark-1/shuffle_0_0", "no destination", 1<<30)
	r.Applications = []Application{a}
	r.Ended = r.Deadline.Add(1500 * time.Millisecond)
	r.Interrupted = true
	for i := range 14 {
		r.Skipped = append(r.Skipped, Skipped{fmt.Sprintf("/data/%02d", i), "vanished"})
	}
	r.Settle()
	return r
}

func dry() *Report {
	r := mixed()
	r.ID, r.DryRun, r.Runs = "20261121-130000-00aa", true, 0
	return r
}

func nothing() *Report {
	r := blank("20261121-140000-0000")
	r.Deadline = time.Time{}
	r.Phases = nil
	r.Settle()
	return r
}

func drill() *Report {
	r := saved()
	r.ID, r.Notice.Drill, r.Notice.Source, r.Notice.ID = "20261121-150000-d111", true, "drill", "drill-20261121-145959-0001"
	r.Merged = []providers.Notice{{Source: "file", Kind: providers.Drain, ID: "file-night"}}
	r.Acknowledged = []Acknowledgement{{Notice: "a", Source: "azure-events"}, {Notice: "b", Source: "azure-events", Error: "429"}}
	return r
}

// stored is one of which a part only waits in object storage.
func stored() *Report {
	r := blank("20261121-130000-51a0")
	a := Application{
		ID: "app-20261121100000-0002", Driver: "10.0.0.2:35113", Spark: "4.1.4",
		Executors: []Executor{{ID: "1", Host: "10.0.0.7", Trigger: "rpc", Told: true, Ended: true, EndedBy: "SIGTERM", EndedAfterSeconds: 117, RDDBlocksLost: 0}},
	}
	a.AddSaved("executor 3 (10.0.0.9:40123)", 1<<20)
	for range 9 {
		a.AddStored("s3a://shuffle/lifeboat", 1<<20)
	}
	r.Applications = []Application{a}
	r.Settle()
	return r
}

func TestText(t *testing.T) {
	for name, r := range map[string]*Report{"all": saved(), "some": mixed(), "none": none(), "dry-run": dry(), "drill": drill(), "nothing": nothing(), "stored": stored()} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			must(t, r.Text(&b))
			golden(t, name+".txt", b.Bytes())
			for i, line := range strings.Split(b.String(), "\n") {
				if strings.TrimRight(line, " ") != line {
					t.Errorf("line %d ends in blanks: %q", i+1, line)
				}
			}
			if bytes.ContainsAny(b.Bytes(), "\x1b\t") {
				t.Error("control characters")
			}
		})
	}
}

func TestListText(t *testing.T) {
	var b bytes.Buffer
	must(t, ListText(&b, []*Report{dry(), none(), mixed(), saved(), nothing()}))
	golden(t, "list.txt", b.Bytes())
	b.Reset()
	must(t, ListText(&b, nil))
	if !strings.Contains(b.String(), "No rescue") {
		t.Error(b.String())
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, got, 0o644))
		return
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", name, got)
	}
}

func TestOutcomes(t *testing.T) {
	n := func(i int) Amount { return Amount{Outputs: i} }
	tests := []struct {
		found, saved, stored, lost int
		want                       Outcome
		exit                       int
	}{
		{0, 0, 0, 0, Nothing, 0},
		{5, 5, 0, 0, All, 0},
		{5, 3, 0, 2, Some, 3},
		{5, 0, 0, 5, None, 4},
		{5, 0, 0, 0, None, 4},
		{5, 3, 0, 0, Some, 3},
		{5, 0, 5, 0, Stored, 3},
		{5, 2, 3, 0, Stored, 3},
		{5, 2, 2, 1, Some, 3},
		{5, 0, 4, 1, Some, 3},
		{5, 0, 4, 0, Some, 3},
	}
	for _, tt := range tests {
		got := outcome(n(tt.found), n(tt.saved), n(tt.stored), n(tt.lost))
		if got != tt.want || got.ExitCode() != tt.exit {
			t.Errorf("%+v: %s, exit %d", tt, got, got.ExitCode())
		}
	}
	if Outcome("?").ExitCode() != 1 {
		t.Error("an unknown outcome is no success")
	}
}

func TestExamplesAreCappedAndLossesGrouped(t *testing.T) {
	r := mixed()
	a := r.Applications[1]
	if len(a.Losses) != 2 || a.Losses[0].Reason != "deadline" || a.Losses[0].Outputs != 150 || len(a.Losses[0].Examples) != maxExamples {
		t.Errorf("%+v", a.Losses)
	}
	if a.Found.Outputs != 2151 || a.Lost.Outputs != 151 || len(a.Destinations) != 3 || a.Executors[0].ID != "2" {
		t.Errorf("%+v", a)
	}
	if r.Outcome != Some || r.ExitCode() != 3 || a.Outcome != Some || r.Applications[0].Outcome != None {
		t.Errorf("%s, %s, %s", r.Outcome, a.Outcome, r.Applications[0].Outcome)
	}
}

func TestReasonsAreCapped(t *testing.T) {
	var a Application
	for i := range maxReasons + 20 {
		a.AddLost("o", fmt.Sprint("attempts: reset by peer ", i), 1)
	}
	last := a.Losses[len(a.Losses)-1]
	if len(a.Losses) != maxReasons+1 || last.Reason != otherReasons || last.Outputs != 20 {
		t.Errorf("%d reasons, last %+v", len(a.Losses), last)
	}
	r := Report{Applications: []Application{a}}
	if got := r.remedies(); len(got) != 1 || !strings.Contains(got[0], "again and again") {
		t.Errorf("%q", got)
	}
}

func TestWriteLoadList(t *testing.T) {
	state := t.TempDir()
	if list, err := List(state, 0); len(list) != 0 || err != nil {
		t.Errorf("%v %v", list, err)
	}
	all := []*Report{saved(), mixed(), none()}
	for _, r := range all {
		if err := Write(state, r); err == nil {
			t.Error("saved into a folder that does not exist")
		}
		must(t, os.MkdirAll(journal.Folder(state, r.ID), 0o700))
		must(t, Write(state, r))
		must(t, Write(state, r))
		got, err := Load(state, r.ID)
		must(t, err)
		if !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v\nwant %+v", got, r)
		}
		entries, err := os.ReadDir(journal.Folder(state, r.ID))
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("left behind: %v", entries)
		}
	}
	list, err := List(state, 2)
	must(t, err)
	if len(list) != 2 || list[0].ID != all[2].ID || list[1].ID != all[1].ID {
		t.Errorf("%v", list)
	}
	info, err := os.Stat(filepath.Join(journal.Folder(state, all[0].ID), fileName))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
}

func TestLoadByPart(t *testing.T) {
	state := t.TempDir()
	for _, r := range []*Report{saved(), mixed()} {
		must(t, os.MkdirAll(journal.Folder(state, r.ID), 0o700))
		must(t, Write(state, r))
	}
	must(t, os.MkdirAll(journal.Folder(state, "20261122-000000-0001"), 0o700))
	for _, tt := range []struct{ id, want, err string }{
		{"7f3a", "20261121-101502-7f3a", ""},
		{"20261121-11", "20261121-112000-0b1e", ""},
		{"20261121", "", "is not unique: 20261121-101502-7f3a, 20261121-112000-0b1e"},
		{"zzz", "", "no such report"},
		{"", "", "no such report"},
		{"../..", "", "no such report"},
		{"20261122-000000-0001", "", "has none yet"},
		{"20261122", "", "has none yet"},
		{"20261123-000000-0001", "", "no such report"},
	} {
		r, err := Load(state, tt.id)
		switch {
		case tt.err == "" && (err != nil || r.ID != tt.want):
			t.Errorf("%q: %v %v", tt.id, r, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%q: %v", tt.id, err)
		}
	}
	if _, err := Load(state, "zzz"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestDamagedReportDoesNotHideOthers(t *testing.T) {
	state := t.TempDir()
	for _, r := range []*Report{saved(), mixed()} {
		must(t, os.MkdirAll(journal.Folder(state, r.ID), 0o700))
		must(t, Write(state, r))
	}
	path := filepath.Join(journal.Folder(state, mixed().ID), fileName)
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	list, err := List(state, 0)
	if len(list) != 1 || err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v %v", list, err)
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB",
		1<<63 - 1: "8.0 EiB", -2048: "-2.0 KiB", -1 << 63: "-8.0 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for s, want := range map[float64]string{
		0: "0.00s", 0.351: "0.35s", 9.999: "10.0s", 59.94: "59.9s", 59.96: "1m 0s", 252: "4m 12s", 7500: "2h 5m", 3599.7: "1h 0m", -3: "-3.00s",
	} {
		if got := Seconds(s); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
}
