package gcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	gce "cloud.google.com/go/compute/metadata"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

const (
	// envHost of the vendor's client: host and port, no URL.
	envHost = "GCE_METADATA_HOST"
	flavor  = "Metadata-Flavor"
	google  = "Google"

	maxErrorBody = 4 << 10 // of an answer that is no 2xx; what the service says there has less than 200 bytes
)

// client asks the metadata server. The vendor's client knows the address, the header and the paths; it
// would try each request five times and follow redirects, which the gate keeps it from.
type client struct{ sdk *gce.Client }

// newClient resolves the endpoint (argument, environment, default) and never opens a connection.
func newClient(endpoint string) (*client, error) {
	if endpoint == "" && os.Getenv(envHost) != "" {
		endpoint = "http://" + os.Getenv(envHost)
	}
	g := &gate{}
	if endpoint != "" {
		checked, err := metadata.Endpoint(endpoint)
		if err != nil {
			return nil, err
		}
		if g.to, err = url.Parse(checked); err != nil || g.to.Path != "" {
			return nil, fmt.Errorf("endpoint of the metadata service %q must end with the host or its port", endpoint)
		}
	}
	h := metadata.HTTPClient(metadata.Options{ErrorBody: maxErrorBody})
	g.next, h.Transport = h.Transport, g
	return &client{sdk: gce.NewWithOptions(&gce.Options{Client: h})}, nil
}

// answer is what one item of the metadata holds.
type answer struct {
	value string
	found bool // false: 404
	etag  string
	date  time.Time // the service's clock (Date header); zero when unknown
}

// get reads one item below /computeMetadata/v1/. Errors are PollErrors.
func (c *client) get(ctx context.Context, path string) (answer, error) {
	ctx, x := metadata.Watch(ctx)
	value, err := c.sdk.GetWithContext(ctx, path)
	a := answer{value: value, found: err == nil, etag: x.Header.Get("Etag"), date: x.Date}
	var none gce.NotDefinedError
	var r *refusal
	switch {
	case err == nil || errors.As(err, &none):
		return a, nil
	case errors.As(err, &r) && r.foreign:
		return a, metadata.Failed(providers.Denied, "%s: %d without the header %s: %s: something else answers in place of Google's metadata server",
			x.What(), r.status, flavor, google)
	case x.Status == http.StatusForbidden:
		return a, metadata.Failed(providers.Denied, "%s: 403: the item is switched off for this instance; "+
			"on GKE with Workload Identity only pods with hostNetwork see it: %w", x.What(), err)
	case r != nil && x.Err != nil:
		err = x.Err
	}
	return a, &failure{refusal: r, err: x.Explain(ctx, err)}
}

// failure is a PollError that knows what the server had said.
type failure struct {
	refusal *refusal // nil: no answer
	err     error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// gate lets only answers pass with which the vendor's client can do no harm: it tries again what it
// takes for transient, with pauses that grow, and that would take a preemption's time away. The poll
// loop is the retry.
type gate struct {
	to   *url.URL // nil: where the vendor's client wants to go
	next http.RoundTripper
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if g.to != nil {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = g.to.Scheme, g.to.Host, ""
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, &refusal{text: err.Error()}
	}
	foreign := resp.Header.Get(flavor) != google
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotFound {
		if !foreign {
			return resp, nil
		}
		_ = resp.Body.Close()
		return nil, &refusal{status: resp.StatusCode, foreign: true, text: "foreign answer"}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body) // within maxErrorBody
	if err != nil || foreign {
		body = nil // only the status counts
	}
	return nil, &refusal{status: resp.StatusCode, body: body, text: http.StatusText(resp.StatusCode)}
}

// refusal is a failed request. It has nothing below it on purpose: the vendor's client looks through
// the chain of an error for reasons to try again.
type refusal struct {
	status  int // 0: no answer
	foreign bool
	body    []byte // of an answer with Google's header
	text    string
}

func (r *refusal) Error() string { return r.text }
