// Package metadata is the way to the metadata service of the cloud that this machine runs on: straight
// to it, no redirect followed, nothing read without a limit, its clock noted, and every failure
// classified. The sources of all clouds go through it, below their vendor's client where there is one.
package metadata

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client asks a metadata service for which there is no client of the vendor.
type Client struct {
	http     *http.Client
	endpoint string
}

// New checks the endpoint, as "http://169.254.169.254"; it opens no connection.
func New(endpoint string) (*Client, error) {
	endpoint, err := Endpoint(endpoint)
	if err != nil {
		return nil, err
	}
	return &Client{http: HTTPClient(Options{}), endpoint: endpoint}, nil
}

// Endpoint checks that s is an http URL with a host, and takes a slash off its end.
func Endpoint(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("endpoint of the metadata service %q is no http URL", s)
	}
	return strings.TrimRight(s, "/"), nil
}

// Answer is what the service said.
type Answer struct {
	Status int         // 0: no answer
	Body   []byte      // of a 2xx, at most MaxBody bytes
	Header http.Header // nil: no answer
	Date   time.Time   // the service's clock; zero when unknown
}

// Found is true when the item exists: the answer was 2xx.
func (a Answer) Found() bool { return a.Status/100 == 2 }

// Get reads one item: path with its query, as "/latest/meta-data/instance-id". See Do.
func (c *Client) Get(ctx context.Context, path string, header http.Header) (Answer, error) {
	return c.Do(ctx, http.MethodGet, path, header, nil)
}

// Do sends one request and reads the answer. ctx must have a deadline. A 404 is an answer, because
// that is how most services say that there is nothing; everything else that is not 2xx is a
// providers.PollError. The status is in the answer then, too: a 401 may ask for a new token.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body []byte) (Answer, error) {
	ctx, x := Watch(ctx)
	r, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("instance metadata: %w", err)
	}
	for name, values := range header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return Answer{}, x.Explain(ctx, err)
	}
	defer resp.Body.Close()
	a := Answer{Status: x.Status, Header: x.Header, Date: x.Date}
	a.Body, err = io.ReadAll(resp.Body) // within MaxBody
	if err != nil {
		a.Body = nil
		return a, x.Explain(ctx, err)
	}
	if !a.Found() && a.Status != http.StatusNotFound {
		return a, x.Explain(ctx, nil)
	}
	return a, nil
}
