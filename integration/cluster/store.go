package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/integration/kubelab"
)

// A store is containerd's folder with all images imported and unpacked. It is made once and kept in the cache under a name that says
// what is in it; each node gets a copy made of hard links: containerd replaces files, and never writes into those of an image.

// imageStore returns the folder of the store with the images of some versions of Spark, and makes what is missing.
func imageStore(ctx context.Context, p parts, versions []string, log io.Writer) (string, error) {
	cache := filepath.Dir(p.containers)
	keys := []string{p.key("")}
	for _, v := range versions {
		keys = append(keys, p.key(v))
	}
	folder := filepath.Join(cache, "images-"+strings.Join(keys, "-"))
	lock, err := lockFile(ctx, filepath.Join(cache, ".images.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	now := time.Now()
	if err := os.Chtimes(folder, now, now); err == nil {
		return folder, nil
	}
	if err := removeUnused(cache, now.Add(-storeKept)); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, ".images-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	begin := time.Now()
	if err := fillStore(ctx, p, versions, work, log); err != nil {
		return "", err
	}
	fmt.Fprintf(log, "[cluster] images of Spark %s are there after %v\n", strings.Join(versions, ", "), time.Since(begin).Round(time.Second))
	return folder, os.Rename(filepath.Join(work, "root"), folder)
}

// storeKept is how long a store stays in the cache after its last use: two gigabytes.
const storeKept = 3 * 24 * time.Hour

// removeUnused removes the stores that nobody has used since a time. The caller holds their lock.
func removeUnused(cache string, since time.Time) error {
	found, err := filepath.Glob(filepath.Join(cache, "images-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, folder := range found {
		if info, err := os.Stat(folder); err == nil && info.ModTime().Before(since) {
			errs = append(errs, os.RemoveAll(folder))
		}
	}
	return errors.Join(errs...)
}

// lockFile waits until nobody else holds the lock; closing it lets it go.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fillStore makes the images and lets a containerd of its own unpack them into work/root.
func fillStore(ctx context.Context, p parts, versions []string, work string, log io.Writer) (err error) {
	images, err := p.images(ctx, versions, work)
	if err != nil {
		return err
	}
	socket := filepath.Join(work, "sock")
	config := filepath.Join(work, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(work, "root"), filepath.Join(work, "state"), socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	daemon, err := kubelab.Run(kubelab.Spec{
		Args: []string{filepath.Join(p.containers, "bin", "containerd"), "-c", config}, Dir: work, Log: filepath.Join(work, "log"),
		Env: containerEnv(p.containers), Cloneflags: unix.CLONE_NEWNS,
	})
	if err != nil {
		return err
	}
	defer func() {
		_ = daemon.Signal(syscall.SIGTERM)
		select {
		case <-daemon.Done():
		case <-time.After(30 * time.Second):
			daemon.Kill()
		}
	}()
	ctr := func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(p.containers, "bin", "ctr"), append([]string{"-a", socket, "-n", "k8s.io"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	err = daemon.WaitFor(ctx, "containerd answers", func(ctx context.Context) (bool, error) { return ctr(ctx, "version") == nil, nil })
	if err != nil {
		return err
	}
	for _, i := range images {
		fmt.Fprintf(log, "[cluster] making the image %s\n", i.ref)
		archive := filepath.Join(work, "image.tar")
		if err := i.write(archive); err != nil {
			return err
		}
		if err := ctr(ctx, "images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// images are all of them.
func (p parts) images(ctx context.Context, versions []string, work string) ([]image, error) {
	small, err := p.busybox(ctx)
	if err != nil {
		return nil, err
	}
	all := []image{small}
	for _, v := range versions {
		dir := filepath.Join(work, "job-"+v)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		if err := p.makeJob(ctx, v, dir); err != nil {
			return nil, err
		}
		i, err := p.sparkImage(ctx, v, dir)
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// containerEnv lets containerd find its own programs before the machine's.
func containerEnv(containers string) []string {
	return []string{"PATH=" + filepath.Join(containers, "bin") + ":" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + filepath.Join(containers, "lib")}
}

// cloneStore copies a store: its databases, which are written to, byte by byte, and all other files by hard link.
func cloneStore(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if err := os.MkdirAll(target, 0o700); err != nil {
				return err
			}
			return os.Chmod(target, info.Mode())
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case info.Mode().IsRegular() && !slices.Contains([]string{".db"}, filepath.Ext(path)):
			if err := os.Link(path, target); err == nil || !errors.Is(err, unix.EXDEV) {
				return err
			}
			return copyFile(path, target, info.Mode())
		case info.Mode().IsRegular():
			return copyFile(path, target, info.Mode())
		}
		return nil // a socket or a device of a daemon that has ended
	})
}

func copyFile(from, to string, mode fs.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
