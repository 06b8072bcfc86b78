package s3

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const (
	// maxParts is S3's limit (Amazon S3 User Guide, "Multipart upload limits").
	maxParts = 10_000
	// assembled is how many bytes of parts the slowest server puts together per second.
	assembled = 16 << 20
	// abortTime is how long giving up an upload may take. Its own: the reason is often that the other time is over.
	abortTime  = 5 * time.Second
	abortPause = 200 * time.Millisecond
)

// upload is one upload in parts.
type upload struct {
	b    *Bucket
	key  string
	name string
	id   *string
	body bucket.Body
	o    bucket.PutOptions
}

// multipart sends an object in parts. Nobody sees it before the last request, and what was sent is given up when
// anything fails, so that nobody pays for it.
func (b *Bucket) multipart(ctx context.Context, key, name string, body bucket.Body, o bucket.PutOptions) error {
	u := &upload{b: b, key: key, name: name, body: body, o: o}
	if err := u.begin(ctx); err != nil {
		return err
	}
	parts, err := u.parts(ctx)
	if err == nil {
		err = u.complete(ctx, parts)
	}
	if err != nil {
		u.abort(ctx)
	}
	return err
}

func (u *upload) begin(ctx context.Context) error {
	b := u.b
	return b.call(ctx, "put", u.key, func(w *bucket.Watchdog) error {
		out, err := b.client.CreateMultipartUpload(w.Context(), &s3.CreateMultipartUploadInput{
			Bucket: b.name, Key: &u.name, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
			ServerSideEncryption: types.ServerSideEncryption(b.settings.Encryption.Algorithm), SSEKMSKeyId: b.encryptionKey(),
		})
		if err == nil {
			u.id = out.UploadId
		}
		return err
	})
}

// parts sends them, a few at the same time. Each is a request with limits of its own.
func (u *upload) parts(ctx context.Context) ([]types.CompletedPart, error) {
	size := u.body.Size()
	length := max(u.b.settings.PartSize, (size+maxParts-1)/maxParts)
	done := make([]types.CompletedPart, (size+length-1)/length)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(u.b.settings.Parallel)
	for i := range done {
		if ctx.Err() != nil {
			break
		}
		offset := int64(i) * length
		group.Go(func() error {
			var err error
			done[i], err = u.part(ctx, int32(i+1), offset, min(length, size-offset))
			return err
		})
	}
	return done, group.Wait()
}

func (u *upload) part(ctx context.Context, number int32, offset, length int64) (types.CompletedPart, error) {
	part := types.CompletedPart{PartNumber: &number}
	err := u.b.call(ctx, "put", u.key, func(w *bucket.Watchdog) error {
		source := w.Body(u.body)
		sum, content, err := u.b.checksum(source, offset, length)
		if err != nil {
			return err
		}
		out, err := u.b.client.UploadPart(w.Context(), &s3.UploadPartInput{
			Bucket: u.b.name, Key: &u.name, UploadId: u.id, PartNumber: &number,
			Body: content, ContentLength: &length, ChecksumCRC32C: sum,
		})
		if err == nil {
			part.ETag, part.ChecksumCRC32C = out.ETag, sum
		}
		return source.Explain(err)
	})
	if err != nil {
		err = fmt.Errorf("part %d: %w", number, err)
	}
	return part, err
}

// complete makes the object of its parts. An answer that was lost leaves it open whether it is there.
func (u *upload) complete(ctx context.Context, parts []types.CompletedPart) error {
	if err := ctx.Err(); err != nil {
		return u.b.place.Fail("put", u.key, bucket.Unavailable, err)
	}
	return u.b.callFor(ctx, "put", u.key, u.assembly(), func(w *bucket.Watchdog) error {
		_, err := u.b.client.CompleteMultipartUpload(w.Context(), &s3.CompleteMultipartUploadInput{
			Bucket: u.b.name, Key: &u.name, UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
			MpuObjectSize: aws.Int64(u.body.Size()), IfNoneMatch: ifNoneMatch(u.o),
		}, once(u.o))
		return err
	})
}

// assembly is how long the server may be silent while it makes one object of the parts: some copy them.
func (u *upload) assembly() time.Duration {
	return u.b.settings.Stall + time.Duration(u.body.Size()/assembled)*time.Second
}

// abort gives up what was sent, behind the caller's back: his time is often over. Parts that were under way may still
// arrive after the first request and would be kept, so it is repeated until the server knows nothing of the upload.
func (u *upload) abort(ctx context.Context) {
	u.b.aborts.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		for pause := abortPause; ; pause *= 2 {
			_, err := u.b.client.AbortMultipartUpload(ctx,
				&s3.AbortMultipartUploadInput{Bucket: u.b.name, Key: &u.name, UploadId: u.id})
			if codeOf(err) == "NoSuchUpload" {
				return
			}
			select {
			case <-ctx.Done(): // what is left is for the bucket's own rule for unfinished uploads
				return
			case <-time.After(pause):
			}
		}
	})
}
