package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// settlement lists outputs of a place that need no salvage any more.
type settlement struct {
	Version int    `json:"version"`
	By      string `json:"by"` // the rescue or salvage, for people
	Outputs []Ref  `json:"outputs"`
}

// Settle says that Spark knows another place of these outputs, or that they are not worth anything any more: a
// later salvage leaves them alone. by is for people, as the id of a rescue.
func (c *Catalog) Settle(ctx context.Context, p Place, by string, outputs []Ref) error {
	for part := range slices.Chunk(outputs, MaxEntries) {
		data, err := json.Marshal(settlement{Version: version, By: by, Outputs: part})
		if err != nil {
			return err
		}
		if err := c.store(ctx, p, kindSettled, data); err != nil {
			return err
		}
	}
	return nil
}

// Settled are the outputs of a place that need no salvage any more. A document that can't be understood settles nothing: its
// error wraps ErrBadDocument, and the others count.
func (c *Catalog) Settled(ctx context.Context, p Place) (map[Ref]bool, error) {
	var bad []error
	done := map[Ref]bool{}
	err := c.documents(ctx, p.folder()+kindSettled+"-", func(d document) error {
		data, err := c.load(ctx, d)
		if err == nil {
			err = settledBy(data, done)
			if err != nil {
				err = fmt.Errorf("%s: %w: %w", d.key, ErrBadDocument, err)
			}
		}
		if errors.Is(err, ErrBadDocument) {
			bad = append(bad, err)
			return nil
		}
		return err
	})
	return done, errors.Join(append(bad, err)...)
}

func settledBy(data []byte, done map[Ref]bool) error {
	var s settlement
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	if s.Version != version || len(s.Outputs) > MaxEntries {
		return fmt.Errorf("version %d with %d outputs", s.Version, len(s.Outputs))
	}
	for _, r := range s.Outputs {
		if len(done) >= maxListed && !done[r] {
			return fmt.Errorf("more than %d outputs are settled", maxListed)
		}
		done[r] = true
	}
	return nil
}
