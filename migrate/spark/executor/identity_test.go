package executor

import (
	"errors"
	"os"
	"slices"
	"testing"
)

func TestParseIdentity(t *testing.T) {
	const good = "Name:\tjava\nUid:\t1\t2\t3\t185\nGid:\t5\t6\t7\t0\nFDSize:\t64\nGroups:\t185 2000 \n"
	for name, c := range map[string]struct {
		status string
		want   Identity
		fails  bool
	}{
		"executor":       {good, Identity{UID: 185, Groups: []int{185, 2000}}, false},
		"no groups":      {"Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t \n", Identity{UID: 4, GID: 8}, false},
		"no uid":         {"Gid:\t5\t6\t7\t8\nGroups:\t\n", Identity{}, true},
		"too few":        {"Uid:\t1\t2\t3\nGid:\t5\t6\t7\t8\nGroups:\t\n", Identity{}, true},
		"not a number":   {"Uid:\t1\t2\t3\t-4\nGid:\t5\t6\t7\t8\nGroups:\t\n", Identity{}, true},
		"too large":      {"Uid:\t1\t2\t3\t4294967296\nGid:\t5\t6\t7\t8\nGroups:\t\n", Identity{}, true},
		"nothing at all": {"", Identity{}, true},
	} {
		got, err := parseIdentity([]byte(c.status))
		if (err != nil) != c.fails || err == nil && (got.UID != c.want.UID || got.GID != c.want.GID || !slices.Equal(got.Groups, c.want.Groups)) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte("Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := parseIdentity(b); err == nil && (id.UID < 0 || id.GID < 0 || len(id.Groups) > maxGroups) {
			t.Errorf("accepted %+v", id)
		}
	})
}

func TestIdentityOf(t *testing.T) {
	start, err := StartTime("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Finder{}.IdentityOf(os.Getpid(), start)
	if err != nil || got.UID != os.Geteuid() || got.GID != os.Getegid() {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := (Finder{}).IdentityOf(os.Getpid(), start+1); !errors.Is(err, ErrGone) {
		t.Errorf("another process: %v", err)
	}
}
