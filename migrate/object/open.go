package object

import (
	"context"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/azure"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/folder"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/gcs"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/s3"
)

// Open makes the bucket of a URL: s3://bucket/prefix, s3a://bucket/prefix, gs://bucket/prefix, abfs(s) and wasb(s) as
// abfss://container@account.dfs.core.windows.net/prefix, or file:///folder. It may look for the region and for
// credentials, within ctx; to the bucket itself it sends nothing. Errors are of the kind bucket.Misplaced or bucket.Denied.
func Open(ctx context.Context, url string, s Settings) (bucket.Bucket, error) {
	place, err := bucket.Parse(url)
	if err != nil {
		return nil, err
	}
	switch place.Scheme {
	case "s3", "s3a":
		return s3.Open(ctx, s3.Options{Place: place, Settings: s})
	case "gs":
		return gcs.Open(ctx, gcs.Options{Place: place, Settings: s})
	case "abfs", "abfss", "wasb", "wasbs":
		return azure.Open(ctx, azure.Options{Place: place, Settings: s})
	case "file":
		return folder.Open(ctx, folder.Options{Place: place, Settings: s})
	default:
		return nil, unknownScheme(place)
	}
}
