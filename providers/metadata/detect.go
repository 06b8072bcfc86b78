package metadata

import (
	"context"
	"regexp"
)

// Identifies says whether a metadata service at the endpoint answers with a text that only one cloud's does. get
// asks for it; ctx limits how long that may take.
func Identifies(ctx context.Context, endpoint string, get func(context.Context, *Client) (Answer, error), pattern *regexp.Regexp) bool {
	c, err := New(endpoint)
	if err != nil {
		return false
	}
	a, err := get(ctx, c)
	return err == nil && a.Found() && pattern.Match(a.Body)
}
