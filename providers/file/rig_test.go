package file

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/providertest"
)

// rig is a folder behind the conformance suite. Each announcement has its own id, so that a file that
// was broken and is whole again is the same event.
type rig struct {
	t       *testing.T
	path    string
	fault   providertest.Fault
	content string // "" is no file
}

func newRig(t *testing.T) providertest.Rig {
	t.Helper()
	return &rig{t: t, path: filepath.Join(folder(t), "notice"), fault: providertest.None}
}

func (r *rig) Announce(deadline time.Time) {
	r.content = fmt.Sprintf(`{"deadline": %q, "id": "event-%d"}`, deadline.Format(time.RFC3339), deadline.Unix())
	r.show()
}

func (r *rig) Withdraw() {
	r.content = ""
	r.show()
}

func (r *rig) SetFault(f providertest.Fault) {
	r.fault = f
	r.show()
}

// show puts the file in place as one that was written beside and renamed.
func (r *rig) show() {
	r.t.Helper()
	content, mode := r.content, os.FileMode(0o600)
	switch r.fault {
	case providertest.Malformed:
		content = `{"deadline": "20`
	case providertest.Huge:
		content = "{}" + strings.Repeat(" ", maxSize)
	case providertest.Unauthorized:
		content, mode = "{}", 0o666
	}
	if content == "" {
		_ = os.Remove(r.path)
		return
	}
	put(r.t, r.path, content, mode)
}

func (r *rig) Source(reg prometheus.Registerer) providers.Source {
	r.t.Helper()
	s, err := New(Options{Path: r.path, Interval: 300 * time.Microsecond, Settle: time.Microsecond, Metrics: reg})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// put writes a file beside and renames it.
func put(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// folder is a temporary folder that only this user can write to, whatever the umask.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Suite{
		New:       newRig,
		Faults:    []providertest.Fault{providertest.Malformed, providertest.Huge, providertest.Unauthorized},
		Withdraws: true,
	})
}

// folderRig is the same with a source that watches the whole folder.
type folderRig struct{ *rig }

func (r folderRig) Source(reg prometheus.Registerer) providers.Source {
	r.t.Helper()
	s, err := NewFolder(FolderOptions{
		Path: filepath.Dir(r.path), Interval: 300 * time.Microsecond, Settle: time.Microsecond, Metrics: reg,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// SetFault opens the folder to everybody: a broken file alone is no trouble of the whole folder.
func (r folderRig) SetFault(f providertest.Fault) {
	mode := os.FileMode(0o755)
	if f == providertest.Unauthorized {
		mode = 0o777
	}
	if err := os.Chmod(filepath.Dir(r.path), mode); err != nil {
		r.t.Fatal(err)
	}
}

func TestFolderConformance(t *testing.T) {
	providertest.Run(t, providertest.Suite{
		New:       func(t *testing.T) providertest.Rig { return folderRig{newRig(t).(*rig)} },
		Faults:    []providertest.Fault{providertest.Unauthorized},
		Withdraws: true,
	})
}
