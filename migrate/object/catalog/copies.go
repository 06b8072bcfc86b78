package catalog

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Layout is where the two objects of an output lie in the bucket.
type Layout func(id migrate.OutputID) (data, index string)

// Usage is what the manifests of one place say about it.
type Usage struct {
	Place       Place
	Application Application
	Outputs     int   // each counted once, also when several manifests list it
	Bytes       int64 // of those
	Manifests   int
	Newest      time.Time // when the last manifest was written
}

// Usage adds up the manifests of a place. What they list may have been removed since, or may never have been stored.
func (c *Catalog) Usage(ctx context.Context, p Place) (Usage, error) {
	u := Usage{Place: p}
	seen := map[Ref]bool{}
	err := c.Manifests(ctx, p, func(m *Manifest) error {
		u.Manifests++
		if m.Written.After(u.Newest) {
			u.Newest, u.Application = m.Written, m.Application
		}
		for _, e := range m.Outputs {
			if !seen[e.Ref] {
				seen[e.Ref] = true
				u.Outputs++
				u.Bytes += e.Bytes()
			}
		}
		return nil
	})
	return u, err
}

// Stored calls each for every output of a place that is there with both of its objects and in the sizes that its
// manifest says, and is not settled. It lists the bucket once per shuffle.
func (c *Catalog) Stored(ctx context.Context, p Place, layout Layout, each func(*Manifest, Entry) error) error {
	settled, bad := c.Settled(ctx, p)
	if bad != nil && !errors.Is(bad, ErrBadDocument) {
		return bad
	}
	there := map[int]map[string]int64{} // by shuffle: sizes by key
	seen := map[Ref]bool{}
	err := c.Manifests(ctx, p, func(m *Manifest) error {
		for _, e := range m.Outputs {
			if seen[e.Ref] || settled[e.Ref] {
				continue
			}
			sizes, err := c.shuffle(ctx, there, e.In(p.App), layout)
			if err != nil {
				return err
			}
			if !e.isIn(sizes, p.App, layout) {
				continue
			}
			seen[e.Ref] = true
			if err := each(m, e); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, bad)
}

// shuffle lists the objects of an output's shuffle, once.
func (c *Catalog) shuffle(ctx context.Context, there map[int]map[string]int64, id migrate.OutputID, layout Layout) (map[string]int64, error) {
	if sizes, known := there[id.Shuffle]; known {
		return sizes, nil
	}
	sizes := map[string]int64{}
	_, index := layout(id)
	err := c.bucket.List(ctx, shuffleFolder(index), func(o bucket.Object) error {
		sizes[o.Key] = o.Size
		return nil
	})
	if err != nil {
		return nil, err
	}
	there[id.Shuffle] = sizes
	return sizes, nil
}

// shuffleFolder is <application>/<shuffle>/ of a key: what the two layouts of Spark have in common.
func shuffleFolder(key string) string {
	slashes := 0
	for i := range len(key) {
		if key[i] == '/' {
			slashes++
		}
		if slashes == 2 {
			return key[:i+1]
		}
	}
	return key
}

// isIn says whether the output lies there whole.
func (e Entry) isIn(sizes map[string]int64, app string, layout Layout) bool {
	data, index := layout(e.In(app))
	if size, ok := sizes[index]; !ok || size != e.Index {
		return false
	}
	if e.Data == NoData {
		return true
	}
	size, ok := sizes[data]
	return ok && size == e.Data
}

// Removed is what a clean-up removed, or would have.
type Removed struct {
	Outputs int
	Bytes   int64
}

// removeParallel is how many objects are removed at once.
const removeParallel = 8

// Remove removes what the manifests of a place list, and then its documents, the manifests last: an index before
// its data, so that no reader finds an index without data, and nothing else, so that what others have stored in the same
// bucket stays. A manifest that can't be understood stays, with all that it may list. After an error the rest is still
// there and can be removed by another call.
func (c *Catalog) Remove(ctx context.Context, p Place, layout Layout, dryRun bool) (Removed, error) {
	var sum Removed
	seen := map[Ref]bool{}
	bad := c.Manifests(ctx, p, func(m *Manifest) error {
		if dryRun {
			sum.count(m.Outputs, seen)
			return nil
		}
		if err := c.removeOutputs(ctx, p.App, m.Outputs, layout); err != nil {
			return err
		}
		sum.count(m.Outputs, seen)
		return nil
	})
	if bad != nil || dryRun {
		return sum, bad
	}
	for _, kind := range []string{kindClaim, kindSettled, kindManifest} {
		if err := c.removeDocuments(ctx, p, kind); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func (r *Removed) count(entries []Entry, seen map[Ref]bool) {
	for _, e := range entries {
		if !seen[e.Ref] {
			seen[e.Ref] = true
			r.Outputs++
			r.Bytes += e.Bytes()
		}
	}
}

func (c *Catalog) removeOutputs(ctx context.Context, app string, entries []Entry, layout Layout) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(removeParallel)
	for _, e := range entries {
		data, index := layout(e.In(app))
		g.Go(func() error {
			if err := c.bucket.Delete(ctx, index); err != nil {
				return err
			}
			return c.bucket.Delete(ctx, data)
		})
	}
	return g.Wait()
}

func (c *Catalog) removeDocuments(ctx context.Context, p Place, kind string) error {
	var keys []string
	err := c.documents(ctx, p.folder()+kind+"-", func(d document) error {
		keys = append(keys, d.key)
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := c.bucket.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
