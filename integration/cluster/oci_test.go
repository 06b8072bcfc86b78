package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestImageArchive reads an archive as an importer does: every blob is what its name says, and the layers hold what they were given.
func TestImageArchive(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	write(t, filepath.Join(tree, "sub", "program"), "program", 0o755)
	if err := os.Symlink("program", filepath.Join(tree, "sub", "link")); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "image.tar")
	err := image{
		ref: "example.test/thing:1", config: imageConfig{User: "185", Entrypoint: []string{"/opt/sub/program"}},
		layers: []layer{{{to: "opt", tree: tree}}, {{to: "tmp", dir: true, mode: os.ModeSticky | 0o777}, {to: "etc/x", data: []byte("x")}, {to: "bin/y", link: "x"}}},
	}.write(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := readTar(t, mustRead(t, archive))
	var index struct{ Manifests []descriptor }
	decode(t, files["index.json"].body, &index)
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations["io.containerd.image.name"] != "example.test/thing:1" {
		t.Fatalf("index: %+v", index)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	decode(t, blob(t, files, index.Manifests[0]), &manifest)
	var config struct {
		Config imageConfig
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, blob(t, files, manifest.Config), &config)
	if config.Config.User != "185" || len(config.RootFS.DiffIDs) != 2 || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("configuration: %+v", config)
	}
	first, second := readTar(t, blob(t, files, manifest.Layers[0])), readTar(t, blob(t, files, manifest.Layers[1]))
	for name, want := range map[string]member{
		"opt/sub/program": {mode: 0o755, kind: tar.TypeReg, body: []byte("program")},
		"opt/sub/link":    {mode: 0o777, kind: tar.TypeSymlink, link: "program"},
	} {
		same(t, name, first[name], want)
	}
	for name, want := range map[string]member{
		"tmp/":  {mode: 0o1777, kind: tar.TypeDir},
		"etc/x": {mode: 0o644, kind: tar.TypeReg, body: []byte("x")},
		"bin/y": {mode: 0o777, kind: tar.TypeSymlink, link: "x"},
	} {
		same(t, name, second[name], want)
	}
}

// member is one of an archive.
type member struct {
	mode int64
	kind byte
	link string
	body []byte
}

func same(t *testing.T, name string, got, want member) {
	t.Helper()
	if got.mode != want.mode || got.kind != want.kind || got.link != want.link || !bytes.Equal(got.body, want.body) {
		t.Errorf("%s: %+v, not %+v", name, got, want)
	}
}

func readTar(t *testing.T, raw []byte) map[string]member {
	t.Helper()
	all := make(map[string]member)
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is not root's", h.Name)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = member{mode: h.Mode, kind: h.Typeflag, link: h.Linkname, body: body}
	}
}

// blob is one by its descriptor; its name must be the hash of its content.
func blob(t *testing.T, files map[string]member, d descriptor) []byte {
	t.Helper()
	body := files[blobPath(d.Digest)].body
	sum := sha256.Sum256(body)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != d.Digest || int64(len(body)) != d.Size {
		t.Errorf("the blob %s is %s, with %d bytes of %d", d.Digest, got, len(body), d.Size)
	}
	return body
}

// TestCloneStore copies a store: what is never written to is shared, and databases are not.
func TestCloneStore(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(from, "a", "layer"), "layer", 0o644)
	write(t, filepath.Join(from, "a", "meta.db"), "rows", 0o600)
	if err := cloneStore(from, to); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "a", "meta.db"), "others", 0o600)
	if got := string(mustRead(t, filepath.Join(from, "a", "meta.db"))); got != "rows" {
		t.Errorf("the store's own database was changed to %q", got)
	}
	one, err := os.Stat(filepath.Join(from, "a", "layer"))
	if err != nil {
		t.Fatal(err)
	}
	if two, err := os.Stat(filepath.Join(to, "a", "layer")); err != nil || two.Size() != one.Size() {
		t.Errorf("the copy of a layer: %v, %v", two, err)
	}
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func decode(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}
