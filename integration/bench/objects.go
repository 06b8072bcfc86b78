package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/integration/tools"
)

// uploads are the files that are stored in an object storage by each program. The short ones take more turns: what
// else happens on the machine weighs more there.
var uploads = []upload{
	{name: "2000x16KiB", files: 2000, bytes: 16 << 10, turns: 3},
	{name: "200x1MiB", files: 200, bytes: 1 << 20, turns: 3},
	{name: "4x512MiB", files: 4, bytes: 512 << 20, turns: 1},
}

type upload struct {
	name  string
	files int
	bytes int64
	turns int // of each program for each of the runs that were asked for
}

// uploader is a program that stores a folder.
type uploader struct {
	name string
	args func(storage *lab.Storage, dir, prefix string) []string
}

// uploaded is one run of one program.
type uploaded struct {
	upload
	by   string
	took time.Duration // of the whole process
	cpu  time.Duration // of it, user and system
	peak int64         // bytes
}

// rcloneTransfers is as many as the product has under way; rclone's own default is 4.
const rcloneTransfers = "16"

// uploaders are ours and the others, each with its own defaults where nothing else is said.
func (b *bench) uploaders(ctx context.Context) ([]uploader, error) {
	ours := filepath.Join(b.dir, "upload")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", ours,
		"github.com/lifeboat/lifeboat/integration/bench/upload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	s5cmd, err := tools.Path(ctx, "s5cmd", os.Stderr)
	if err != nil {
		return nil, err
	}
	rclone, err := tools.Path(ctx, "rclone", os.Stderr)
	if err != nil {
		return nil, err
	}
	return []uploader{
		{lifeboat, func(s *lab.Storage, dir, prefix string) []string {
			return []string{ours, "-endpoint", s.Endpoint, "-url", "s3a://" + s.Bucket + "/" + prefix, "-dir", dir}
		}},
		{"s5cmd", func(s *lab.Storage, dir, prefix string) []string {
			return []string{filepath.Join(s5cmd, "s5cmd"), "--endpoint-url", s.Endpoint, "--log", "error",
				"cp", dir + "/", "s3://" + s.Bucket + "/" + prefix + "/"}
		}},
		{"rclone", func(s *lab.Storage, dir, prefix string) []string {
			return []string{filepath.Join(rclone, "rclone"), "copy", dir, ":s3:" + s.Bucket + "/" + prefix, "--config", "/dev/null",
				"--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", s.Endpoint, "--s3-region", "us-east-1",
				"--s3-force-path-style", "--s3-no-check-bucket", "--transfers", rcloneTransfers}
		}},
	}, nil
}

// watchUploads measures all programs in turn, against one server.
func (b *bench) watchUploads(ctx context.Context) error {
	programs, err := b.uploaders(ctx)
	if err != nil {
		return err
	}
	servers := lab.NewServers(b.dir, nil)
	defer servers.Close()
	storage, err := servers.Versity(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.w, "\nthe same files into the same S3 server, each program a process of its own; load before: %s\n\n", load())
	for _, u := range uploads {
		if !slices.Contains(strings.Split(b.uploads, ","), u.name) {
			continue
		}
		if err := b.watchUpload(ctx, storage, programs, u); err != nil {
			return fmt.Errorf("%s: %w", u.name, err)
		}
	}
	return nil
}

// watchUpload lets the programs take turns; each round begins with another one.
func (b *bench) watchUpload(ctx context.Context, storage *lab.Storage, programs []uploader, u upload) (err error) {
	dir := filepath.Join(b.dir, u.name)
	if err := u.write(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for i := range b.options.runs * u.turns {
		for j := range programs {
			p := programs[(i+j)%len(programs)]
			m, err := b.upload(ctx, storage, p, u, dir)
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", p.name, i+1, err)
			}
			b.stored = append(b.stored, m)
			fmt.Fprintf(b.w, "%-10s %-8s run %d: %6.2f s (%.0f MB/s), CPU %.2f s, peak RSS %s; load %s\n", u.name, p.name, i+1, m.took.Seconds(),
				float64(u.files)*float64(u.bytes)/1e6/m.took.Seconds(), m.cpu.Seconds(), report.Bytes(m.peak), load())
		}
	}
	return nil
}

// write makes the files, of bytes that can't be compressed.
func (u upload) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	source := rand.NewChaCha8([32]byte{1})
	for i := range u.files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("shuffle_0_%d_0.data", i)))
		if err != nil {
			return err
		}
		if _, err := io.CopyN(f, source, u.bytes); err != nil {
			f.Close()
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// upload is one run; what it stored is looked at, and removed.
func (b *bench) upload(ctx context.Context, storage *lab.Storage, p uploader, u upload, dir string) (m uploaded, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	syscall.Sync() // what the run before left to be written is none of this one's business
	prefix := fmt.Sprintf("run-%d", len(b.stored))
	target := filepath.Join(storage.Folder, storage.Bucket, prefix)
	defer func() { err = errors.Join(err, os.RemoveAll(target)) }()
	args := p.args(storage, dir, prefix)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+storage.Key, "AWS_SECRET_ACCESS_KEY="+storage.Secret, "AWS_REGION=us-east-1")
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return m, err
	}
	peak := peakOf(cmd.Process.Pid)
	err = cmd.Wait()
	m = uploaded{upload: u, by: p.name, took: time.Since(begin), peak: peak()}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err != nil {
		return m, fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	return m, u.check(target)
}

// peakOf looks at a process until the returned function is called, which says how much memory it had at the most.
// The rusage of a child does not serve: it begins with the memory of who started it.
func peakOf(pid int) func() int64 {
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			if usage, err := lab.UsageOf(pid); err == nil {
				most = max(most, usage.PeakRSS)
			}
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-peak
	}
}

// check wants every file whole at the server.
func (u upload) check(target string) error {
	entries, err := os.ReadDir(target)
	if err != nil {
		return err
	}
	if len(entries) != u.files {
		return fmt.Errorf("%d of %d objects are there", len(entries), u.files)
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || st.Size() != u.bytes {
			return fmt.Errorf("%s is not whole: %w", e.Name(), err)
		}
	}
	return nil
}

// uploadResults compare the product with each of the others.
func (b *bench) uploadResults(add func(name, unit string, ours, other float64, peer string)) {
	for _, u := range uploads {
		seconds := func(m uploaded) float64 { return m.took.Seconds() }
		cpu := func(m uploaded) float64 { return m.cpu.Seconds() }
		mebibytes := func(m uploaded) float64 { return float64(m.peak) / (1 << 20) }
		for _, other := range []string{"s5cmd", "rclone"} {
			if len(b.uploaded(u, other, seconds)) == 0 {
				continue
			}
			add("upload-"+u.name+"-"+other, "s", median(b.uploaded(u, lifeboat, seconds)), median(b.uploaded(u, other, seconds)), other)
			add("upload-cpu-"+u.name+"-"+other, "s", median(b.uploaded(u, lifeboat, cpu)), median(b.uploaded(u, other, cpu)), other)
			add("upload-peak-rss-"+u.name+"-"+other, "MiB", median(b.uploaded(u, lifeboat, mebibytes)), median(b.uploaded(u, other, mebibytes)), other)
		}
	}
}

func (b *bench) uploaded(u upload, by string, of func(uploaded) float64) []float64 {
	var list []float64
	for _, m := range b.stored {
		if m.upload == u && m.by == by {
			list = append(list, of(m))
		}
	}
	return list
}
