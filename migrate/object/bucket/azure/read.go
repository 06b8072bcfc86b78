package azure

import (
	"bytes"
	"context"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Get opens a part of an object.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	name, err := b.place.Key(key)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error { return b.fail("get", key, err) }
	if offset < 0 {
		return nil, fail(errRange)
	}
	if length == 0 { // no range says that
		o, err := b.Stat(ctx, key)
		if err == nil && offset > o.Size {
			err = fail(errRange)
		}
		return io.NopCloser(bytes.NewReader(nil)), err
	}
	w := bucket.Watch(ctx, b.settings)
	d, err := b.download(w, name, offset, length)
	if err != nil {
		w.Stop()
		return nil, fail(w.Explain(err))
	}
	d.Fail = fail
	return d, nil
}

func (b *Bucket) download(w *bucket.Watchdog, name string, offset, length int64) (*bucket.Download, error) {
	got, err := b.container.NewBlobClient(name).DownloadStream(w.Context(), &blob.DownloadStreamOptions{
		Range: blob.HTTPRange{Offset: offset, Count: max(length, 0)},
	})
	switch {
	case err != nil:
		return nil, err
	case got.ContentLength == nil:
		err = errAnswer
	case isFolder(got.Metadata):
		err = errFolder
	case length > 0 && *got.ContentLength != length:
		err = errRange
	}
	if err != nil {
		got.Body.Close()
		return nil, err
	}
	return &bucket.Download{Watch: w, Body: got.Body, Left: *got.ContentLength}, nil
}

// pageSize is how many objects are listed at once; the service would allow more, but a page is held in memory.
const pageSize = 1000

// List goes through the objects in the order of their names.
func (b *Bucket) List(ctx context.Context, prefix string, each func(bucket.Object) error) error {
	pages := b.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
		Prefix: to.Ptr(b.place.Under(prefix)), MaxResults: to.Ptr(int32(pageSize)),
		Include: container.ListBlobsInclude{Metadata: true},
	})
	for pages.More() {
		objects, err := b.page(ctx, pages.NextPage)
		if err != nil {
			return b.fail("list", prefix, err)
		}
		for _, o := range objects {
			if err := each(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Bucket) page(ctx context.Context, next func(context.Context) (container.ListBlobsFlatResponse, error)) ([]bucket.Object, error) {
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	page, err := next(w.Context())
	if err != nil {
		return nil, w.Explain(err)
	}
	if page.Segment == nil {
		return nil, errAnswer
	}
	var objects []bucket.Object
	for _, item := range page.Segment.BlobItems {
		if item == nil || item.Name == nil || item.Properties == nil || isFolder(item.Metadata) {
			continue
		}
		key, ok := b.place.Relative(*item.Name)
		p := item.Properties
		if !ok || bucket.CheckKey(key) != nil || p.ContentLength == nil || p.LastModified == nil {
			continue
		}
		objects = append(objects, bucket.Object{Key: key, Size: *p.ContentLength, Modified: *p.LastModified})
	}
	return objects, nil
}
