package s3

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const (
	// throttleTries is how often one request is sent to a storage that asks for fewer.
	throttleTries = 4
	firstPause    = 200 * time.Millisecond
	// longestPause caps also what the storage asks for.
	longestPause = 10 * time.Second
)

// again repeats a request that was throttled, after the time that the storage asked for or a growing one of its own,
// and one that met another writer of the same key.
func (b *Bucket) again(ctx context.Context, request func() error) error {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: firstPause, MaxInterval: longestPause, Multiplier: 2, RandomizationFactor: 0.3,
	}
	pause.Reset()
	for try := 1; ; try++ {
		err := request()
		if err == nil || try == throttleTries || bucket.KindOf(err) != bucket.Throttled && codeOf(err) != conflict {
			return err
		}
		d := pause.NextBackOff()
		var asked *bucket.Error
		if errors.As(err, &asked) {
			d = max(d, min(asked.RetryAfter, longestPause))
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(d):
		}
	}
}
