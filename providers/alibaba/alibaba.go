// Package alibaba watches the instance metadata of Alibaba Cloud's ECS for the announcement that a spot
// instance is taken back. It is where a rescue on Alibaba Cloud starts.
package alibaba

import (
	"cmp"
	"context"
	"regexp"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata"
	"github.com/lifeboat/lifeboat/providers/termination"
)

const (
	// Name of the source.
	Name = "alibaba-spot"
	// DefaultEndpoint is reachable only from inside an ECS instance.
	DefaultEndpoint = "http://100.100.100.200"

	// timeItem is documented in the ECS user guide, "Detect and handle spot instance interruptions" and
	// "Instance metadata": 2020-04-07T17:03:00Z, or 404.
	timeItem   = "/latest/meta-data/instance/spot/termination-time"
	regionItem = "/latest/meta-data/region-id"
)

// Options of the source. The zero value is right on ECS.
type Options = termination.Options

// New makes the source alibaba-spot; it opens no connection.
func New(o Options) (*termination.Source, error) {
	return termination.New(termination.Cloud{
		Source: Name, Endpoint: DefaultEndpoint, Path: timeItem, Get: new(session).get,
		Parse: func(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) },
	}, o)
}

// Detect says whether this machine runs on Alibaba Cloud: whether a metadata service at the endpoint
// (DefaultEndpoint when "") gives out ECS tokens and, for one, the name of a region. ctx limits it.
func Detect(ctx context.Context, endpoint string) bool {
	return metadata.Identifies(ctx, cmp.Or(endpoint, DefaultEndpoint), func(ctx context.Context, c *metadata.Client) (metadata.Answer, error) {
		return new(session).get(ctx, c, regionItem)
	}, regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+\s*$`))
}
