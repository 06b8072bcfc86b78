package alibaba

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

const (
	tokenItem   = "/latest/api/token"
	tokenHeader = "X-aliyun-ecs-metadata-token"
	ttlHeader   = "X-aliyun-ecs-metadata-token-ttl-seconds"
	// ttl is the longest that a token may last.
	ttl = 21600 * time.Second
)

// session keeps a token for the metadata: the security hardening mode, which every Linux instance
// has. The normal mode, without tokens, is never tried: it would hide why a token can't be had, and go
// around a protection that the owner chose. A session is used by one goroutine.
type session struct {
	token string
	until time.Time
}

// get reads an item. A token that is refused is replaced at once, and the item asked for once more.
func (s *session) get(ctx context.Context, c *metadata.Client, path string) (metadata.Answer, error) {
	a, err := s.once(ctx, c, path)
	if a.Status == http.StatusUnauthorized && ctx.Err() == nil {
		s.token = ""
		a, err = s.once(ctx, c, path)
	}
	return a, err
}

// once makes one GET, and the PUT before it when there is no token. The answer is the GET's, and empty
// when there was none.
func (s *session) once(ctx context.Context, c *metadata.Client, path string) (metadata.Answer, error) {
	if s.token == "" || time.Now().After(s.until) {
		if err := s.renew(ctx, c); err != nil {
			return metadata.Answer{}, err
		}
	}
	return c.Get(ctx, path, http.Header{tokenHeader: {s.token}})
}

// renew fetches a token.
func (s *session) renew(ctx context.Context, c *metadata.Client) error {
	s.token = ""
	asked := time.Now()
	a, err := c.Do(ctx, http.MethodPut, tokenItem, http.Header{ttlHeader: {strconv.Itoa(int(ttl / time.Second))}}, nil)
	switch {
	case a.Status == http.StatusForbidden:
		return metadata.Failed(providers.Denied, "PUT %s: 403: metadata is switched off for this instance, or the request came through a proxy", tokenItem)
	case err != nil:
		return err
	case !a.Found():
		return metadata.Failed(providers.Status, "PUT %s: %d: this service gives out no tokens; is this machine on Alibaba Cloud?", tokenItem, a.Status)
	}
	if err := metadata.CheckToken(a.Body); err != nil {
		return metadata.Failed(providers.Malformed, "PUT %s: %w", tokenItem, err)
	}
	// The last minute may be another one by the service's clock.
	s.token, s.until = string(a.Body), asked.Add(ttl-time.Minute)
	return nil
}
