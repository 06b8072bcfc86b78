package gcs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const (
	// resumptions is how often in a row an upload is taken up again without any progress.
	resumptions = 3
	firstPause  = 100 * time.Millisecond
	content     = "application/octet-stream"
)

// Put stores an object. Its CRC32C is declared at the beginning, so that the service refuses at the end what is not
// what was sent; for that all but small bodies are read twice.
func (b *Bucket) Put(ctx context.Context, key string, body bucket.Body, o bucket.PutOptions) error {
	name, err := b.place.Key(key)
	if err != nil {
		return err
	}
	return b.fail("put", key, b.put(ctx, name, body, o))
}

// upload is one object on its way.
type upload struct {
	body     bucket.Body
	size     int64
	metadata []byte // JSON
	query    url.Values
}

func (b *Bucket) put(ctx context.Context, name string, body bucket.Body, o bucket.PutOptions) error {
	u := upload{body: body, size: body.Size(), query: url.Values{"fields": {resourceFields}}}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	read, err := w.Body(body).Digest(sum, 0, u.size, &b.buffers)
	if err != nil {
		return err
	}
	w.Stop()
	if read != nil {
		u.body = bytes.NewReader(read)
	}
	if o.IfAbsent {
		u.query.Set("ifGenerationMatch", "0")
	}
	u.metadata, err = json.Marshal(map[string]string{
		"name": name, "contentType": content,
		"crc32c": base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum.Sum32())),
	})
	switch {
	case err != nil:
		return err
	case u.size <= b.settings.PartSize:
		return b.simple(ctx, u)
	default:
		return b.resumable(ctx, u)
	}
}

// simple sends metadata and content in one request.
func (b *Bucket) simple(ctx context.Context, u upload) error {
	boundary := rand.Text()
	part := func(kind string) string { return "--" + boundary + "\r\nContent-Type: " + kind + "\r\n\r\n" }
	before := part("application/json; charset=UTF-8") + string(u.metadata) + "\r\n" + part(content)
	after := "\r\n--" + boundary + "--\r\n"
	u.query.Set("uploadType", "multipart")
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	src := w.Body(u.body)
	resp, err := b.send(w.Context(), &call{
		method: http.MethodPost, url: b.uploads() + "?" + u.query.Encode(),
		header: map[string]string{"Content-Type": "multipart/related; boundary=" + boundary},
		size:   int64(len(before)) + u.size + int64(len(after)),
		body: func() io.Reader {
			return io.MultiReader(strings.NewReader(before), src.Section(0, u.size), strings.NewReader(after))
		},
	})
	if err != nil {
		return b.noBucket(src.Explain(err))
	}
	defer resp.Body.Close()
	return w.Explain(stored(resp, w, u.size))
}

// noBucket says what is missing where no object needs to be there.
func (b *Bucket) noBucket(err error) error {
	if kindOf(err) == bucket.NotFound {
		return b.place.Fail("put", "", bucket.Misplaced, err)
	}
	return err
}

// stored wants the answer to be about an object of this size.
func stored(resp *http.Response, w *bucket.Watchdog, size int64) error {
	var r resource
	if err := read(resp, w, &r); err != nil {
		return err
	}
	if r.Size != size {
		return fmt.Errorf("stored %d bytes where %d were sent", r.Size, size)
	}
	return nil
}

// resumable sends metadata first, and then the content in as few requests as the network allows: after a failure
// the service is asked how much it has, and the rest is sent. A session that is given up ends by itself (after a
// week); nothing of it is visible or charged.
func (b *Bucket) resumable(ctx context.Context, u upload) error {
	session, err := b.session(ctx, u)
	if err != nil {
		return err
	}
	pause := &backoff.ExponentialBackOff{
		InitialInterval: firstPause, RandomizationFactor: 0.2, Multiplier: 2, MaxInterval: b.settings.Stall,
	}
	pause.Reset()
	for offset, failures := int64(0), 0; ; {
		next, done, err := b.rest(ctx, u, session, offset)
		switch {
		case done || err != nil && final(ctx, err):
			return err
		case err == nil && next > offset:
			offset, failures = next, 0
			pause.Reset()
			continue
		}
		if over := bucket.Wait(ctx, pause.NextBackOff()); over != nil {
			return over
		}
		had, done, asked := b.progress(ctx, u, session)
		switch {
		case done || asked != nil && final(ctx, asked):
			return asked
		case asked == nil && had > offset:
			offset, failures = had, 0
			pause.Reset()
			continue
		}
		if failures++; failures > resumptions && err != nil {
			return fmt.Errorf("%w: %w", errStuck, err)
		} else if failures > resumptions {
			return errStuck
		}
	}
}

var (
	errStuck   = errors.New("the upload makes no progress")
	errExpired = errors.New("the upload can't be resumed any more")
)

// final says that trying again within this session is no use.
func final(ctx context.Context, err error) bool {
	return ctx.Err() != nil || kindOf(err) != bucket.Unavailable || errors.Is(err, errExpired)
}

// session begins a resumable upload and returns its address, which is a credential of its own.
func (b *Bucket) session(ctx context.Context, u upload) (string, error) {
	u.query.Set("uploadType", "resumable")
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	resp, err := b.send(w.Context(), &call{
		method: http.MethodPost, url: b.uploads() + "?" + u.query.Encode(),
		header: map[string]string{
			"Content-Type":            "application/json; charset=UTF-8",
			"X-Upload-Content-Type":   content,
			"X-Upload-Content-Length": strconv.FormatInt(u.size, 10),
		},
		size: int64(len(u.metadata)), body: func() io.Reader { return bytes.NewReader(u.metadata) },
	})
	if err != nil {
		return "", b.noBucket(w.Explain(err))
	}
	defer resp.Body.Close()
	if err := read(resp, w, nil); err != nil {
		return "", w.Explain(err)
	}
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || location.Host == "" || location.Scheme == "http" && b.tokens != nil {
		return "", errors.New("the service named no usable address for a resumable upload")
	}
	return location.String(), nil
}

// rest sends what comes from offset on. If the service has taken only a part of it, next is where to go on.
func (b *Bucket) rest(ctx context.Context, u upload, session string, offset int64) (next int64, done bool, err error) {
	limits := b.settings
	limits.Timeout *= time.Duration((u.size-offset)/b.settings.PartSize + 1) // it is as many parts in one
	w := bucket.Watch(ctx, limits)
	defer w.Stop()
	src := w.Body(u.body)
	resp, err := b.send(w.Context(), &call{
		method: http.MethodPut, url: session, anonymous: true, size: u.size - offset,
		header: map[string]string{"Content-Type": content, "Content-Range": fmt.Sprintf("bytes %d-%d/%d", offset, u.size-1, u.size)},
		body:   func() io.Reader { return src.Section(offset, u.size-offset) },
	})
	if src.Err() != nil {
		err = src.Explain(err)
	}
	return taken(resp, err, w, u.size)
}

// progress asks how much the service has.
func (b *Bucket) progress(ctx context.Context, u upload, session string) (next int64, done bool, err error) {
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	resp, err := b.send(w.Context(), &call{
		method: http.MethodPut, url: session, anonymous: true,
		header: map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", u.size)},
	})
	return taken(resp, err, w, u.size)
}

// taken reads from an answer whether the upload is done, or how far it is: 308 with "Range: bytes=0-LAST", or without
// that header when nothing has arrived.
func taken(resp *http.Response, err error, w *bucket.Watchdog, size int64) (next int64, done bool, _ error) {
	var api *apiError
	switch {
	case errors.As(err, &api) && (api.status == http.StatusNotFound || api.status == http.StatusGone):
		return 0, false, fmt.Errorf("%w (HTTP %d)", errExpired, api.status)
	case err != nil:
		return 0, false, w.Explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPermanentRedirect {
		err = w.Explain(stored(resp, w, size))
		return 0, err == nil, err
	}
	if err := read(resp, w, nil); err != nil {
		return 0, false, w.Explain(err)
	}
	got := resp.Header.Get("Range")
	if got == "" {
		return 0, false, nil
	}
	last, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimPrefix(got, "bytes="), "0-"), 10, 64)
	if err != nil || last < 0 || last >= size {
		return 0, false, fmt.Errorf("the service says that it has %.40q of %d bytes", got, size)
	}
	return last + 1, false, nil
}
