package s3

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const (
	dialTimeout = 5 * time.Second
	// idleTimeout is shorter than that of Amazon's own side, which closes after some 20 s.
	idleTimeout = 15 * time.Second
	idleConns   = 64
	// buffer is what of a body travels at once, per connection, in bytes.
	buffer = 64 << 10
	// maxAnswer caps an answer that is no object, in bytes: a list of 1,000 keys is well below one MiB.
	maxAnswer = 16 << 20
	// attempts is how often one request is sent when the server is in trouble (5xx, resets).
	attempts   = 3
	maxBackoff = 2 * time.Second
	// defaultRegion is what storages other than Amazon's expect in signatures.
	defaultRegion = "us-east-1"
)

// connect makes the client.
func (b *Bucket) connect(ctx context.Context) error {
	transport := awshttp.NewBuildableClient(). // of this type: loading adds the certificates of AWS_CA_BUNDLE to no other
							WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
							WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout, t.IdleConnTimeout = dialTimeout, idleTimeout
			t.MaxIdleConns, t.MaxIdleConnsPerHost = idleConns, idleConns
			t.WriteBufferSize, t.ReadBufferSize = buffer, buffer
		})
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(transport), config.WithLogger(logging.Nop{}),
		config.WithRetryer(func() aws.Retryer { return newRetryer() }),
	}
	if c := b.settings.Credentials; c != (bucket.Credentials{}) {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.ID, c.Secret, c.Token)))
	}
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	cfg, err := config.LoadDefaultConfig(w.Context(), load...)
	if err != nil {
		return b.place.Fail("open", "", bucket.Denied, w.Explain(err))
	}
	b.own(&cfg, transport)
	b.forget = func() {}
	if cache, ok := cfg.Credentials.(*aws.CredentialsCache); ok {
		b.forget = cache.Invalidate
	}
	if cfg.Credentials != nil {
		cfg.Credentials = provider{cfg.Credentials}
	}
	if err := b.region(w, &cfg); err != nil {
		return err
	}
	b.client = b.newClient(cfg)
	return nil
}

// own makes the HTTP client of loading the bucket's own: with limits, and connections that can be closed.
func (b *Bucket) own(cfg *aws.Config, loaded *awshttp.BuildableClient) {
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		loaded = c
	}
	transport := loaded.GetTransport()
	b.idle = transport.CloseIdleConnections
	cfg.HTTPClient = capped{http.Client{Transport: transport, CheckRedirect: noRedirect}}
}

func (b *Bucket) newClient(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		if b.settings.Endpoint != "" {
			o.BaseEndpoint = aws.String(b.settings.Endpoint)
		}
		o.UsePathStyle = b.settings.PathStyle
	})
}

// region settles the region, if need be by asking where the bucket is: anybody is told, in a header.
func (b *Bucket) region(w *bucket.Watchdog, cfg *aws.Config) error {
	switch {
	case b.settings.Region != "":
		cfg.Region = b.settings.Region
	case cfg.Region != "":
	case b.settings.Endpoint != "" || cfg.BaseEndpoint != nil:
		cfg.Region = defaultRegion
	default:
		ask := cfg.Copy()
		ask.Region, ask.Credentials = defaultRegion, aws.AnonymousCredentials{}
		out, err := b.newClient(ask).HeadBucket(w.Context(), &s3.HeadBucketInput{Bucket: b.name})
		if err == nil {
			cfg.Region = aws.ToString(out.BucketRegion)
		} else {
			cfg.Region = headerOf(err, regionHeader)
		}
		if cfg.Region != "" {
			return nil
		}
		if err == nil || bucket.KindOf(b.fail(w, "open", "", err)) == bucket.NotFound {
			err = &bucket.Error{Op: "open", URL: b.URL(), Kind: bucket.Misplaced,
				Err: errors.New("no such bucket, or its region can't be found out: set the region")}
		}
		return b.fail(w, "open", "", err)
	}
	return nil
}

// provider marks errors of looking for credentials, which look like any other.
type provider struct{ aws.CredentialsProvider }

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "no credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// Retrieve is aws.CredentialsProvider's.
func (p provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := p.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = &credentialsError{err}
	}
	return c, err
}

// retryer leaves to the SDK what passes by itself. Throttling needs longer pauses, for which the server is asked.
type retryer struct{ aws.RetryerV2 }

func newRetryer() retryer {
	return retryer{retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, maxBackoff })}
}

// IsErrorRetryable is aws.Retryer's.
func (r retryer) IsErrorRetryable(err error) bool {
	kind, _ := classify(err)
	return kind == bucket.Unavailable && r.RetryerV2.IsErrorRetryable(err)
}

// noRedirect: a signature holds for one host only. Where a bucket really is says the error.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// capped bounds what is read of answers that are no objects.
type capped struct{ client http.Client }

// Do is aws.HTTPClient's.
func (c capped) Do(r *http.Request) (*http.Response, error) {
	answer, err := c.client.Do(r)
	if err != nil || answer.Body == nil || r.Method == http.MethodGet && answer.StatusCode < 300 && !strings.Contains(r.URL.RawQuery, "list-type=") {
		return answer, err
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	return answer, nil
}
