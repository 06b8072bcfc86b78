package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lifeboat/lifeboat/providers"
)

const (
	// maxList is the most that a list may have, in bytes: some hundred pods of the largest size that etcd takes are far
	// more, and a node of 110 real ones has less than 2 MiB.
	maxList = 16 << 20
	// maxEvent of a watch, in bytes. etcd takes objects of 1.5 MiB (--max-request-bytes), which JSON makes longer.
	maxEvent = 4 << 20
	// maxError is what is read of an answer that is none of ours to use.
	maxError = 16 << 10
)

// errGone is the 410 of a watch that asks for a version that the API server has no longer.
var errGone = errors.New("the API server no longer has this version")

// answer is what the API server began to send.
type answer struct {
	body io.ReadCloser
	date time.Time // the API server's clock; zero when unknown
}

// get begins one request. Failures are PollErrors, or errGone.
func (c *Cluster) get(ctx context.Context, path string, query url.Values) (answer, error) {
	w := c.way()
	u := w.server.JoinPath(path)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return answer{}, failed(providers.Malformed, "%w", err)
	}
	r.Header.Set("Accept", "application/json")
	resp, err := w.http.Do(r)
	if err != nil {
		if isTLS(err) {
			c.renew(w)
		}
		return answer{}, unreachable(ctx, err)
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		date = time.Time{}
	}
	if resp.StatusCode == http.StatusOK {
		return answer{body: resp.Body, date: date}, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		c.renew(w)
	}
	return answer{}, refused(resp)
}

// refused classifies an answer other than 200 and says what to do.
func refused(resp *http.Response) error {
	// Only what the API server itself says about the failure is of use; a page that comes slowly must not hide the status.
	var status metav1.Status
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
		_ = json.Unmarshal(body, &status)
	}
	return statusError(resp.StatusCode, status)
}

// statusError is the failure that a status stands for.
func statusError(code int, status metav1.Status) error {
	says := shorten(status.Message)
	switch {
	case code == http.StatusGone:
		return errGone
	case code == http.StatusUnauthorized:
		return failed(providers.Denied, "401: the API server does not know these credentials; the token or the certificate may be "+
			"out of date, and is read again before the next attempt%s", says)
	case code == http.StatusForbidden:
		return failed(providers.Denied, "403: a permission is missing: the agent needs the verbs list and watch on nodes and pods "+
			"for the whole cluster (ClusterRole and ClusterRoleBinding)%s", says)
	case code >= 300 && code < 400:
		return failed(providers.Denied, "%d: redirects are not followed", code)
	case code == http.StatusTooManyRequests:
		return failed(providers.Status, "429: the API server has too much to do%s", says)
	default:
		return failed(providers.Status, "%d%s", code, says)
	}
}

// answered says whether a failure is what the API server said about the request.
func answered(err error) bool {
	var pe *providers.PollError
	return errors.Is(err, errGone) || errors.As(err, &pe) && pe.Result == providers.Status
}

// shorten makes a text of the API server fit into a line.
func shorten(text string) string {
	const most = 300
	if text == "" {
		return ""
	}
	if len(text) > most {
		text = text[:most] + "…"
	}
	return ": " + strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
}

func failed(r providers.Result, format string, args ...any) error {
	return &providers.PollError{Result: r, Err: fmt.Errorf("kubernetes: "+format, args...)}
}

// unreachable classifies a request that got no answer.
func unreachable(ctx context.Context, err error) error {
	var netErr net.Error
	cause := context.Cause(ctx)
	switch {
	case cause != nil && !errors.Is(cause, context.Canceled):
		return failed(providers.Timeout, "no answer in time: %w", cause)
	case errors.As(err, &netErr) && netErr.Timeout():
		return failed(providers.Timeout, "no answer in time: %w", err)
	default:
		return failed(providers.Unreachable, "%w", err)
	}
}

// isTLS says whether the two ends don't believe each other: authorities and certificates may have been rotated.
func isTLS(err error) bool {
	var authority *tls.CertificateVerificationError
	var op *net.OpError
	return errors.As(err, &authority) || errors.As(err, &op) && op.Op == "remote error" // as crypto/tls calls an alert
}

// capped fails an answer that is longer than it may be.
type capped struct {
	io.Reader
	left int
}

var errTooLong = errors.New("the answer is too long")

func (c *capped) Read(p []byte) (int, error) {
	if c.left < 0 {
		return 0, errTooLong
	}
	n, err := c.Reader.Read(p[:min(len(p), c.left+1)])
	c.left -= n
	return n, err
}
