package lab

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
)

// Storage is an object storage with one bucket.
type Storage struct {
	Endpoint    string // http://127.0.0.1:PORT
	Bucket      string
	Key, Secret string // credentials
	Folder      string // where the server keeps objects
	proc        *process
}

// The bucket of every Storage, and who may use it.
const (
	storageBucket = "shuffle"
	storageKey    = "lifeboat-key"
	storageSecret = "lifeboat-secret"
)

// Versity starts versitygw, an S3 server over a folder, with one bucket. More arguments are the server's own.
func (s *Servers) Versity(ctx context.Context, more ...string) (*Storage, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	folder, err := s.folder("s3")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(folder, storageBucket), 0o755); err != nil {
		return nil, err
	}
	v := &Storage{Endpoint: "http://127.0.0.1:" + port, Bucket: storageBucket, Key: storageKey, Secret: storageSecret, Folder: folder}
	args := append([]string{"--port", "127.0.0.1:" + port, "--keep-alive", "--quiet", "--health", "/health"}, more...)
	v.proc, err = s.start(ctx, server{
		tool: "versitygw", program: "versitygw", args: append(args, "posix", folder),
		env: []string{"ROOT_ACCESS_KEY=" + storageKey, "ROOT_SECRET_KEY=" + storageSecret},
		answers: func(ctx context.Context) bool {
			return call(ctx, http.MethodGet, v.Endpoint+"/health", nil, nil) == nil
		},
	})
	return v, err
}

// Kill ends the server as a lost machine would.
func (v *Storage) Kill() { v.proc.kill() }

// Unfinished are the files of uploads that were neither completed nor given up.
func (v *Storage) Unfinished() ([]string, error) {
	var found []string
	root := filepath.Join(v.Folder, v.Bucket, ".sgwtmp")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path)
		}
		return nil // what has just been removed is no error
	})
	return found, err
}
