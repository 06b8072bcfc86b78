//go:build integration

package integration

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/buckettest"
)

// servers are programs that end with the test.
func servers(t *testing.T) *lab.Servers {
	t.Helper()
	s := lab.NewServers(t.TempDir(), t.Output())
	t.Cleanup(s.Close)
	return s
}

func versity(t *testing.T, more ...string) *lab.Storage {
	t.Helper()
	v, err := servers(t).Versity(deadline(t, 10*time.Minute), more...) // the first time it is built
	must(t, err)
	return v
}

func front(t *testing.T, upstream string) *lab.Front {
	t.Helper()
	f, err := lab.NewFront(upstream)
	must(t, err)
	t.Cleanup(f.Close)
	return f
}

// open makes a bucket of a storage through an endpoint, which may be a front or a proxy before it.
func open(t *testing.T, v *lab.Storage, endpoint, prefix string, stall time.Duration) bucket.Bucket {
	t.Helper()
	b, err := object.Open(t.Context(), fmt.Sprintf("s3a://%s/%s", v.Bucket, prefix), object.Settings{
		Endpoint: endpoint, PathStyle: true, Stall: stall,
		Credentials: bucket.Credentials{ID: v.Key, Secret: v.Secret},
	})
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// prefixes gives every test a place of its own in one bucket.
func prefixes() func() string {
	var n atomic.Int64
	return func() string { return fmt.Sprintf("run-%d/fallback", n.Add(1)) }
}

func TestBucketS3(t *testing.T) {
	v := versity(t)
	next := prefixes()
	buckettest.Conform(t, func(t *testing.T) buckettest.Rig {
		f, prefix := front(t, v.Endpoint), next()
		return buckettest.Rig{
			Bucket: open(t, v, f.URL, prefix, 0), Other: open(t, v, v.Endpoint, prefix, 0), Hasty: open(t, v, f.URL, prefix, time.Second),
			Leftovers: func() []string {
				found, err := v.Unfinished()
				must(t, err)
				return found
			},
			Deny:     func() { f.Always(lab.Fault{Status: 403, Code: "AccessDenied"}) },
			Throttle: func() { f.Always(lab.Fault{Status: 503, Code: "SlowDown"}) },
			Stall:    func() { f.Always(lab.Fault{Stall: true}) },
			Break:    func() { f.Always(lab.Fault{Reset: true}) },
			Spoil:    func() { f.Always(lab.Fault{Flip: true}) },
			Heal:     func() { f.Script(nil) },
		}
	})
}

// stored reads an output as Spark does.
func stored(t *testing.T, b bucket.Bucket) func(migrate.OutputID) (index, data []byte, ok bool) {
	ctx := deadline(t, 10*time.Minute)
	read := func(key string) ([]byte, bool) {
		r, err := b.Get(ctx, key, 0, -1)
		if err != nil {
			return nil, false
		}
		defer r.Close()
		content, err := io.ReadAll(r)
		return content, err == nil
	}
	return func(id migrate.OutputID) (index, data []byte, ok bool) {
		if index, ok = read(object.IndexKey(id)); !ok {
			return nil, nil, false
		}
		data, _ = read(object.DataKey(id))
		return index, data, true
	}
}

func TestDestinationS3(t *testing.T) {
	v := versity(t)
	next := prefixes()
	migratetest.Conform(t, func(t *testing.T) migratetest.Harness {
		f, prefix := front(t, v.Endpoint), next()
		return migratetest.Harness{
			Destination: object.New(object.Options{Bucket: open(t, v, f.URL, prefix, 0), App: "app-1"}),
			Stored:      stored(t, open(t, v, v.Endpoint, prefix, 0)),
			Stall:       func() { f.Always(lab.Fault{Stall: true}) },
			Refuse:      func() { f.Always(lab.Fault{Status: 403, Code: "AccessDenied"}) },
			Break:       func() { f.Always(lab.Fault{Reset: true}) },
			Heal:        func() { f.Script(nil) },
		}
	})
}
