package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

var errRange = errors.New("the range is not within the object")

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
	c := &call{method: http.MethodGet, url: b.object(name) + "?alt=media", header: map[string]string{}}
	switch {
	case length > 0:
		c.header["Range"] = fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
	case offset > 0:
		c.header["Range"] = fmt.Sprintf("bytes=%d-", offset)
	}
	resp, err := b.send(w.Context(), c)
	if err != nil {
		return nil, err
	}
	wanted := http.StatusOK
	if c.header["Range"] != "" {
		wanted = http.StatusPartialContent
	}
	switch n := resp.ContentLength; {
	case resp.StatusCode != wanted:
		err = fmt.Errorf("HTTP %d where %d is wanted", resp.StatusCode, wanted)
	case n < 0:
		err = errors.New("the service does not say how long the content is")
	case length > 0 && n != length:
		err = errRange
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return &bucket.Download{Watch: w, Body: resp.Body, Left: resp.ContentLength}, nil
}

// pageSize is how many objects are listed at once, which is what the service allows.
const pageSize = 1000

// List goes through the objects in the order of their names.
func (b *Bucket) List(ctx context.Context, prefix string, each func(bucket.Object) error) error {
	query := url.Values{
		"prefix": {b.place.Under(prefix)}, "maxResults": {strconv.Itoa(pageSize)},
		"fields": {"items(" + resourceFields + "),nextPageToken"},
	}
	for {
		var page struct {
			Items []resource `json:"items"`
			Next  string     `json:"nextPageToken"`
		}
		err := b.ask(ctx, &call{method: http.MethodGet, url: b.objects() + "?" + query.Encode()}, &page)
		if err == nil && page.Next != "" && page.Next == query.Get("pageToken") {
			err = errors.New("the service lists the same page again and again")
		}
		if kindOf(err) == bucket.NotFound { // of a list only the bucket can be missing
			return b.place.Fail("list", prefix, bucket.Misplaced, err)
		}
		if err != nil {
			return b.fail("list", prefix, err)
		}
		for _, r := range page.Items {
			key, ok := b.place.Relative(r.Name)
			if !ok || bucket.CheckKey(key) != nil { // what others call a folder, for example
				continue
			}
			if err := each(bucket.Object{Key: key, Size: r.Size, Modified: r.Updated}); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		query.Set("pageToken", page.Next)
	}
}
