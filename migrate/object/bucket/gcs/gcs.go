// Package gcs is a bucket in Google Cloud Storage, under gs://bucket/prefix. It speaks the JSON API over plain HTTP:
// Google's own client costs the agent about 20 MB of memory, most of it for gRPC.
//
// What it knows of the service is in Google's pages "Upload objects", "Resumable uploads", "Request preconditions"
// and "HTTP status and error codes for JSON" (cloud.google.com/storage/docs).
package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Endpoint is Google's.
const Endpoint = "https://storage.googleapis.com"

// emulator is the environment variable that Google's clients read too: an endpoint without credentials.
const emulator = "STORAGE_EMULATOR_HOST"

// Options of a bucket.
type Options struct {
	Place bucket.Place // its Authority is the bucket's name
	// Settings: the endpoint is the part before "/storage/v1". Over plain http no credentials are ever sent. Objects
	// up to PartSize are sent in one request, larger ones so that they can be resumed.
	Settings bucket.Settings
}

// Bucket is a bucket.Bucket.
type Bucket struct {
	place    bucket.Place
	settings bucket.Settings
	endpoint string // without slash at its end
	client   *http.Client
	tokens   *tokens // nil: none are sent
	buffers  bucket.Buffers
}

var _ bucket.Bucket = (*Bucket)(nil)

// Open finds credentials: those in the settings, or the default ones of the environment (a file named by
// GOOGLE_APPLICATION_CREDENTIALS, gcloud's own, the metadata server). It sends nothing to the bucket.
func Open(ctx context.Context, o Options) (*Bucket, error) {
	b := &Bucket{
		place: o.Place, settings: o.Settings.Defaults(),
		client: &http.Client{
			Transport:     bucket.NewTransport(),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	fail := func(kind bucket.Kind, err error) (*Bucket, error) { return nil, o.Place.Fail("open", "", kind, err) }
	if name := o.Place.Authority; name == "" || strings.ContainsAny(name, "@%/") {
		return fail(bucket.Misplaced, errors.New("want gs://bucket/prefix"))
	}
	endpoint, secure, err := endpointOf(b.settings.Endpoint, os.Getenv(emulator))
	if err != nil {
		return fail(bucket.Misplaced, err)
	}
	b.endpoint = endpoint
	if secure {
		w := bucket.Watch(ctx, b.settings)
		defer w.Stop()
		if b.tokens, err = newTokens(w.Context(), b.settings.Credentials); err != nil {
			return fail(bucket.Denied, w.Explain(err))
		}
	}
	return b, nil
}

// endpointOf says where requests go, and whether credentials may go with them.
func endpointOf(configured, emulated string) (endpoint string, secure bool, err error) {
	switch {
	case configured != "":
	case emulated != "":
		if configured = emulated; !strings.Contains(configured, "://") {
			configured = "http://" + configured
		}
	default:
		configured = Endpoint
	}
	u, err := bucket.CheckEndpoint(configured)
	if err != nil {
		return "", false, err
	}
	return strings.TrimRight(configured, "/"), u.Scheme == "https" && configured != emulated, nil
}

// URL is gs://bucket/prefix.
func (b *Bucket) URL() string { return b.place.String() }

// Close lets go of connections.
func (b *Bucket) Close() error {
	b.client.CloseIdleConnections()
	return nil
}

// resource is what the JSON API says of an object.
type resource struct {
	Name    string    `json:"name"`
	Size    int64     `json:"size,string"`
	Updated time.Time `json:"updated"`
}

// resourceFields limits answers to that.
const resourceFields = "name,size,updated"

// Stat says what is known of one object.
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Object, error) {
	name, err := b.place.Key(key)
	if err != nil {
		return bucket.Object{}, err
	}
	var r resource
	err = b.ask(ctx, &call{method: http.MethodGet, url: b.object(name) + "?fields=" + resourceFields}, &r)
	if err == nil && r.Name != name {
		err = fmt.Errorf("the answer is about %.100q", r.Name)
	}
	if err != nil {
		return bucket.Object{}, b.fail("stat", key, err)
	}
	return bucket.Object{Key: key, Size: r.Size, Modified: r.Updated}, nil
}

// Delete removes one object.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	name, err := b.place.Key(key)
	if err != nil {
		return err
	}
	err = b.ask(ctx, &call{method: http.MethodDelete, url: b.object(name)}, nil)
	if kindOf(err) == bucket.NotFound {
		return nil
	}
	return b.fail("delete", key, err)
}

// object is the address of an object's resource.
func (b *Bucket) object(name string) string {
	return b.objects() + "/" + url.PathEscape(name)
}

// objects is the address of the bucket's list.
func (b *Bucket) objects() string {
	return b.endpoint + "/storage/v1/b/" + url.PathEscape(b.place.Authority) + "/o"
}

// uploads is the address that takes content.
func (b *Bucket) uploads() string {
	return b.endpoint + "/upload/storage/v1/b/" + url.PathEscape(b.place.Authority) + "/o"
}

func (b *Bucket) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	var (
		api   *apiError
		known *bucket.Error
	)
	if errors.As(err, &api) && !errors.As(err, &known) {
		return &bucket.Error{Op: op, URL: b.URL(), Key: key, Kind: api.kind(), RetryAfter: api.retryAfter, Err: err}
	}
	return b.place.Fail(op, key, kindOf(err), err)
}
