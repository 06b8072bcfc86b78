package shuffle

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
)

const app = "app-20261121-0001"

// node is a fake process root with local directories, seen through <proc>/<pid>/root.
type node struct {
	t    testing.TB
	proc string
	root string
}

const nodePID = 77

func newNode(t testing.TB) *node {
	n := &node{t: t, proc: t.TempDir(), root: t.TempDir()}
	n.must(os.Mkdir(filepath.Join(n.proc, strconv.Itoa(nodePID)), 0o755))
	n.must(os.Symlink(n.root, filepath.Join(n.proc, strconv.Itoa(nodePID), "root")))
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) path(parts ...string) string {
	return filepath.Join(append([]string{n.root}, parts...)...)
}

// file writes as Spark does: under a temporary name, then renamed.
func (n *node) file(path string, content []byte) string {
	n.t.Helper()
	n.must(os.MkdirAll(filepath.Dir(path), 0o755))
	n.must(os.WriteFile(path+".0f3c", content, 0o644))
	n.must(os.Rename(path+".0f3c", path))
	return path
}

func index(offsets ...int64) []byte {
	var b []byte
	for _, o := range offsets {
		b = binary.BigEndian.AppendUint64(b, uint64(o))
	}
	return b
}

// commit writes a whole output of so many bytes into one bucket.
func (n *node) commit(bucket string, shuffle, mapID, size int) {
	n.t.Helper()
	base := n.path(bucket, fmt.Sprintf("shuffle_%d_%d_0", shuffle, mapID))
	n.file(base+".index", index(0, int64(size/2), int64(size)))
	if size > 0 {
		n.file(base+".data", []byte(strings.Repeat("d", size)))
	}
}

func (n *node) open(o Options) *Store {
	n.t.Helper()
	if o.Roots == nil {
		o.Roots = []Root{{Proc: n.proc, PID: nodePID, Dirs: []string{"/local"}}}
	}
	o.App = app
	if o.Limit == nil {
		o.Limit = NewLimit(1000)
	}
	s, err := Open(n.t.Context(), o)
	n.must(err)
	n.t.Cleanup(func() {
		s.Close()
		if used := o.Limit.Used(); used != 0 {
			n.t.Errorf("%d descriptors are still counted after Close", used)
		}
	})
	return s
}

// scan returns what was found as sorted words "shuffle_S_M:bytes", and the reasons of what was skipped.
func (n *node) scan(s *Store) (found []string, skipped []Skipped) {
	n.t.Helper()
	list, skipped, err := s.Scan(n.t.Context())
	n.must(err)
	for _, f := range list {
		found = append(found, fmt.Sprintf("%d_%d:%d", f.Output.ID.Shuffle, f.Output.ID.Map, f.Output.Bytes()))
	}
	sort.Strings(found)
	return found, skipped
}

func (n *node) expect(s *Store, want ...string) []Skipped {
	n.t.Helper()
	got, skipped := n.scan(s)
	if strings.Join(got, " ") != strings.Join(want, " ") {
		n.t.Fatalf("found %q, want %q (skipped: %+v)", got, want, skipped)
	}
	return skipped
}

func (n *node) reasons(skipped []Skipped, want ...string) {
	n.t.Helper()
	if len(skipped) != len(want) {
		n.t.Fatalf("skipped %+v, want %d", skipped, len(want))
	}
	for i, part := range want {
		if !strings.Contains(skipped[i].Reason, part) {
			n.t.Errorf("reason %q, want %q in it", skipped[i].Reason, part)
		}
	}
}

func read(t testing.TB, b migrate.Blob) (string, error) {
	t.Helper()
	buf := make([]byte, b.Size())
	n, err := b.ReadAt(buf, 0)
	return string(buf[:n]), err
}

// backdate makes time stamps old enough to be believed.
func backdate(t testing.TB, paths ...string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, path := range paths {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

func descriptors(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
