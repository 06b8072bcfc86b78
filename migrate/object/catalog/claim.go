package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// claim says who salvages the outputs of a place, and until when nobody else should.
type claim struct {
	Version int    `json:"version"`
	By      string `json:"by"`
	Seconds int    `json:"seconds"` // from when the storage took it
}

// maxClaim bounds how long a claim can hold others up, whatever it says.
const maxClaim = 10 * time.Minute

// Claim asks to be the one that salvages a place for some time, at most ten minutes. It is false when another's claim
// holds. Claims count by number: a claim that has expired is followed by the next one, which only one writer can create. Two
// that hold at once, because clocks differ, do no harm: a salvage is safe to repeat.
func (c *Catalog) Claim(ctx context.Context, p Place, by string, lasts time.Duration) (bool, error) {
	last, at, err := c.lastClaim(ctx, p)
	if err != nil {
		return false, err
	}
	if last.epoch > 0 && last.By != by && c.now().Before(at.Add(last.length())) {
		return false, nil
	}
	data, err := json.Marshal(claim{Version: version, By: by, Seconds: int(min(lasts, maxClaim).Seconds())})
	if err != nil {
		return false, err
	}
	err = c.put(ctx, fmt.Sprintf("%sclaim-%06d.json", p.folder(), last.epoch+1), data)
	if bucket.KindOf(err) == bucket.Exists {
		return false, nil
	}
	return err == nil, err
}

// DropOldClaims removes all claims of a place but the last, which its holder may do.
func (c *Catalog) DropOldClaims(ctx context.Context, p Place) error {
	keys, err := c.keys(ctx, p, kindClaim)
	if err != nil || len(keys) == 0 {
		return err
	}
	slices.Sort(keys)
	return c.delete(ctx, keys[:len(keys)-1])
}

type numbered struct {
	claim
	epoch int
}

func (n numbered) length() time.Duration {
	return min(max(time.Duration(n.Seconds)*time.Second, 0), maxClaim)
}

// lastClaim is the claim with the highest number; epoch 0 when there is none. One that can't be understood holds
// for the longest time that any may.
func (c *Catalog) lastClaim(ctx context.Context, p Place) (numbered, time.Time, error) {
	var last numbered
	var newest document
	err := c.documents(ctx, p.folder()+kindClaim+"-", func(d document) error {
		if epoch, err := strconv.Atoi(d.name); err == nil && epoch > last.epoch {
			last.epoch, newest = epoch, d
		}
		return nil
	})
	if err != nil || last.epoch == 0 {
		return last, time.Time{}, err
	}
	data, err := c.load(ctx, newest)
	if err == nil && json.Unmarshal(data, &last.claim) == nil && last.Version == version {
		return last, newest.at, nil
	}
	if err != nil && bucket.KindOf(err) != bucket.NotFound {
		return last, time.Time{}, err
	}
	last.claim = claim{Seconds: int(maxClaim.Seconds())}
	return last, newest.at, nil
}
