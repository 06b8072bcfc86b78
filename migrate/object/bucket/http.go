package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	// idleConnections is how many are kept: at least as many as are used at once, so that none is opened twice.
	idleConnections = 64
	// sendBuffer is what one connection has in memory of a body, in bytes.
	sendBuffer = 64 << 10
	// mostWait caps what a server may ask for.
	mostWait = time.Hour
)

// NewTransport makes what a storage's HTTP client sends through. It follows the proxy settings of the environment.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConns:          idleConnections,
		MaxIdleConnsPerHost:   idleConnections,
		WriteBufferSize:       sendBuffer,
		DisableCompression:    true, // an object is read as it was stored
	}
}

// CheckEndpoint wants http or https, a host, and no credentials, query or fragment. The error is for Place.Fail.
func CheckEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return nil, errors.New("the endpoint is no URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("the endpoint must begin with https:// or http://, and name a host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the endpoint must hold neither credentials nor a query nor a fragment")
	}
	return u, nil
}

// Plain is the error of an HTTP client without the URL, which may be as good as a credential.
func Plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// RetryAfter reads what a server asks for; 0 when it says nothing that can be understood.
func RetryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseInt(v, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), mostWait)
}

// Wait takes a time, or until ctx ends, whose error it then returns.
func Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Download is the body of a Get: it watches that bytes move, and ends early only with an error.
type Download struct {
	Watch *Watchdog
	Body  io.ReadCloser
	Left  int64                 // bytes still to come
	Fail  func(err error) error // makes an *Error
}

// Read is io.Reader's.
func (d *Download) Read(p []byte) (int, error) {
	if d.Left == 0 {
		return 0, io.EOF
	}
	d.Watch.Wake()
	defer d.Watch.Rest()
	n, err := d.Body.Read(p[:min(int64(len(p)), d.Left)])
	if n > 0 {
		d.Watch.Moved()
	}
	d.Left -= int64(n)
	switch {
	case d.Left == 0:
		return n, nil
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%d bytes are missing: %w", d.Left, io.ErrUnexpectedEOF)
	}
	if err != nil {
		err = d.Fail(d.Watch.Explain(Plain(err)))
	}
	return n, err
}

// Close lets go of the connection.
func (d *Download) Close() error {
	defer d.Watch.Stop()
	return d.Body.Close()
}
