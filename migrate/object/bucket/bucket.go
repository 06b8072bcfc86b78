// Package bucket is what the rest of Lifeboat knows of object storage: a handful of operations on keys, and
// errors that say what a caller may do. Copies that no peer can take go through it; the packages below this one
// each speak to one kind of storage.
package bucket

import (
	"context"
	"io"
	"time"
)

// Body is what is stored. Reads at different offsets may run at the same time, and the same bytes may be read
// more than once. One that is also an *os.File or offers its section can be sent without much memory.
type Body interface {
	io.ReaderAt
	Size() int64 // bytes
}

// Object is what a bucket says about one of its objects.
type Object struct {
	Key      string // relative to the bucket's own prefix, with "/" between folders
	Size     int64  // bytes
	Modified time.Time
}

// PutOptions of one Put.
type PutOptions struct {
	// IfAbsent fails with Exists when there is such an object already. Of several writers at once exactly one
	// succeeds. After an error of another kind the object may be there all the same: who puts it again and gets
	// Exists has to read whose it is.
	IfAbsent bool
}

// Bucket is one place in object storage: a bucket or container with a prefix, or a folder. All methods may be
// called by many goroutines at once. Every call ends soon after its ctx, and a call whose ctx has no deadline gets
// one of its own for each request, so that a black hole costs seconds. Errors are an *Error.
type Bucket interface {
	// URL is how users write it, as s3a://bucket/prefix: without credentials, query or slash at its end. Two
	// buckets with one URL are the same place.
	URL() string
	// Put stores an object whole, with a checksum that the server verifies, or not at all: nobody ever reads a
	// part of it. It replaces an object of the same key unless o says otherwise. It is safe to repeat.
	Put(ctx context.Context, key string, body Body, o PutOptions) error
	// Get reads length bytes from offset on; a negative length means the rest. The caller closes the reader,
	// whose error is an *Error too; it never ends early without one.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat says what is known of one object.
	Stat(ctx context.Context, key string) (Object, error)
	// List calls each for every object whose key begins with prefix, page by page, and ends with the first
	// error that it returns. The order is the storage's.
	List(ctx context.Context, prefix string, each func(Object) error) error
	// Delete removes one object; that it is not there is no error.
	Delete(ctx context.Context, key string) error
	// Close lets go of connections.
	Close() error
}
