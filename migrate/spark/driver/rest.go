package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// Caps on one request of the REST interface, beside the caller's context.
const (
	restConnect   = 3 * time.Second
	restTimeout   = 10 * time.Second
	maxREST       = 32 << 20 // bytes of one answer: 10,000 executors, or 1,000 stages, stay well below
	maxRESTHeader = 64 << 10
	maxRedirects  = 3
)

// REST is the driver's REST interface, for one application. Methods may be called by many goroutines
// at once. Their errors wrap ErrGone when the user interface no longer listens or serves another
// application, and ErrSlow when the answer did not come in time.
type REST struct {
	base    string // http://host:port
	app     string
	client  *http.Client
	timeout time.Duration
}

func newREST(d wire.Dialer, host string, port int, app string, connect, timeout time.Duration) *REST {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connect)
		defer cancel()
		return d.DialContext(ctx, network, addr)
	}
	address := wire.Address(host, port)
	return &REST{
		base:    "http://" + address,
		app:     app,
		timeout: timeout,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:            dial,
				DisableCompression:     true,
				MaxConnsPerHost:        4,
				IdleConnTimeout:        time.Minute,
				MaxResponseHeaderBytes: maxRESTHeader,
			},
			CheckRedirect: func(next *http.Request, via []*http.Request) error {
				if next.URL.Scheme != "http" || next.URL.Host != address || len(via) > maxRedirects {
					return http.ErrUseLastResponse
				}
				return nil
			},
		},
	}
}

// Close gives up idle connections.
func (r *REST) Close() { r.client.CloseIdleConnections() }

// URL is the address of the driver's user interface, for logs and reports.
func (r *REST) URL() string { return r.base }

// Version asks for the driver's version of Spark, as "4.3.0".
func (r *REST) Version(ctx context.Context) (string, error) {
	var v struct {
		Spark string `json:"spark"`
	}
	if err := r.object(ctx, "/api/v1/version", &v); err != nil {
		return "", err
	}
	return v.Spark, nil
}

// appPath is a path below the application's own.
func (r *REST) appPath(below string) string {
	return "/api/v1/applications/" + url.PathEscape(r.app) + below
}

// object reads an answer that is one JSON object.
func (r *REST) object(ctx context.Context, path string, v any) error {
	return r.get(ctx, path, func(body io.Reader) error { return json.NewDecoder(body).Decode(v) })
}

// list reads an answer that is a JSON array, element by element, so that no more than one element and
// what the caller keeps is in memory.
func list[T any](ctx context.Context, r *REST, path string, each func(T)) error {
	return r.get(ctx, path, func(body io.Reader) error {
		d := json.NewDecoder(body)
		if t, err := d.Token(); err != nil {
			return err
		} else if t != json.Delim('[') {
			return errors.New("no JSON array")
		}
		for d.More() {
			var v T
			if err := d.Decode(&v); err != nil {
				return err
			}
			each(v)
		}
		_, err := d.Token()
		return err
	})
}

// get makes one request and hands the body of a good answer to read.
func (r *REST) get(ctx context.Context, path string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if err := r.request(ctx, path, read); err != nil {
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", wire.ContextError(ctx), err)
		}
		return fmt.Errorf("REST of %s: %w", r.base, classify(err))
	}
	return nil
}

func (r *REST) request(ctx context.Context, path string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		return statusError(path, resp.StatusCode)
	}
	body := &cappedReader{r: resp.Body, left: maxREST}
	if err := read(body); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// statusError takes 404 for an application that is not known here (any more): the REST interface of a
// living driver knows exactly its own (o.a.s.ui.SparkUI.withSparkUI, Spark 3.4 to 4.3).
func statusError(path string, code int) error {
	err := &StatusError{Path: path, Code: code}
	if code == http.StatusNotFound {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

// cappedReader fails, where an io.LimitedReader would pretend that the end has come.
type cappedReader struct {
	r    io.Reader
	left int64
}

func (c *cappedReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, ErrTooLarge
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
