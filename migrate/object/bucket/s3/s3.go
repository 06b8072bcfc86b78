// Package s3 is a bucket in Amazon S3, or in a storage that speaks its protocol, under s3://bucket/prefix or
// s3a://bucket/prefix.
package s3

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Options of a bucket in S3.
type Options struct {
	Place    bucket.Place // of the scheme s3 or s3a
	Settings bucket.Settings
}

// Bucket is a bucket.Bucket.
type Bucket struct {
	place    bucket.Place
	settings bucket.Settings
	client   *s3.Client
	name     *string // of the bucket
	forget   func()  // throws away credentials that were refused
	idle     func()  // closes connections that nobody uses
	aborts   sync.WaitGroup

	buffers    bucket.Buffers
	castagnoli *crc32.Table
}

var _ bucket.Bucket = (*Bucket)(nil)

// Open makes a client. Credentials are looked for when they are first needed; the region now, when neither the
// settings nor the environment say it and the endpoint is Amazon's.
func Open(ctx context.Context, o Options) (*Bucket, error) {
	b := &Bucket{
		place: o.Place, settings: o.Settings.Defaults(), name: aws.String(o.Place.Authority), castagnoli: crc32.MakeTable(crc32.Castagnoli),
	}
	if o.Place.Authority == "" {
		return nil, b.place.Fail("open", "", bucket.Misplaced, errors.New("want "+o.Place.Scheme+"://bucket/prefix"))
	}
	if err := checkEndpoint(o.Settings.Endpoint); err != nil {
		return nil, b.place.Fail("open", "", bucket.Misplaced, err)
	}
	if err := b.connect(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// checkEndpoint wants a URL without anything that should not be in a log.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("the endpoint must be a URL as http://host:9000, without user or query")
	}
	return nil
}

// URL is how users write it.
func (b *Bucket) URL() string { return b.place.String() }

// Close waits until unfinished uploads have been given up, and lets go of connections.
func (b *Bucket) Close() error {
	b.aborts.Wait()
	b.idle()
	return nil
}

// Stat says what is known of one object.
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Object, error) {
	name, err := b.place.Key(key)
	if err != nil {
		return bucket.Object{}, err
	}
	o := bucket.Object{Key: key}
	err = b.call(ctx, "stat", key, func(w *bucket.Watchdog) error {
		out, err := b.client.HeadObject(w.Context(), &s3.HeadObjectInput{Bucket: b.name, Key: &name})
		if err == nil {
			o.Size, o.Modified = aws.ToInt64(out.ContentLength), aws.ToTime(out.LastModified)
		}
		return err
	})
	return o, err
}

// Delete removes one object.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	name, err := b.place.Key(key)
	if err != nil {
		return err
	}
	err = b.call(ctx, "delete", key, func(w *bucket.Watchdog) error {
		_, err := b.client.DeleteObject(w.Context(), &s3.DeleteObjectInput{Bucket: b.name, Key: &name})
		return err
	})
	if err != nil && bucket.KindOf(err) == bucket.NotFound {
		err = nil
	}
	return err
}

// List asks page by page. What is no key for the other storages is left out.
func (b *Bucket) List(ctx context.Context, prefix string, each func(bucket.Object) error) error {
	under := b.place.Under(prefix)
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: b.name, Prefix: &under},
		func(o *s3.ListObjectsV2PaginatorOptions) { o.StopOnDuplicateToken = true })
	for pages.HasMorePages() {
		var page *s3.ListObjectsV2Output
		err := b.call(ctx, "list", prefix, func(w *bucket.Watchdog) (err error) {
			page, err = pages.NextPage(w.Context())
			return err
		})
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			key, ok := b.place.Relative(aws.ToString(o.Key))
			if !ok || bucket.CheckKey(key) != nil {
				continue
			}
			if err := each(bucket.Object{Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// call makes a request within the limits of one, again when the storage is throttled, and classifies its error.
func (b *Bucket) call(ctx context.Context, op, key string, request func(*bucket.Watchdog) error) error {
	return b.callFor(ctx, op, key, b.settings.Stall, request)
}

// callFor is call with another limit for silence.
func (b *Bucket) callFor(ctx context.Context, op, key string, stall time.Duration, request func(*bucket.Watchdog) error) error {
	settings := b.settings
	settings.Stall, settings.Timeout = stall, max(settings.Timeout, stall)
	return b.again(ctx, func() error {
		w := bucket.Watch(ctx, settings)
		defer w.Stop()
		return b.fail(w, op, key, request(w))
	})
}

// fail classifies the error of a request.
func (b *Bucket) fail(w *bucket.Watchdog, op, key string, err error) error {
	if err == nil {
		return nil
	}
	var known *bucket.Error
	if err = w.Explain(err); errors.As(err, &known) {
		return err
	}
	kind, why := classify(err)
	if stale(err) {
		b.forget()
	}
	if why != "" {
		err = fmt.Errorf("%w: %s", err, why)
	}
	return &bucket.Error{Op: op, URL: b.URL(), Key: key, Kind: kind, RetryAfter: retryAfter(err), Err: err}
}
