//go:build integration

// Package image builds the container image as people build it, from a base that stands in for theirs, and looks at it. It
// stands beside the way of a rescue.
package image

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/chart"
	"github.com/lifeboat/lifeboat/integration/tools"
)

const (
	maxImage    = 40 << 20 // bytes of all files
	version     = "v0.0.0-lane"
	certificate = "etc/ssl/certs/ca-certificates.crt"
)

// builder is buildah with a store of its own.
type builder struct {
	t    *testing.T
	args []string // the program, and what stands before a command
	root string   // of this repository
}

func newBuilder(t *testing.T) *builder {
	t.Helper()
	folder, err := tools.Path(t.Context(), "buildah", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	root, err := chart.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := t.TempDir()
	return &builder{t: t, root: root, args: []string{
		filepath.Join(folder, "bin", "buildah"), "--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run"),
	}}
}

// run returns the last line that a command prints.
func (b *builder) run(dir string, args ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%v: %v\n%s%s", args, err, out.Bytes(), errs.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[len(lines)-1]
}

func (b *builder) buildah(args ...string) string {
	b.t.Helper()
	return b.run(b.root, append(append([]string{}, b.args...), args...)...)
}

// base makes an image with the certificates that a real one brings.
func (b *builder) base(name string) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "ca-certificates.crt")
	if err := os.WriteFile(file, []byte("stand-in\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	container := b.buildah("from", "scratch")
	b.buildah("copy", container, file, "/"+certificate)
	b.buildah("commit", container, name)
	b.buildah("rm", container)
}

// unpack is a folder with the files of an image.
func (b *builder) unpack(image string) string {
	b.t.Helper()
	container := b.buildah("from", "--pull-never", image)
	b.t.Cleanup(func() { // the test's own context has ended
		_ = exec.CommandContext(context.Background(), b.args[0], append(b.args[1:], "rm", container)...).Run()
	})
	return b.buildah("mount", container)
}

type imageConfig struct {
	OCIv1 struct {
		Config struct {
			User            string
			Entrypoint, Cmd []string
			Labels          map[string]string
		}
	}
}

func (b *builder) config(image string) (c imageConfig) {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), b.args[0], append(b.args[1:], "inspect", "--type", "image", image)...).Output()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &c); err != nil {
		b.t.Fatal(err)
	}
	return c
}

func TestImage(t *testing.T) {
	b := newBuilder(t)
	b.base("localhost/base:1")
	const image = "localhost/lifeboat:lane"
	b.run(b.root, "make", "image", "BUILDER="+strings.Join(b.args, " "), "BUILDFLAGS=--isolation chroot --pull-never",
		"BASE=localhost/base:1", "IMAGE="+image, "VERSION="+version, "REVISION=0a1b2c")
	files := b.unpack(image)

	t.Run("size", func(t *testing.T) {
		size := sizeOf(t, files)
		t.Logf("%.1f MiB", float64(size)/(1<<20))
		if size > maxImage {
			t.Errorf("%d bytes, more than %d", size, maxImage)
		}
	})
	t.Run("base", func(t *testing.T) {
		if got, err := os.ReadFile(filepath.Join(files, certificate)); err != nil || string(got) != "stand-in\n" {
			t.Errorf("not made from the base that was given: %q %v", got, err)
		}
	})
	t.Run("configuration", func(t *testing.T) { checkConfig(t, b.config(image)) })
	t.Run("binary", func(t *testing.T) {
		for _, user := range []uint32{0, 185} {
			if out := runIn(t, files, user); !strings.HasPrefix(out, "lifeboat ") {
				t.Errorf("user %d: %q", user, out)
			}
		}
	})
	t.Run("bill of materials", func(t *testing.T) { checkMaterials(t, files) })
}

func checkConfig(t *testing.T, c imageConfig) {
	config := c.OCIv1.Config
	if config.User != "0:0" || fmt.Sprint(config.Entrypoint, config.Cmd) != "[/usr/bin/lifeboat] [agent]" {
		t.Errorf("%+v", config)
	}
	for key, want := range map[string]string{
		"title": "lifeboat", "licenses": "Apache-2.0", "version": version, "revision": "0a1b2c", "source": "", "description": "", "documentation": "",
	} {
		got := config.Labels["org.opencontainers.image."+key]
		if got == "" || want != "" && got != want {
			t.Errorf("label %s: %q", key, got)
		}
	}
}

// sizeOf is the sum of all files.
func sizeOf(t *testing.T, root string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// runIn runs the image's program where nothing but the image's files is there.
func runIn(t *testing.T, root string, user uint32) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/lifeboat", "version")
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("user %d: %v: %s", user, err, out)
	}
	return string(out)
}

// checkMaterials holds the bill against what the Go tool has written into the binary.
func checkMaterials(t *testing.T, root string) {
	data, err := os.ReadFile(filepath.Join(root, "usr", "share", "lifeboat", "sbom.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(data, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || bill.Metadata.Component.Name != "github.com/lifeboat/lifeboat" || bill.Metadata.Component.Version != version {
		t.Errorf("%s %s of %+v", bill.BOMFormat, bill.SpecVersion, bill.Metadata.Component)
	}
	listed := map[string]bool{}
	for _, c := range bill.Components {
		listed[c.Name+" "+c.Version] = true
	}
	info, err := buildinfo.ReadFile(filepath.Join(root, "usr", "bin", "lifeboat"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if !listed[m.Path+" "+m.Version] {
			t.Errorf("%s %s is not in the bill of materials", m.Path, m.Version)
		}
	}
	if len(info.Deps) == 0 || !listed["std "+info.GoVersion] {
		t.Errorf("%d modules, Go %s: %v", len(info.Deps), info.GoVersion, listed)
	}
}
