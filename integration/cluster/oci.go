package cluster

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// image is a container image that is made of files, without an engine: an archive in the layout of the Open Container
// Initiative's image specification.
type image struct {
	ref    string // as lab.local/spark:3.5.9
	config imageConfig
	layers []layer
}

// imageConfig is what the specification calls the execution parameters of an image.
type imageConfig struct {
	User       string   `json:",omitempty"`
	WorkingDir string   `json:",omitempty"`
	Entrypoint []string `json:",omitempty"`
	Cmd        []string `json:",omitempty"`
	Env        []string `json:",omitempty"`
}

// layer is a list of what is in it, in this order.
type layer []entry

// entry is a folder's content, a file, a link or an empty folder.
type entry struct {
	to   string      // path in the image
	tree string      // a folder or file of this machine that is put there
	data []byte      // or the content of a file
	link string      // or where a link leads to
	dir  bool        // or an empty folder
	mode fs.FileMode // of a file or folder; 0: as usual
}

// packed is a layer as it goes into an archive.
type packed struct {
	file   *os.File
	digest string
	size   int64
}

// stamp is the time of files that don't come from this machine. Those that do keep theirs: archives of Java's classes name the times
// of jars.
func stamp() time.Time { return time.Unix(1, 0) }

// write makes the archive.
func (i image) write(file string) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	if err := addFile(w, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	var layers []packed
	for _, l := range i.layers {
		p, err := l.pack(filepath.Dir(file))
		if err != nil {
			return fmt.Errorf("image %s: %w", i.ref, err)
		}
		layers = append(layers, p)
		if err := p.addTo(w); err != nil {
			return err
		}
	}
	return errors.Join(i.describe(w, layers), w.Close())
}

// The media types of the specification.
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// descriptor points at a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// describe adds the image's configuration, its manifest and the index.
func (i image) describe(w *tar.Writer, layers []packed) error {
	type object map[string]any
	var blobs []descriptor
	var diffs []string
	for _, l := range layers {
		blobs = append(blobs, descriptor{MediaType: typeLayer, Digest: l.digest, Size: l.size})
		diffs = append(diffs, l.digest)
	}
	config, err := addBlob(w, typeConfig, object{
		"architecture": "amd64", "os": "linux", "config": i.config, "rootfs": object{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		return err
	}
	manifest, err := addBlob(w, typeManifest, object{"schemaVersion": 2, "mediaType": typeManifest, "config": config, "layers": blobs})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"io.containerd.image.name": i.ref} // containerd's importer names it so
	index, err := json.Marshal(object{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	return addFile(w, "index.json", index)
}

func addBlob(w *tar.Writer, kind string, doc any) (descriptor, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return descriptor{}, err
	}
	sum := sha256.Sum256(raw)
	d := descriptor{MediaType: kind, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(raw))}
	return d, addFile(w, blobPath(d.Digest), raw)
}

// blobPath is where the layout keeps a blob.
func blobPath(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }

func addFile(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: stamp(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// addTo copies the layer into an archive and lets its file go.
func (p packed) addTo(w *tar.Writer) (err error) {
	defer func() { err = errors.Join(err, p.file.Close(), os.Remove(p.file.Name())) }()
	if err := w.WriteHeader(&tar.Header{Name: blobPath(p.digest), Mode: 0o644, Size: p.size, ModTime: stamp(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, p.file)
	return err
}

// pack writes the layer into a temporary file: what it is called in the archive is known only then.
func (l layer) pack(dir string) (p packed, err error) {
	if p.file, err = os.CreateTemp(dir, "layer-"); err != nil {
		return p, err
	}
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(p.file, sum))
	for _, e := range l {
		if err := e.add(w); err != nil {
			return p, errors.Join(err, p.file.Close(), os.Remove(p.file.Name()))
		}
	}
	if err := w.Close(); err != nil {
		return p, err
	}
	p.digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	p.size, err = p.file.Seek(0, io.SeekCurrent)
	return p, err
}

// add writes an entry, as root's.
func (e entry) add(w *tar.Writer) error {
	switch {
	case e.tree != "":
		return filepath.WalkDir(e.tree, func(file string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(e.tree, file)
			if err != nil {
				return err
			}
			return addExisting(w, path.Join(e.to, rel), file)
		})
	case e.dir:
		return writeEntry(w, tar.Header{Typeflag: tar.TypeDir, Name: e.to, Mode: tarMode(cmp.Or(e.mode, 0o755))}, nil)
	case e.link != "":
		return writeEntry(w, tar.Header{Typeflag: tar.TypeSymlink, Name: e.to, Linkname: e.link, Mode: 0o777}, nil)
	default:
		h := tar.Header{Typeflag: tar.TypeReg, Name: e.to, Mode: tarMode(cmp.Or(e.mode, 0o644)), Size: int64(len(e.data))}
		return writeEntry(w, h, bytes.NewReader(e.data))
	}
}

// addExisting adds a file, folder or link of this machine.
func addExisting(w *tar.Writer, to, file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	clean := tar.Header{Typeflag: h.Typeflag, Name: to, Linkname: link, Mode: h.Mode, Size: h.Size, ModTime: h.ModTime.Truncate(time.Second)}
	if !info.Mode().IsRegular() {
		return writeEntry(w, clean, nil)
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeEntry(w, clean, in)
}

func writeEntry(w *tar.Writer, h tar.Header, body io.Reader) error {
	h.Format = tar.FormatPAX
	if h.ModTime.IsZero() {
		h.ModTime = stamp()
	}
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if err := w.WriteHeader(&h); err != nil || body == nil {
		return err
	}
	_, err := io.Copy(w, body)
	return err
}

// tarMode are the bits of a mode as tar has them: the sticky bit is elsewhere in Go's.
func tarMode(m fs.FileMode) int64 {
	bits := int64(m.Perm())
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}
