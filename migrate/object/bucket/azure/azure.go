// Package azure is a bucket in Azure Blob Storage, under abfs(s)://container@account.dfs.core.windows.net/prefix or
// wasb(s)://container@account.blob.core.windows.net/prefix. All are reached through the blob endpoint over TLS, which
// accounts with a hierarchical namespace have too.
//
// What it knows of the service is in Microsoft's pages "Put Blob", "Put Block", "Put Block List" and "Blob Storage error
// codes" (learn.microsoft.com/rest/api/storageservices).
package azure

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Options of a bucket.
type Options struct {
	Place bucket.Place // its Authority is container@host, where the host's first label is the account
	// Settings: the endpoint is the account's blob endpoint, as https://account.blob.core.windows.net.
	Settings bucket.Settings
}

// Bucket is a bucket.Bucket.
type Bucket struct {
	place     bucket.Place
	settings  bucket.Settings
	transport *http.Transport
	container *container.Client
	buffers   bucket.Buffers
}

var _ bucket.Bucket = (*Bucket)(nil)

// Open finds credentials: those in the settings (an account key, a shared access signature, or a client secret), or
// those of the environment, a workload identity, a managed identity. It sends nothing.
func Open(_ context.Context, o Options) (*Bucket, error) {
	b := &Bucket{
		place: o.Place, settings: o.Settings.Defaults(), transport: bucket.NewTransport(),
	}
	fail := func(kind bucket.Kind, err error) (*Bucket, error) { return nil, o.Place.Fail("open", "", kind, err) }
	name, host, _ := strings.Cut(o.Place.Authority, "@")
	account, _, _ := strings.Cut(host, ".")
	if name == "" || account == "" || strings.ContainsAny(o.Place.Authority, "%/") || strings.Contains(host, "@") {
		return fail(bucket.Misplaced, errors.New("want abfss://container@account.dfs.core.windows.net/prefix"))
	}
	endpoint := b.settings.Endpoint
	if endpoint == "" {
		endpoint = "https://" + strings.Replace(host, ".dfs.", ".blob.", 1)
	}
	u, err := bucket.CheckEndpoint(endpoint)
	if err != nil {
		return fail(bucket.Misplaced, err)
	}
	options := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		// Whoever calls tries again: what is done twice must be known to be.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Transport: sender{b.transport},
		Telemetry: policy.TelemetryOptions{ApplicationID: "lifeboat"},
	}}
	address := strings.TrimRight(endpoint, "/") + "/" + name
	b.container, err = connect(address, account, u.Scheme == "https", b.settings.Credentials, options)
	if err != nil {
		return fail(bucket.Denied, err)
	}
	return b, nil
}

// maxAnswer caps an answer that is no object in bytes: a page of a list is the largest one.
const maxAnswer = 16 << 20

// sender is the client's transport. It follows no redirections, which no storage needs: the client's bodies can't be
// read again while the first request may still be reading.
type sender struct{ *http.Transport }

// Do is policy.Transporter's.
func (s sender) Do(req *http.Request) (*http.Response, error) {
	resp, err := s.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if req.Method != http.MethodGet || req.URL.Query().Get("comp") != "" || resp.StatusCode/100 != 2 {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, nil
}

// URL is as it was given.
func (b *Bucket) URL() string { return b.place.String() }

// Close lets go of connections.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// isFolder says that an object stands for a folder, as accounts with a hierarchical namespace and some tools make them.
func isFolder(metadata map[string]*string) bool {
	for name, value := range metadata {
		if strings.EqualFold(name, "hdi_isfolder") && value != nil && strings.EqualFold(*value, "true") {
			return true
		}
	}
	return false
}

// Stat says what is known of one object.
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Object, error) {
	name, err := b.place.Key(key)
	if err != nil {
		return bucket.Object{}, err
	}
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	p, err := b.container.NewBlobClient(name).GetProperties(w.Context(), nil)
	switch {
	case err == nil && isFolder(p.Metadata):
		err = errFolder
	case err == nil && (p.ContentLength == nil || p.LastModified == nil):
		err = errAnswer
	}
	if err != nil {
		return bucket.Object{}, b.fail("stat", key, w.Explain(err))
	}
	return bucket.Object{Key: key, Size: *p.ContentLength, Modified: *p.LastModified}, nil
}

// Delete removes one object.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	name, err := b.place.Key(key)
	if err != nil {
		return err
	}
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	_, err = b.container.NewBlobClient(name).Delete(w.Context(), nil)
	if kindOf(err) == bucket.NotFound {
		return nil
	}
	return b.fail("delete", key, w.Explain(err))
}
