package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

// The SDK's variables for the metadata service. imds.New reads the first and the last one itself; the
// endpoint mode is read only by the SDK's config module, which is too heavy to link for one variable.
const (
	envEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
	envMode     = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
	envDisabled = "AWS_EC2_METADATA_DISABLED"
)

// ErrDisabled says that AWS_EC2_METADATA_DISABLED forbids to ask.
var ErrDisabled = errors.New("the metadata service is switched off by " + envDisabled)

// Client asks the metadata service; the sources of one agent share one, and with it the token. The SDK
// keeps the token: it fetches one, sets (replaces) the header on each request, and forgets it after a
// 401. Everything else is ours: time limits, size limits, and what an answer means, because the SDK's
// errors hide the status after a 401 and after a failed token request.
type Client struct {
	sdk      *imds.Client
	endpoint string
}

// NewClient resolves the endpoint ("": from the environment, or the SDK's default) and opens no connection. The error is
// ErrDisabled when the environment forbids to ask.
func NewClient(endpoint string) (*Client, error) {
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
	endpoint, err := metadata.Endpoint(endpoint)
	if err != nil {
		return nil, err
	}
	sdk := imds.New(imds.Options{
		Endpoint:   endpoint,
		HTTPClient: wire{metadata.HTTPClient(metadata.Options{})},
		// The poll loop is the retry.
		Retryer: awssdk.NopRetryer{},
		// IMDSv1 has no token and no hop limit. Falling back to it would turn "the token can't be had"
		// into the 401 of an instance that requires tokens, hide it on the others, and open a way
		// around the protection that the owner chose. Every EC2 instance with metadata answers IMDSv2.
		EnableFallback:        awssdk.FalseTernary,
		DisableDefaultTimeout: true, // each poll has its deadline
	})
	return &Client{sdk: sdk, endpoint: endpoint}, nil
}

// answer is what one item of the metadata holds.
type answer struct {
	body  []byte
	found bool      // false: 404
	date  time.Time // the service's clock (Date header); zero when unknown
}

// get reads one item. A 401 is tried once more at once: the SDK has dropped the token then, and a
// poll later would be late. Errors are PollErrors.
func (c *Client) get(ctx context.Context, path string) (answer, error) {
	a, x, err := c.once(ctx, path)
	if x.Status == http.StatusUnauthorized && x.Method == http.MethodGet && ctx.Err() == nil {
		a, x, err = c.once(ctx, path)
	}
	if err != nil {
		return answer{}, c.explain(ctx, x, err)
	}
	return a, nil
}

// once makes one GET, and the PUT before it when there is no token.
func (c *Client) once(ctx context.Context, path string) (answer, *metadata.Exchange, error) {
	ctx, x := metadata.Watch(ctx)
	out, err := c.sdk.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if x.Method == http.MethodGet && x.Status == http.StatusNotFound {
		return answer{date: x.Date}, x, nil
	}
	if err != nil {
		return answer{}, x, err
	}
	defer out.Content.Close()
	body, err := io.ReadAll(out.Content) // in memory already, within metadata.MaxBody
	return answer{body: body, found: true, date: x.Date}, x, err
}

// explain says what only EC2's service means by a failure, and leaves the rest to metadata.
func (c *Client) explain(ctx context.Context, x *metadata.Exchange, err error) error {
	put := x.Method == http.MethodPut
	switch {
	case put && metadata.TimedOut(ctx, err):
		return metadata.Failed(providers.Timeout, "%s at %s was not answered in time: in a container without the host's network "+
			"the instance's metadata hop limit must be at least 2 (HttpPutResponseHopLimit), or use hostNetwork: %w", x.What(), c.endpoint, err)
	case put && x.Status == http.StatusForbidden:
		return metadata.Failed(providers.Denied, "%s: 403: metadata is switched off for this instance, or the request came through a proxy", x.What())
	case x.Status == http.StatusUnauthorized || x.Status == http.StatusForbidden:
		return metadata.Failed(providers.Denied, "%s: %d, also with a fresh token", x.What(), x.Status)
	}
	return x.Explain(ctx, err)
}

// wire is the SDK's HTTP client. It checks tokens, because the SDK would keep one that is none.
type wire struct{ http *http.Client }

// Do sends one request of the SDK.
func (w wire) Do(r *http.Request) (*http.Response, error) {
	resp, err := w.http.Do(r)
	if err != nil || r.Method != http.MethodPut || resp.StatusCode/100 != 2 {
		return resp, err
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(io.LimitReader(resp.Body, metadata.MaxToken+1))
	if err != nil {
		return nil, err
	}
	if err := metadata.CheckToken(token); err != nil {
		metadata.Of(r.Context()).Err = err
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(token))
	return resp, nil
}
