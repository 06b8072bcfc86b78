// Command upload stores the files of a folder in a bucket with the product's own code and defaults: the process that
// the benchmark measures beside others. It stands outside the way of a rescue.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

func main() {
	url := flag.String("url", "", "the bucket, as s3a://bucket/prefix")
	endpoint := flag.String("endpoint", "", "the server, as http://127.0.0.1:7070")
	dir := flag.String("dir", "", "the folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *url, *endpoint, *dir)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "upload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, endpoint, dir string) (err error) {
	o := config.Default().Objects
	b, err := object.Open(ctx, url, object.Settings{
		Endpoint: endpoint, PathStyle: true, PartSize: int64(o.PartSize) << 20, Parallel: o.Parts, Stall: o.Stall, Timeout: o.Timeout,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.InFlight)
	for _, e := range entries {
		group.Go(func() error { return put(ctx, b, filepath.Join(dir, e.Name()), e) })
	}
	return group.Wait()
}

// file is a body.
type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

func put(ctx context.Context, b bucket.Bucket, path string, e fs.DirEntry) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return b.Put(ctx, e.Name(), file{f, st.Size()}, bucket.PutOptions{})
}
