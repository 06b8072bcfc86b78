package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/lifeboat/lifeboat/providers"
)

// The SDK's variables for the metadata service. imds.New reads the first and the last one itself; the
// endpoint mode is read only by the SDK's config module, which is too heavy to link for one variable.
const (
	envEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
	envMode     = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
	envDisabled = "AWS_EC2_METADATA_DISABLED"
)

const (
	maxBody  = 64 << 10 // of any answer; real ones have less than 200 bytes
	maxToken = 1 << 10  // EC2's tokens have 56 bytes
)

var (
	// ErrDisabled says that AWS_EC2_METADATA_DISABLED forbids to ask.
	ErrDisabled = errors.New("the metadata service is switched off by " + envDisabled)

	errTooLarge = fmt.Errorf("answer longer than %d bytes", maxBody)
	errBadToken = errors.New("the answer to the token request is no token")
)

// client asks the metadata service. The SDK keeps the token: it fetches one, sets (replaces) the
// header on each request, and forgets it after a 401. Everything else is ours: time limits, size
// limits, and what an answer means, because the SDK's errors hide the status after a 401 and after a
// failed token request.
type client struct {
	sdk      *imds.Client
	endpoint string
}

// newClient resolves the endpoint (argument, environment, default) and never opens a connection.
func newClient(endpoint string) (*client, error) {
	if strings.EqualFold(os.Getenv(envDisabled), "true") {
		return nil, ErrDisabled
	}
	if endpoint == "" {
		endpoint = os.Getenv(envEndpoint)
	}
	if endpoint == "" {
		var mode imds.EndpointModeState
		if err := mode.SetFromString(os.Getenv(envMode)); err != nil {
			return nil, fmt.Errorf("%s: %w", envMode, err)
		}
		endpoint = "http://169.254.169.254"
		if mode == imds.EndpointModeStateIPv6 {
			endpoint = "http://[fd00:ec2::254]"
		}
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("endpoint of the metadata service %q is no http URL", endpoint)
	}
	sdk := imds.New(imds.Options{
		Endpoint:   endpoint,
		HTTPClient: newWire(),
		// The poll loop is the retry.
		Retryer: awssdk.NopRetryer{},
		// IMDSv1 has no token and no hop limit. Falling back to it would turn "the token can't be had"
		// into the 401 of an instance that requires tokens, hide it on the others, and open a way
		// around the protection that the owner chose. Every EC2 instance with metadata answers IMDSv2.
		EnableFallback:        awssdk.FalseTernary,
		DisableDefaultTimeout: true, // each poll has its deadline
	})
	return &client{sdk: sdk, endpoint: endpoint}, nil
}

// answer is what one item of the metadata holds.
type answer struct {
	body  []byte
	found bool      // false: 404
	date  time.Time // the service's clock (Date header); zero when unknown
}

// get reads one item. A 401 is tried once more at once: the SDK has dropped the token then, and a
// poll later would be late. Errors are PollErrors.
func (c *client) get(ctx context.Context, path string) (answer, error) {
	a, x, err := c.once(ctx, path)
	if x.status == http.StatusUnauthorized && x.method == http.MethodGet && ctx.Err() == nil {
		a, x, err = c.once(ctx, path)
	}
	if err != nil {
		return answer{}, c.explain(ctx, x, err)
	}
	return a, nil
}

// once makes one GET, and the PUT before it when there is no token.
func (c *client) once(ctx context.Context, path string) (answer, *exchange, error) {
	x := &exchange{}
	out, err := c.sdk.GetMetadata(context.WithValue(ctx, exchangeKey{}, x), &imds.GetMetadataInput{Path: path})
	if x.method == http.MethodGet && x.status == http.StatusNotFound {
		return answer{date: x.date}, x, nil
	}
	if err != nil {
		return answer{}, x, err
	}
	defer out.Content.Close()
	body, err := io.ReadAll(out.Content) // in memory already, within maxBody
	return answer{body: body, found: true, date: x.date}, x, err
}

// explain classifies a failure by what was seen on the wire and says what to do where that is known.
func (c *client) explain(ctx context.Context, x *exchange, err error) error {
	what := x.method + " " + x.path
	fail := func(r providers.Result, format string, args ...any) error {
		return &providers.PollError{Result: r, Err: fmt.Errorf("instance metadata: "+format, args...)}
	}
	var netErr net.Error
	timedOut := ctx.Err() != nil || errors.As(err, &netErr) && netErr.Timeout()
	switch {
	case x.err != nil && (errors.Is(x.err, errTooLarge) || errors.Is(x.err, errBadToken)):
		return fail(providers.Malformed, "%s: %w", what, x.err)
	case timedOut && x.method == http.MethodPut:
		return fail(providers.Timeout, "%s at %s was not answered in time: in a container without the host's network "+
			"the instance's metadata hop limit must be at least 2 (HttpPutResponseHopLimit), or use hostNetwork: %w", what, c.endpoint, err)
	case timedOut:
		return fail(providers.Timeout, "%s was not answered in time: %w", what, err)
	case x.status == http.StatusForbidden && x.method == http.MethodPut:
		return fail(providers.Denied, "%s: 403: metadata is switched off for this instance, or the request came through a proxy", what)
	case x.status == http.StatusUnauthorized || x.status == http.StatusForbidden:
		return fail(providers.Denied, "%s: %d, also with a fresh token", what, x.status)
	case x.status >= 300 && x.status < 400:
		return fail(providers.Denied, "%s: %d: redirects are not followed", what, x.status)
	case x.status >= 400:
		return fail(providers.Status, "%s: %d", what, x.status)
	case x.status != 0:
		return fail(providers.Malformed, "%s: %d with an answer that can't be read: %w", what, x.status, err)
	default:
		return fail(providers.Unreachable, "%w", err)
	}
}

// exchange is what the wire saw last during one call of the SDK.
type exchange struct {
	method, path string
	status       int // 0: no answer
	date         time.Time
	err          error // of reading the body, or of our own checks
}

type exchangeKey struct{}

// wire is the SDK's HTTP client: it refuses redirects, caps answers, and notes what happened in the
// exchange of the context.
type wire struct{ http *http.Client }

func newWire() *wire {
	return &wire{http: &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // the address is link-local; a proxy could only answer for another machine
			DialContext:            (&net.Dialer{}).DialContext,
			MaxIdleConns:           2,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Do sends one request of the SDK.
func (w *wire) Do(r *http.Request) (*http.Response, error) {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	*x = exchange{method: r.Method, path: r.URL.Path}
	resp, err := w.http.Do(r)
	if err != nil {
		x.err = err
		return nil, err
	}
	x.status = resp.StatusCode
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		x.date = date
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		// Only the status counts. The page is not read: a slow one must not hide the status.
		_ = resp.Body.Close()
		resp.Body = http.NoBody
		return resp, nil
	}
	if r.Method == http.MethodPut {
		return checkToken(resp, x)
	}
	resp.Body = &capped{body: resp.Body, left: maxBody, x: x}
	return resp, nil
}

// checkToken reads the token, because the SDK would keep a body that can't be sent in a header, such
// as a proxy's error page, and fail with it until it expires.
func checkToken(resp *http.Response, x *exchange) (*http.Response, error) {
	defer resp.Body.Close()
	token, err := io.ReadAll(io.LimitReader(resp.Body, maxToken+1))
	if err != nil {
		x.err = err
		return nil, err
	}
	if len(token) == 0 || len(token) > maxToken {
		x.err = errBadToken
		return nil, errBadToken
	}
	for _, b := range token {
		if b <= ' ' || b > '~' {
			x.err = errBadToken
			return nil, errBadToken
		}
	}
	resp.Body = io.NopCloser(strings.NewReader(string(token)))
	return resp, nil
}

// capped fails a body that is longer than it may be, instead of cutting it off.
type capped struct {
	body io.ReadCloser
	left int
	x    *exchange
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left < 0 {
		c.x.err = errTooLarge
		return 0, errTooLarge
	}
	n, err := c.body.Read(p[:min(len(p), c.left+1)])
	c.left -= n
	if err != nil && err != io.EOF {
		c.x.err = err
	}
	return n, err
}

func (c *capped) Close() error { return c.body.Close() }
