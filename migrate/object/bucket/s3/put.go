package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// onePut is the largest object that is sent with one request, in bytes. Larger ones go in parts, so that what has to
// be repeated after trouble is small.
const onePut = 16 << 20

// Put stores an object.
func (b *Bucket) Put(ctx context.Context, key string, body bucket.Body, o bucket.PutOptions) error {
	name, err := b.place.Key(key)
	if err != nil {
		return err
	}
	if body.Size() > onePut {
		return b.multipart(ctx, key, name, body, o)
	}
	return b.call(ctx, "put", key, func(w *bucket.Watchdog) error {
		return b.put(w, name, body, o)
	})
}

func (b *Bucket) put(w *bucket.Watchdog, name string, body bucket.Body, o bucket.PutOptions) error {
	source := w.Body(body)
	sum, content, err := b.checksum(source, 0, body.Size())
	if err != nil {
		return err
	}
	in := &s3.PutObjectInput{
		Bucket: b.name, Key: &name, Body: content, ContentLength: aws.Int64(body.Size()), ChecksumCRC32C: sum,
		ServerSideEncryption: types.ServerSideEncryption(b.settings.Encryption.Algorithm), SSEKMSKeyId: b.encryptionKey(),
		IfNoneMatch: ifNoneMatch(o),
	}
	_, err = b.client.PutObject(w.Context(), in, once(o))
	return source.Explain(err)
}

func (b *Bucket) encryptionKey() *string {
	if b.settings.Encryption.Key == "" {
		return nil
	}
	return &b.settings.Encryption.Key
}

func ifNoneMatch(o bucket.PutOptions) *string {
	if !o.IfAbsent {
		return nil
	}
	return aws.String("*")
}

// once keeps the SDK from sending a conditional request again by itself: when the answer to the first was lost, the
// second would find the first one's object, and take it for somebody else's.
func once(o bucket.PutOptions) func(*s3.Options) {
	return func(opts *s3.Options) {
		if o.IfAbsent {
			opts.RetryMaxAttempts, opts.Retryer = 1, aws.NopRetryer{}
		}
	}
}

// checksum is the CRC32C of a part of the body, in the form of S3's headers, with what is to be sent. It goes with the
// request, so that the server refuses what differs; computed here, before, it keeps the SDK from holding parts in memory.
func (b *Bucket) checksum(source *bucket.Source, offset, length int64) (*string, io.ReadSeeker, error) {
	h := crc32.New(b.castagnoli)
	content, err := source.Digest(h, offset, length, &b.buffers)
	if err != nil {
		return nil, nil, err
	}
	sum := aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, h.Sum32())))
	if content != nil {
		return sum, bytes.NewReader(content), nil
	}
	return sum, source.Section(offset, length), nil
}
