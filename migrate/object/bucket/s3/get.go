package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Get asks for a part of an object.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	name, err := b.place.Key(key)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, b.place.Fail("get", key, bucket.BadBody, errors.New("negative offset"))
	}
	if length == 0 {
		if _, err := b.Stat(ctx, key); err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	in := &s3.GetObjectInput{Bucket: b.name, Key: &name}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	var r *reader
	err = b.again(ctx, func() (err error) {
		r, err = b.open(ctx, key, in, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (b *Bucket) open(ctx context.Context, key string, in *s3.GetObjectInput, length int64) (*reader, error) {
	w := bucket.Watch(ctx, b.settings)
	out, err := b.client.GetObject(w.Context(), in)
	if err == nil && length > 0 && aws.ToInt64(out.ContentLength) != length {
		out.Body.Close()
		err = &bucket.BodyError{Err: fmt.Errorf("the object has only %d of these %d bytes", aws.ToInt64(out.ContentLength), length)}
	}
	if err != nil {
		w.Stop()
		return nil, b.fail(w, "get", key, err)
	}
	return &reader{b: b, w: w, key: key, body: out.Body}, nil
}

// reader is an object on its way. A whole one is compared with the checksum that the server keeps, by the SDK.
type reader struct {
	b    *Bucket
	w    *bucket.Watchdog
	key  string
	body io.ReadCloser
}

func (r *reader) Read(p []byte) (int, error) {
	r.w.Wake()
	defer r.w.Rest()
	n, err := r.body.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	return n, r.b.fail(r.w, "get", r.key, err)
}

func (r *reader) Close() error {
	r.w.Stop()
	return r.body.Close()
}
