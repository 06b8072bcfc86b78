package drill

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

func TestGive(t *testing.T) {
	state := t.TempDir()
	if _, err := Give(state, Request{}); !errors.Is(err, ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
	if _, err := os.Stat(filepath.Join(state, folderName)); err == nil {
		t.Error("a folder was made although nobody takes drills")
	}
	one, err := Attend(state)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Attend(state) // an agent that replaces the first
	if err != nil {
		t.Fatal(err)
	}
	_ = one.Close()
	left := filepath.Join(state, folderName, "20200101-000000-dead")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-stale - time.Hour)
	_ = os.Chtimes(left, old, old)
	deadline := time.Now().Add(time.Minute).UTC()
	d, err := Give(state, Request{Kind: providers.Drain, Deadline: deadline, App: "app-1", Executors: []string{"1"}, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("an old file is still there")
	}
	data, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	var got content
	if err := json.Unmarshal(data, &got); err != nil || Source+"-"+got.ID != d.ID || !got.Drill || !got.DryRun || !got.Deadline.Equal(deadline) ||
		got.App != "app-1" || len(got.Executors) != 1 {
		t.Errorf("%v %s", err, data)
	}
	info, err := os.Stat(d.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := errors.Join(d.End(), d.End()); err != nil {
		t.Errorf("ended twice: %v", err)
	}
	_ = two.Close()
	if err := Attended(state); !errors.Is(err, ErrNoAgent) {
		t.Errorf("both have ended: %v", err)
	}
	var nobody *Attendance
	if err := nobody.Close(); err != nil {
		t.Error(err)
	}
}

func TestStateThatIsNoFolder(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Attend(state); err == nil {
		t.Error("attended")
	}
	if err := Attended(state); err == nil || errors.Is(err, ErrNoAgent) {
		t.Errorf("got %v", err)
	}
}
