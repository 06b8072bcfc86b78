package gcp

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.uber.org/zap"
)

const (
	// distrustFirst is how long long polls are not tried after one misbehaved; it doubles up to distrustLast.
	distrustFirst = time.Minute
	distrustLast  = 15 * time.Minute
)

// item is one key of the metadata that is watched by long polls ("Query VM metadata", wait_for_change,
// last_etag, timeout_sec): the server answers when the value has changed, or when the time is over.
//
// Not everything between here and the server bears that. What cuts a long poll, answers it at once or
// mixes up etags makes the item fall back to plain polls, which any poll of the loop can be.
type item struct {
	client  *client
	path    string
	hold    time.Duration // of a long poll; 0: never
	timeout time.Duration // of an answer, beyond hold
	log     *zap.Logger

	last     answer // etag "" until there is one
	distrust time.Duration
	until    time.Time // no long poll before
}

// look reads the item once. It takes at most hold and two times timeout.
func (i *item) look(ctx context.Context) (answer, error) {
	if i.hold <= 0 || i.last.etag == "" || time.Now().Before(i.until) {
		return i.plain(ctx)
	}
	a, why, err := i.long(ctx)
	switch {
	case ctx.Err() != nil:
		return a, err
	case err != nil:
		a, plainErr := i.plain(ctx)
		if plainErr == nil {
			i.suspect("it failed", err)
		}
		return a, plainErr
	case why != "":
		i.suspect(why, nil)
	default:
		i.distrust = 0
	}
	i.last = a
	return a, nil
}

// long sends a long poll. The text says how it misbehaved, if it did.
func (i *item) long(ctx context.Context) (answer, string, error) {
	ctx, cancel := context.WithTimeout(ctx, i.hold+i.timeout)
	defer cancel()
	start := time.Now()
	seconds := (i.hold + time.Second - 1) / time.Second
	a, err := i.client.get(ctx, fmt.Sprintf("%s?wait_for_change=true&last_etag=%s&timeout_sec=%d", i.path, url.QueryEscape(i.last.etag), seconds))
	same := a.value == i.last.value && a.found == i.last.found
	switch {
	case err != nil:
		return a, "", err
	case !same && a.etag == i.last.etag:
		return a, "the value changed and its etag did not", nil
	case same && time.Since(start) < i.hold/2:
		return a, "it was answered before anything changed", nil
	}
	return a, "", nil
}

// plain reads the value as it is. While that fails there are no long polls: they would notice later that
// the server is back.
func (i *item) plain(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, i.timeout)
	defer cancel()
	a, err := i.client.get(ctx, i.path)
	if err != nil {
		i.last.etag = ""
		return a, err
	}
	i.last = a
	return a, nil
}

// suspect puts long polls off for a while.
func (i *item) suspect(why string, err error) {
	if i.distrust == 0 {
		i.log.Info("a long poll of the metadata misbehaved; plain polls for a while", zap.String("item", i.path), zap.String("why", why), zap.Error(err))
	}
	i.distrust = min(max(2*i.distrust, distrustFirst), distrustLast)
	i.until = time.Now().Add(i.distrust)
}
