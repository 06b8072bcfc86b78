//go:build integration

package integration

import (
	"net/http"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/buckettest"
)

// cloud is an object storage other than S3: how it is opened, and how it says what S3 says in XML.
type cloud struct {
	*lab.Storage
	open             func(t *testing.T, endpoint, prefix string, stall time.Duration) bucket.Bucket
	denied, throttle lab.Fault
	spoil            func(n int, r *http.Request) lab.Fault
}

func opened(t *testing.T, url string, s object.Settings) bucket.Bucket {
	t.Helper()
	b, err := object.Open(t.Context(), url, s)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

func gcsCloud(t *testing.T) cloud {
	t.Helper()
	v, err := servers(t).GCS(deadline(t, 10*time.Minute)) // the first time it is built
	must(t, err)
	return cloud{
		Storage: v, denied: lab.Fault{Status: 403}, throttle: lab.Fault{Status: 429},
		open: func(t *testing.T, endpoint, prefix string, stall time.Duration) bucket.Bucket {
			return opened(t, "gs://"+v.Bucket+"/"+prefix, object.Settings{Endpoint: endpoint, Stall: stall})
		},
		spoil: func(_ int, r *http.Request) lab.Fault {
			if r.Method == http.MethodPost && r.URL.Query().Get("uploadType") == "resumable" {
				return lab.Fault{} // only metadata
			}
			return lab.Fault{Flip: true, FlipAt: 700} // behind the metadata
		},
	}
}

func azureCloud(t *testing.T) cloud {
	t.Helper()
	v, err := servers(t).Azurite(deadline(t, 10*time.Minute)) // the first time it is downloaded
	must(t, err)
	return cloud{
		Storage: v, denied: lab.Fault{Status: 403, Code: "AuthorizationFailure"}, throttle: lab.Fault{Status: 503, Code: "ServerBusy"},
		open: func(t *testing.T, endpoint, prefix string, stall time.Duration) bucket.Bucket {
			return opened(t, "abfss://"+v.Bucket+"@"+v.Key+".dfs.core.windows.net/"+prefix, object.Settings{
				Endpoint: endpoint + "/" + v.Key, Stall: stall, Credentials: bucket.Credentials{Secret: v.Secret},
			})
		},
		spoil: func(int, *http.Request) lab.Fault { return lab.Fault{Flip: true} },
	}
}

// direct is the server's address without the account, which a front has no part of.
func (c cloud) direct() string {
	if c.Secret == "" {
		return c.Endpoint
	}
	return c.Endpoint[:len(c.Endpoint)-len(c.Key)-1]
}

func conformBucket(t *testing.T, c cloud) {
	t.Helper()
	next := prefixes()
	buckettest.Conform(t, func(t *testing.T) buckettest.Rig {
		f, prefix := front(t, c.direct()), next()
		return buckettest.Rig{
			Bucket: c.open(t, f.URL, prefix, 0), Other: c.open(t, c.direct(), prefix, 0), Hasty: c.open(t, f.URL, prefix, time.Second),
			Deny:     func() { f.Always(c.denied) },
			Throttle: func() { f.Always(c.throttle) },
			Stall:    func() { f.Always(lab.Fault{Stall: true}) },
			Break:    func() { f.Always(lab.Fault{Reset: true}) },
			Spoil:    func() { f.Script(c.spoil) },
			Heal:     func() { f.Script(nil) },
		}
	})
}

func TestBucketGCS(t *testing.T)   { conformBucket(t, gcsCloud(t)) }
func TestBucketAzure(t *testing.T) { conformBucket(t, azureCloud(t)) }

func conformDestination(t *testing.T, c cloud) {
	t.Helper()
	next := prefixes()
	migratetest.Conform(t, func(t *testing.T) migratetest.Harness {
		f, prefix := front(t, c.direct()), next()
		return migratetest.Harness{
			Destination: object.New(object.Options{Bucket: c.open(t, f.URL, prefix, 0), App: "app-1"}),
			Stored:      stored(t, c.open(t, c.direct(), prefix, 0)),
			Stall:       func() { f.Always(lab.Fault{Stall: true}) },
			Refuse:      func() { f.Always(c.denied) },
			Break:       func() { f.Always(lab.Fault{Reset: true}) },
			Heal:        func() { f.Script(nil) },
		}
	})
}

func TestDestinationGCS(t *testing.T)   { conformDestination(t, gcsCloud(t)) }
func TestDestinationAzure(t *testing.T) { conformDestination(t, azureCloud(t)) }
