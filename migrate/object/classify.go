package object

import (
	"context"
	"errors"
	"fmt"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

var errOnlyStores = errors.New("this destination stores without announcing")

// classify says what the copy engine may do about an error. When the caller's own context has ended, the error says
// just that: it tells nothing about the storage.
func classify(ctx context.Context, op string, err error) error {
	var known *migrate.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, wire.ContextError(ctx))
	case errors.As(err, &known):
		return fmt.Errorf("%s: %w", op, err)
	default:
		return &migrate.Error{Op: op, Kind: kindOf(err), Err: err}
	}
}

// kindOf translates the kinds of buckets. BadBody is Transient: a body that could not be read has been
// told apart before, so it is one that was spoiled on its way.
func kindOf(err error) migrate.Kind {
	switch bucket.KindOf(err) {
	case bucket.Denied, bucket.Full, bucket.Misplaced:
		return migrate.Elsewhere
	default:
		return migrate.Transient
	}
}
