//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// build makes the lifeboat binary of this source tree, once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lifeboat-binary-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lifeboat")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "../cmd/lifeboat")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	must(t, err)
	return path
}
