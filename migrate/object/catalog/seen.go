package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Seen notes that an application lived just now, for whoever cleans up and can't reach its driver: copies count as old
// only some time after the last such note. before is the note of the same writer that this one replaces, "" for none;
// the new one comes back.
func (c *Catalog) Seen(ctx context.Context, p Place, before string) (note string, err error) {
	data, err := json.Marshal(map[string]int{"version": version})
	if err != nil {
		return before, err
	}
	note = c.newKey(p, kindSeen)
	if err := c.put(ctx, note, data); err != nil {
		return before, err
	}
	if before == "" {
		return note, nil
	}
	return note, c.bucket.Delete(ctx, before)
}

// LastSign is when, by the storage's clock, an application was last seen alive or had something stored; zero when
// the catalog does not know it.
func (c *Catalog) LastSign(ctx context.Context, app string) (time.Time, error) {
	var last time.Time
	err := c.documents(ctx, appFolder(app), func(d document) error {
		if (d.kind == kindManifest || d.kind == kindSeen) && d.at.After(last) {
			last = d.at
		}
		return nil
	})
	return last, err
}

// Clock is the time of the storage's own clock, or close to it: when it took the last claim of a place, which the
// caller has just made.
func (c *Catalog) Clock(ctx context.Context, p Place) (time.Time, error) {
	last, at, err := c.lastClaim(ctx, p)
	if err == nil && last.epoch == 0 {
		err = fmt.Errorf("%v: its claim has gone", p)
	}
	return at, err
}
