package agent

import (
	"slices"
	"testing"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
)

func TestKeepSkipped(t *testing.T) {
	skip := func(folder string, m int64, reason string) shuffle.Skipped {
		return shuffle.Skipped{ID: migrate.OutputID{App: "app", Map: m}, Folder: folder, Reason: reason}
	}
	missing := shuffle.Skipped{Folder: "/local", Reason: "process 1 has no such local directory"}
	link := shuffle.Skipped{Folder: "blockmgr-a", Reason: "00: not a directory"}
	refused := shuffle.Skipped{Folder: "blockmgr-link", Reason: "folder can't be opened"}
	short, half, other := skip("blockmgr-a", 1, "short"), skip("blockmgr-a", 2, "half"), skip("blockmgr-b", 1, "short")
	for name, tc := range map[string]struct {
		before, now, want []shuffle.Skipped
		found             []shuffle.Found
	}{
		"files that have gone":             {[]shuffle.Skipped{short, link}, []shuffle.Skipped{other}, []shuffle.Skipped{short, link, other}, nil},
		"a file that is being deleted":     {[]shuffle.Skipped{short}, []shuffle.Skipped{skip("blockmgr-a", 1, "index file is missing")}, []shuffle.Skipped{short}, nil},
		"an output that is whole now":      {[]shuffle.Skipped{short, half}, []shuffle.Skipped{short}, []shuffle.Skipped{short}, []shuffle.Found{{Output: &migrate.Output{ID: half.ID}}}},
		"a directory that has appeared":    {[]shuffle.Skipped{missing}, nil, nil, nil},
		"a folder that is refused for all": {[]shuffle.Skipped{refused}, []shuffle.Skipped{refused}, []shuffle.Skipped{refused}, nil},
	} {
		if got := keepSkipped(tc.before, tc.now, tc.found); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if got := keepSkipped(nil, slices.Repeat([]shuffle.Skipped{short}, maxSkipped+1), nil); len(got) != maxSkipped {
		t.Errorf("%d are kept", len(got))
	}
}

func TestOwnerOfAFolder(t *testing.T) {
	on := func(id string, pid int, folders ...string) *member {
		m := &member{Executor: executor.Executor{ID: id, PID: pid}}
		for _, f := range folders {
			if m.folders == nil {
				m.folders = map[string]bool{}
			}
			m.folders[f] = true
		}
		return m
	}
	for name, tc := range map[string]struct {
		members []*member
		want    string
	}{
		"named":                         {[]*member{on("1", 10, "f"), on("2", 20)}, "1"},
		"named after one that is not":   {[]*member{on("2", 20), on("1", 10, "f")}, "1"},
		"found through its root":        {[]*member{on("1", 10), on("2", 20), on("3", 30)}, "2"},
		"found through another's":       {[]*member{on("1", 10), on("2", 20, "other")}, "1"},
		"of one that has left, or none": {[]*member{on("2", 20, "other")}, ""},
	} {
		a := &application{members: tc.members}
		if got := a.owner("f", 20); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
