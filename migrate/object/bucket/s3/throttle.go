package s3

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const (
	// tries is how often one request is sent to a storage that asks for fewer of them, or gets it spoiled.
	tries      = 4
	firstPause = 200 * time.Millisecond
	// longestPause caps also what the storage asks for.
	longestPause = 10 * time.Second
)

// again repeats a request that was throttled, after the time that the storage asked for or a growing one of its own. It
// also repeats one that met another writer of the same key, and one whose body was spoiled on its way: of a large
// object that is one part.
func (b *Bucket) again(ctx context.Context, request func() error) error {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: firstPause, MaxInterval: longestPause, Multiplier: 2, RandomizationFactor: 0.3,
	}
	pause.Reset()
	for try := 1; ; try++ {
		err := request()
		if err == nil || try == tries || bucket.KindOf(err) != bucket.Throttled && codeOf(err) != conflict && !spoiled(err) {
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
