package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// folderByHand is a folder that a test polls itself. Files settle at the second look.
func folderByHand(t *testing.T, path string) *Folder {
	t.Helper()
	f, err := NewFolder(FolderOptions{Path: path, Settle: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// looks polls twice, so that a file that does not change has settled.
func (f *Folder) looks(t *testing.T) map[string]providers.Notice {
	t.Helper()
	var got []providers.Notice
	for range 2 {
		var err error
		if got, err = f.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]providers.Notice{}
	for _, n := range got {
		if _, twice := all[n.ID]; twice {
			t.Errorf("%s is there twice", n.ID)
		}
		all[n.ID] = n
	}
	return all
}

func TestEachFileIsANotice(t *testing.T) {
	dir := folder(t)
	f := folderByHand(t, dir)
	if got := f.looks(t); len(got) != 0 {
		t.Errorf("an empty folder: %v", got)
	}
	put(t, filepath.Join(dir, "a.json"), `{"id":"a","kind":"preemption","in":"60s"}`, 0o600)
	put(t, filepath.Join(dir, "b"), `{"id":"b","kind":"maintenance","in":"24h","app":"app-1","executors":["1"]}`, 0o600)
	got := f.looks(t)
	a, b := got["file-folder-a"], got["file-folder-b"]
	if len(got) != 2 || a.Kind != providers.Preemption || a.Source != FolderName || b.App != "app-1" || len(b.Executors) != 1 || b.Drill {
		t.Fatalf("%+v", got)
	}
	if err := os.Remove(filepath.Join(dir, "a.json")); err != nil {
		t.Fatal(err)
	}
	first, err := f.poll(t.Context())
	if err != nil || len(first) != 2 {
		t.Fatalf("%v %v", first, err)
	}
	for _, n := range first {
		if n.Withdrawn != (n.ID == "file-folder-a") {
			t.Errorf("%s withdrawn: %v", n.ID, n.Withdrawn)
		}
	}
	if got := f.looks(t); len(got) != 1 {
		t.Errorf("withdrawn twice: %v", got)
	}
}

// TestHalfWrittenFilesAreTolerated: they change nothing about the others, nor about what they said before.
func TestHalfWrittenFilesAreTolerated(t *testing.T) {
	dir := folder(t)
	f := folderByHand(t, dir)
	put(t, filepath.Join(dir, "good"), `{"id":"good"}`, 0o600)
	put(t, filepath.Join(dir, "half"), `{"id":"half","in":"6`, 0o600)
	put(t, filepath.Join(dir, ".hidden"), `{"id":"hidden"}`, 0o600)
	put(t, filepath.Join(dir, "part.tmp"), `{"id":"part"}`, 0o600)
	put(t, filepath.Join(dir, "backup~"), `{"id":"backup"}`, 0o600)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := f.looks(t); len(got) != 1 || got["file-folder-good"].ID == "" {
		t.Errorf("%v", got)
	}
	if got := f.trouble(); !strings.Contains(got, "half: unexpected EOF") {
		t.Errorf("trouble %q", got)
	}
	put(t, filepath.Join(dir, "half"), `{"id":"half","in":"60s"}`, 0o600)
	if got := f.looks(t); len(got) != 2 {
		t.Errorf("whole: %v", got)
	}
	put(t, filepath.Join(dir, "half"), `{"id":"half","in":"7`, 0o600)
	if got := f.looks(t); len(got) != 2 || got["file-folder-half"].Withdrawn {
		t.Errorf("being written again: %v", got)
	}
}

// TestFilesThatAreNotToBeTrusted are named and left out.
func TestFilesThatAreNotToBeTrusted(t *testing.T) {
	dir := folder(t)
	f := folderByHand(t, dir)
	put(t, filepath.Join(dir, "good"), `{"id":"good"}`, 0o600)
	put(t, filepath.Join(dir, "open"), `{"id":"open"}`, 0o666)
	if err := os.Symlink("good", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "huge"), strings.Repeat(" ", maxSize+1), 0o600)
	if got := f.looks(t); len(got) != 1 {
		t.Errorf("%v", got)
	}
	for _, want := range []string{"link is a symbolic link", "open can be written by", "huge is larger"} {
		if got := f.trouble(); !strings.Contains(got, want) {
			t.Errorf("trouble %q lacks %q", got, want)
		}
	}
	for i := range maxFiles {
		put(t, filepath.Join(dir, "n"+strings.Repeat("x", i%200)+string(rune('a'+i/200))), "", 0o600)
	}
	if _, err := f.poll(t.Context()); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too many files: %v", err)
	}
}

// TestTwoFilesOfOneEvent are one notice, until both have gone.
func TestTwoFilesOfOneEvent(t *testing.T) {
	dir := folder(t)
	f := folderByHand(t, dir)
	for _, name := range []string{"one", "two"} {
		put(t, filepath.Join(dir, name), `{"id":"same","in":"60s"}`, 0o600)
	}
	if got := f.looks(t); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if err := os.Remove(filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	if got, err := f.poll(t.Context()); err != nil || len(got) != 1 || got[0].Withdrawn {
		t.Errorf("%v %v", got, err)
	}
}

// TestFolderThatIsAway withdraws nothing.
func TestFolderThatIsAway(t *testing.T) {
	dir := folder(t)
	f := folderByHand(t, dir)
	put(t, filepath.Join(dir, "a"), `{"id":"a"}`, 0o600)
	f.looks(t)
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.poll(t.Context()); err == nil || len(got) > 0 {
		t.Errorf("%v %v", got, err)
	}
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	if got := f.looks(t); len(got) != 1 || got["file-folder-a"].Withdrawn {
		t.Errorf("back: %v", got)
	}
}

func TestFolderOptions(t *testing.T) {
	for _, o := range []FolderOptions{{}, {Path: "relative"}, {Path: "/"}, {Path: "/x", Lead: -1}} {
		if _, err := NewFolder(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	f, err := NewFolder(FolderOptions{Path: folder(t), Name: "drill", Drills: true, Settle: time.Nanosecond})
	if err != nil || f.Name() != "drill" {
		t.Fatal(err)
	}
	put(t, filepath.Join(f.o.Path, "a"), `{"id":"a"}`, 0o600)
	if n := f.looks(t)["drill-a"]; !n.Drill || n.Source != "drill" {
		t.Errorf("%+v", n)
	}
}
