package object

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// Updater is the part of driver.Client by which Spark is told where a block lies.
type Updater interface {
	UpdateBlock(ctx context.Context, at java.BlockManagerID, block string, memSize, diskSize int64) (accepted bool, err error)
}

// tellParallel is how many outputs are told at once; they share one connection.
const tellParallel = 8

var errNotAccepted = errors.New("the driver did not accept it")

// Tell makes an AnnounceFunc of a driver: it says that the blocks lie in the fallback storage, the index last, as
// that is what moves the map output. It goes on after an error that concerns one output only, and returns all.
func Tell(u Updater) AnnounceFunc {
	return func(ctx context.Context, at []migrate.Located) error {
		errs := make([]error, len(at))
		var group errgroup.Group
		group.SetLimit(tellParallel)
		for i, l := range at {
			group.Go(func() error {
				errs[i] = tell(ctx, u, l.Output)
				return nil
			})
		}
		_ = group.Wait() // the errors are in errs
		return errors.Join(errs...)
	}
}

func tell(ctx context.Context, u Updater, out *migrate.Output) error {
	if out.Data != nil && out.Data.Size() > 0 {
		if err := update(ctx, u, out.ID.DataBlock(), out.Data.Size()); err != nil {
			return err
		}
	}
	return update(ctx, u, out.ID.IndexBlock(), out.Index.Size())
}

func update(ctx context.Context, u Updater, block string, size int64) error {
	accepted, err := u.UpdateBlock(ctx, java.FallbackBlockManager(), block, 0, size)
	if err == nil && !accepted {
		err = fmt.Errorf("announce %s: %w", block, errNotAccepted)
	}
	return err
}
