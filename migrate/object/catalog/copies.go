package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	var sum tally
	err := c.Manifests(ctx, p, func(m *Manifest) error {
		u.Manifests++
		if m.Written.After(u.Newest) {
			u.Newest, u.Application = m.Written, m.Application
		}
		sum.count(m.Outputs)
		return nil
	})
	u.Outputs, u.Bytes = sum.Outputs, sum.Bytes
	return u, err
}

// maxListed is how many outputs of one place are looked at: what is beyond is left to whoever computes it again. It
// bounds the memory that a catalog takes, whatever it holds.
const maxListed = 250_000

// Stored calls each for every output of a place that is there with both of its objects and in the sizes that its
// manifest says, and is not settled. It lists the bucket once per shuffle, and keeps the objects of one shuffle in
// memory at a time. The manifest that each gets has no outputs.
func (c *Catalog) Stored(ctx context.Context, p Place, layout Layout, each func(*Manifest, Entry) error) error {
	settled, bad := c.Settled(ctx, p)
	if bad != nil && !errors.Is(bad, ErrBadDocument) {
		return bad
	}
	byShuffle, err := c.listed(ctx, p, settled)
	if err != nil && !errors.Is(err, ErrBadDocument) {
		return err
	}
	bad = errors.Join(bad, err)
	for _, shuffle := range slices.Sorted(maps.Keys(byShuffle)) {
		list := byShuffle[shuffle]
		delete(byShuffle, shuffle)
		if err := c.whole(ctx, p, list, layout, each); err != nil {
			return errors.Join(err, bad)
		}
	}
	return bad
}

// listing is an entry and the manifest that it stands in.
type listing struct {
	Entry
	in *Manifest // without its outputs
}

// listed are the entries of a place that are not settled, by shuffle.
func (c *Catalog) listed(ctx context.Context, p Place, settled map[Ref]bool) (map[int][]listing, error) {
	byShuffle := map[int][]listing{}
	n := 0
	err := c.Manifests(ctx, p, func(m *Manifest) error {
		head := *m
		head.Outputs = nil
		for _, e := range m.Outputs {
			if settled[e.Ref] {
				continue
			}
			if n++; n > maxListed {
				return fmt.Errorf("%v: %w: it lists more than %d outputs, the others are not looked at", p, ErrBadDocument, maxListed)
			}
			byShuffle[e.Shuffle] = append(byShuffle[e.Shuffle], listing{e, &head})
		}
		return nil
	})
	return byShuffle, err
}

// whole calls each for the entries of one shuffle that lie in the bucket.
func (c *Catalog) whole(ctx context.Context, p Place, list []listing, layout Layout, each func(*Manifest, Entry) error) error {
	sizes := map[string]int64{} // of what is listed; -1: not seen in the bucket
	for _, l := range list {
		data, index := layout(l.In(p.App))
		sizes[data], sizes[index] = -1, -1
	}
	_, index := layout(list[0].In(p.App))
	err := c.bucket.List(ctx, shuffleFolder(index), func(o bucket.Object) error {
		if _, listed := sizes[o.Key]; listed {
			sizes[o.Key] = o.Size
		}
		return nil
	})
	if err != nil {
		return err
	}
	seen := map[Ref]bool{}
	for _, l := range list {
		if seen[l.Ref] || !l.isIn(sizes, p.App, layout) {
			continue
		}
		seen[l.Ref] = true
		if err := each(l.in, l.Entry); err != nil {
			return err
		}
	}
	return nil
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
	var sum tally
	var done []string // manifests; one that is written meanwhile is not among them
	bad := c.Manifests(ctx, p, func(m *Manifest) error {
		sum.count(m.Outputs)
		done = append(done, m.key)
		if dryRun {
			return nil
		}
		return c.removeOutputs(ctx, p.App, m.Outputs, layout)
	})
	if bad != nil || dryRun {
		return sum.Removed, bad
	}
	for _, kind := range []string{kindSettled, kindSeen, kindClaim} {
		keys, err := c.keys(ctx, p, kind)
		if err != nil {
			return sum.Removed, err
		}
		if err := c.delete(ctx, keys); err != nil {
			return sum.Removed, err
		}
	}
	return sum.Removed, c.delete(ctx, done)
}

// tally adds up outputs, each once. Beyond maxListed it takes those for new that it has seen.
type tally struct {
	Removed
	seen map[Ref]bool
}

func (t *tally) count(entries []Entry) {
	if t.seen == nil {
		t.seen = map[Ref]bool{}
	}
	for _, e := range entries {
		if t.seen[e.Ref] {
			continue
		}
		if len(t.seen) < maxListed {
			t.seen[e.Ref] = true
		}
		t.Outputs++
		t.Bytes += e.Bytes()
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

func (c *Catalog) keys(ctx context.Context, p Place, kind string) ([]string, error) {
	var keys []string
	err := c.documents(ctx, p.folder()+kind+"-", func(d document) error {
		keys = append(keys, d.key)
		return nil
	})
	return keys, err
}

func (c *Catalog) delete(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := c.bucket.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
