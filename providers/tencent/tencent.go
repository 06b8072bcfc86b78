// Package tencent watches the instance metadata of Tencent Cloud's CVM for the announcement that a spot
// instance is taken back. It is where a rescue on Tencent Cloud starts.
package tencent

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
	Name = "tencent-spot"
	// DefaultEndpoint is a name that only the resolvers inside Tencent Cloud know.
	DefaultEndpoint = "http://metadata.tencentyun.com"

	// timeItem is documented in "Querying the Reclamation Status of a Spot Instance" (document
	// 213/32487): 2018-08-18 12:05:33 in UTC+8, or 404.
	timeItem = "/latest/meta-data/spot/termination-time"
	idItem   = "/latest/meta-data/instance-id"

	layout = "2006-01-02 15:04:05"
)

// Options of the source. The zero value is right on CVM.
type Options = termination.Options

// New makes the source tencent-spot; it opens no connection.
func New(o Options) (*termination.Source, error) {
	return termination.New(termination.Cloud{Source: Name, Endpoint: DefaultEndpoint, Path: timeItem, Get: get, Parse: parse}, o)
}

// get reads an item. CVM asks for no credentials.
func get(ctx context.Context, c *metadata.Client, path string) (metadata.Answer, error) {
	return c.Get(ctx, path, nil)
}

// parse reads a time, which is always that of China.
func parse(s string) (time.Time, error) {
	return time.ParseInLocation(layout, s, time.FixedZone("UTC+8", 8*60*60))
}

// Detect says whether this machine runs on Tencent Cloud: whether a metadata service at the endpoint
// (DefaultEndpoint when "") knows it under the id of a CVM instance. One request; ctx limits it.
func Detect(ctx context.Context, endpoint string) bool {
	return metadata.Identifies(ctx, cmp.Or(endpoint, DefaultEndpoint), func(ctx context.Context, c *metadata.Client) (metadata.Answer, error) {
		return get(ctx, c, idItem)
	}, regexp.MustCompile(`^ins-[0-9a-z]{4,32}\s*$`))
}
