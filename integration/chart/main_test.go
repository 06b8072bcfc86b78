//go:build integration

package chart

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/tools"
)

// node is a part of a document.
type node = map[string]any

var update = flag.Bool("update", false, "write the manifests anew")

// What all tests here need: helm over the chart, kubeconform, and the schemas that it reads.
var (
	renderer *Renderer
	conform  string
	schemas  string
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // the tools may have to be compiled
	defer cancel()
	var err error
	if renderer, err = New(ctx, os.Stderr); err != nil {
		return 1, err
	}
	folder, err := tools.Path(ctx, "kubeconform", os.Stderr)
	if err != nil {
		return 1, err
	}
	conform = filepath.Join(folder, "kubeconform")
	if schemas, err = tools.Path(ctx, "schemas", os.Stderr); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// render is what a cluster gets for these values.
func render(t *testing.T, values node) []byte {
	t.Helper()
	out, err := renderer.Manifests(t.Context(), Release{Values: values})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// objects are the documents of a manifest by kind.
func objects(t *testing.T, manifest []byte) map[string][]node {
	t.Helper()
	list, err := Objects(manifest)
	if err != nil {
		t.Fatalf("%v in\n%s", err, manifest)
	}
	all := map[string][]node{}
	for _, o := range list {
		kind := o["kind"].(string)
		all[kind] = append(all[kind], o)
	}
	return all
}

// check holds a manifest against the schemas.
func check(t *testing.T, manifest []byte) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), conform, "-strict", "-summary",
		"-schema-location", schemas+"/{{.ResourceKind}}{{.KindSuffix}}.json")
	cmd.Stdin = bytes.NewReader(manifest)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if !strings.Contains(string(out), "Skipped: 0") || strings.Contains(string(out), "Valid: 0") {
		return fmt.Errorf("not everything was looked at: %s", out)
	}
	return nil
}

// at goes down a document: keys, and indexes of lists.
func at(t *testing.T, value any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := value.(node)
			value = m[step]
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil
			}
			value = list[step]
		}
	}
	return value
}
