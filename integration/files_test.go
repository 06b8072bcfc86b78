//go:build integration

package integration

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// folderFiles is what a blockmgr folder holds.
type folderFiles struct {
	outputs int   // index files
	bytes   int64 // indexes and data
}

// outputFiles counts the map outputs in each blockmgr folder of a node's local dirs that holds any.
func outputFiles(t *testing.T, n *lab.Node) map[string]folderFiles {
	t.Helper()
	found := map[string]folderFiles{}
	shuffleFiles(t, n, func(path string, size int64) {
		folder := filepath.Base(filepath.Dir(filepath.Dir(path)))
		f := found[folder]
		f.bytes += size
		if strings.HasSuffix(path, ".index") {
			f.outputs++
		}
		found[folder] = f
	})
	return found
}

// outputs counts the map outputs in the node's local dirs.
func outputs(t *testing.T, n *lab.Node) int {
	t.Helper()
	found := 0
	for _, f := range outputFiles(t, n) {
		found += f.outputs
	}
	return found
}

// shuffleFiles visits every index and data file in a node's local dirs.
func shuffleFiles(t *testing.T, n *lab.Node, visit func(path string, size int64)) {
	t.Helper()
	for _, dir := range n.LocalDirs() {
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "shuffle_") {
				return err
			}
			if !strings.HasSuffix(path, ".index") && !strings.HasSuffix(path, ".data") {
				return nil
			}
			info, err := d.Info()
			if err == nil {
				visit(path, info.Size())
			}
			return err
		}))
	}
}
