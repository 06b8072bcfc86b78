package object

import (
	"context"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/folder"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/s3"
)

// Open makes the bucket of a URL: s3://bucket/prefix, s3a://bucket/prefix, or file:///folder. It may look for
// the region, within ctx; credentials are looked for when they are first needed. Errors are of the kind
// bucket.Misplaced or bucket.Denied.
func Open(ctx context.Context, url string, s Settings) (bucket.Bucket, error) {
	place, err := bucket.Parse(url)
	if err != nil {
		return nil, err
	}
	switch place.Scheme {
	case "s3", "s3a":
		return s3.Open(ctx, s3.Options{Place: place, Settings: s})
	case "file":
		return folder.Open(ctx, folder.Options{Place: place, Settings: s})
	default:
		return nil, unknownScheme(place)
	}
}
