package azure

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the checksum that Put Blob and Put Block verify
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const (
	// maxBlocks is what one object may consist of.
	maxBlocks = 50_000
	// blockTries is how often one block is sent.
	blockTries = 3
	blockPause = 200 * time.Millisecond
)

// Put stores an object: in one request up to PartSize, else as blocks that nobody sees until they are committed
// together. The service verifies the MD5 of each request; to know it before, all but small bodies are read twice. The client's own UploadFile loses the condition when it commits several blocks (azblob up to v1.8.1).
func (b *Bucket) Put(ctx context.Context, key string, body bucket.Body, o bucket.PutOptions) error {
	name, err := b.place.Key(key)
	if err != nil {
		return err
	}
	client := b.container.NewBlockBlobClient(name)
	if body.Size() <= b.settings.PartSize {
		err = b.whole(ctx, client, body, o)
	} else {
		err = b.blocks(ctx, client, body, o)
	}
	if o.IfAbsent && bloberror.HasCode(err, bloberror.InvalidBlockList) {
		// Another writer's commit took our blocks away.
		if _, there := b.Stat(ctx, key); there == nil {
			return b.place.Fail("put", key, bucket.Exists, err)
		}
	}
	return b.fail("put", key, err)
}

func conditions(o bucket.PutOptions) *blob.AccessConditions {
	if !o.IfAbsent {
		return nil
	}
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

// part is what one request sends.
type part struct {
	body   bucket.Body
	offset int64
	size   int64
	md5    []byte
}

// prepare hashes a part; a small one is read into memory.
func (b *Bucket) prepare(ctx context.Context, body bucket.Body, offset, size int64) (*part, error) {
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	sum := md5.New() //nolint:gosec // see above
	content, err := w.Body(body).Digest(sum, offset, size, &b.buffers)
	if err != nil {
		return nil, err
	}
	p := &part{body: body, offset: offset, size: size, md5: sum.Sum(nil)}
	if content != nil {
		p.body, p.offset = bytes.NewReader(content), 0
	}
	return p, nil
}

// send calls f with a part as the client wants it.
func (b *Bucket) send(ctx context.Context, p *part, f func(context.Context, io.ReadSeekCloser, blob.TransferValidationType) error) error {
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	src := w.Body(p.body)
	return src.Explain(f(w.Context(), streaming.NopCloser(src.Section(p.offset, p.size)), blob.TransferValidationTypeMD5(p.md5)))
}

func (b *Bucket) whole(ctx context.Context, client *blockblob.Client, body bucket.Body, o bucket.PutOptions) error {
	p, err := b.prepare(ctx, body, 0, body.Size())
	if err != nil {
		return err
	}
	return b.send(ctx, p, func(ctx context.Context, r io.ReadSeekCloser, sum blob.TransferValidationType) error {
		_, err := client.Upload(ctx, r, &blockblob.UploadOptions{TransactionalValidation: sum, AccessConditions: conditions(o)})
		return err
	})
}

func (b *Bucket) blocks(ctx context.Context, client *blockblob.Client, body bucket.Body, o bucket.PutOptions) error {
	size := max(b.settings.PartSize, (body.Size()+maxBlocks-1)/maxBlocks)
	// Ids of one length that no other writer of the same object has: blocks wait under its name.
	writer, ids := rand.Text()[:16], []string{}
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(b.settings.Parallel)
	for offset := int64(0); offset < body.Size() && within.Err() == nil; offset += size {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%06d", writer, len(ids)))
		ids = append(ids, id)
		g.Go(func() error { return b.block(within, client, body, offset, min(size, body.Size()-offset), id) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	_, err := client.CommitBlockList(w.Context(), ids, &blockblob.CommitBlockListOptions{AccessConditions: conditions(o)})
	return w.Explain(err)
}

// block sends one block, again if the network or the service fails: it has no effect that a second time would change.
func (b *Bucket) block(ctx context.Context, client *blockblob.Client, body bucket.Body, offset, size int64, id string) error {
	p, err := b.prepare(ctx, body, offset, size)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err = b.send(ctx, p, func(ctx context.Context, r io.ReadSeekCloser, sum blob.TransferValidationType) error {
			_, err := client.StageBlock(ctx, id, r, &blockblob.StageBlockOptions{TransactionalValidation: sum})
			return err
		})
		if err == nil || try == blockTries || kindOf(err) != bucket.Unavailable {
			return err
		}
		if over := bucket.Wait(ctx, time.Duration(try)*blockPause); over != nil {
			return over
		}
	}
}
