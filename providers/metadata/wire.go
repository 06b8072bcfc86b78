package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// MaxBody of any answer, in bytes. Most have less than a few KiB; Azure tells each machine the events of up to
	// a few hundred others, with all their names.
	MaxBody = 1 << 20
	// MaxToken is the most that a session token may have; EC2's have 56 bytes.
	MaxToken = 1 << 10

	maxHeader = 16 << 10
	// backstop ends a request whose caller forgot the deadline. No long poll is asked to last longer, and no first
	// answer of Azure takes longer.
	backstop = 3 * time.Minute
)

var (
	// ErrTooLarge says that an answer was longer than MaxBody.
	ErrTooLarge = fmt.Errorf("answer longer than %d bytes", MaxBody)
	// ErrBadToken says that a session token could not be sent in a header.
	ErrBadToken = errors.New("the answer to the token request is no token")
)

// CheckToken fails for what is no session token, such as a proxy's error page: it could not be sent
// in a header, and whoever keeps it would fail with it until it expires.
func CheckToken(token []byte) error {
	if len(token) == 0 || len(token) > MaxToken {
		return ErrBadToken
	}
	for _, b := range token {
		if b <= ' ' || b > '~' {
			return ErrBadToken
		}
	}
	return nil
}

// Options of an HTTP client for metadata.
type Options struct {
	// ErrorBody is how many bytes of an answer that is neither 2xx nor 3xx can be read; the rest is cut
	// off. 0: none, so that a page that comes slowly can't hide the status.
	ErrorBody int64
}

// HTTPClient returns a client that goes straight to the service, refuses redirects, caps answers, and
// notes what happened in the Exchange of the request's context. Vendors' clients are built on it.
func HTTPClient(o Options) *http.Client {
	return &http.Client{
		Transport: &wire{errorBody: o.ErrorBody, next: &http.Transport{
			Proxy:                  nil, // the address is link-local; a proxy could only answer for another machine
			DialContext:            (&net.Dialer{}).DialContext,
			MaxIdleConns:           2,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       backstop,
	}
}

// Exchange is what was seen on the wire last under one context: vendors' clients hide the status after
// some failures, and the headers always.
type Exchange struct {
	Method, Path string      // "": nothing was sent
	Status       int         // 0: no answer
	Header       http.Header // of the answer
	Date         time.Time   // the service's clock; zero when unknown
	Err          error       // of reading the body, or of a check of the caller
}

type exchangeKey struct{}

// Watch returns a context whose requests through HTTPClient are noted in the exchange. One request at
// a time.
func Watch(ctx context.Context) (context.Context, *Exchange) {
	x := &Exchange{}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// Of returns the exchange of a context; outside Watch one that nobody reads.
func Of(ctx context.Context) *Exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*Exchange); ok {
		return x
	}
	return &Exchange{}
}

// wire notes and caps.
type wire struct {
	next      http.RoundTripper
	errorBody int64
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	x := Of(r.Context())
	*x = Exchange{Method: r.Method, Path: r.URL.Path}
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		x.Err = err
		return nil, err
	}
	x.Status, x.Header = resp.StatusCode, resp.Header
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		x.Date = date
	}
	switch {
	case resp.StatusCode/100 == 2:
		resp.Body = &capped{body: resp.Body, left: MaxBody, x: x}
	case w.errorBody > 0 && resp.StatusCode >= 400:
		resp.Body = cut{Reader: io.LimitReader(resp.Body, w.errorBody), Closer: resp.Body}
	default:
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, nil
}

// cut is a body of which only the first bytes are of use.
type cut struct {
	io.Reader
	io.Closer
}

// capped fails a body that is longer than it may be, instead of cutting it off.
type capped struct {
	body io.ReadCloser
	left int
	x    *Exchange
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left < 0 {
		c.x.Err = ErrTooLarge
		return 0, ErrTooLarge
	}
	n, err := c.body.Read(p[:min(len(p), c.left+1)])
	c.left -= n
	if err != nil && err != io.EOF {
		c.x.Err = err
	}
	return n, err
}

func (c *capped) Close() error { return c.body.Close() }
