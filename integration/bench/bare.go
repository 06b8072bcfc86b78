package main

import (
	"context"
	"net/http"
	"time"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

// bareName is the loop that shows what this machine makes of any poll at this interval.
const bareName = "bare-loop"

// bare asks for the interruption at each tick with one token, and does nothing else: no jitter, no care for failures, no
// journal behind it.
type bare struct{ client *metadata.Client }

func newBare(endpoint string) (providers.Source, error) {
	c, err := metadata.New(endpoint)
	return bare{c}, err
}

// Name is "bare-loop".
func (b bare) Name() string { return bareName }

// Run goes on until ctx ends or a request fails.
func (b bare) Run(ctx context.Context, to chan<- providers.Notice) error {
	token, err := b.client.Do(ctx, http.MethodPut, "/latest/api/token", http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"21600"}}, nil)
	if err != nil {
		return err
	}
	header := http.Header{"X-Aws-Ec2-Metadata-Token": {string(token.Body)}}
	tick := time.NewTicker(noticePoll)
	defer tick.Stop()
	last := ""
	for {
		a, err := b.client.Get(ctx, "/latest/meta-data/spot/instance-action", header)
		if err != nil {
			return err
		}
		if text := string(a.Body); a.Found() && text != last {
			last = text
			select {
			case to <- providers.Notice{ID: text, Source: bareName, Kind: providers.Rebalance, Seen: time.Now(), Deadline: deadline(0)}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
