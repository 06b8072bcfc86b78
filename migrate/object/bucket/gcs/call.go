package gcs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// maxAnswer caps an answer in bytes: a page of a list is the largest one.
const maxAnswer = 8 << 20

// call is one request.
type call struct {
	method, url string
	header      map[string]string
	body        func() io.Reader // nil: none; may be called again
	size        int64
	anonymous   bool // the URL is credential enough
}

// request builds the HTTP request for it.
func (b *Bucket) request(ctx context.Context, c *call) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, c.url, http.NoBody)
	if err != nil {
		return nil, bucket.Plain(err)
	}
	if c.body != nil && c.size > 0 {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(c.body()), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = c.size
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	if b.tokens != nil && !c.anonymous {
		token, err := b.tokens.get(ctx)
		if err != nil {
			return nil, err
		}
		token.SetAuthHeader(req)
	}
	return req, nil
}

// send sends it. Any status but 2xx and 308 is an *apiError. The caller closes the answer's body.
func (b *Bucket) send(ctx context.Context, c *call) (*http.Response, error) {
	req, err := b.request(ctx, c)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, bucket.Plain(err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusPermanentRedirect {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, newAPIError(resp)
}

// ask sends a call within a watchdog of its own, and reads the answer into v if that is not nil.
func (b *Bucket) ask(ctx context.Context, c *call, v any) error {
	w := bucket.Watch(ctx, b.settings)
	defer w.Stop()
	resp, err := b.send(w.Context(), c)
	if err != nil {
		return w.Explain(err)
	}
	defer resp.Body.Close()
	return w.Explain(read(resp, w, v))
}

// read reads an answer as JSON.
func read(resp *http.Response, w *bucket.Watchdog, v any) error {
	body := io.LimitReader(resp.Body, maxAnswer+1)
	content, err := io.ReadAll(moving{body, w})
	switch {
	case err != nil:
		return err
	case len(content) > maxAnswer:
		return fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	case v == nil:
		return nil
	}
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("the answer is not what Cloud Storage says: %w", err)
	}
	return nil
}

// moving counts reads as progress.
type moving struct {
	io.Reader
	w *bucket.Watchdog
}

func (m moving) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.w.Moved()
	}
	return n, err
}
