package catalog

import (
	"testing"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/folder"
)

// newBucket is an empty one, in a folder.
func newBucket(t *testing.T) bucket.Bucket {
	t.Helper()
	b, err := folder.Open(t.Context(), folder.Options{Place: bucket.Place{Scheme: "file", Prefix: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}
