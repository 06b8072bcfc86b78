package peer

import (
	"context"
	"errors"
	"fmt"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// ErrDialectRefused says that no dialect could be found which an executor understands.
var ErrDialectRefused = errors.New("the executor understands none of our dialects")

// probeRounds bounds the questions: an upload names at most six classes, and every round settles one.
const probeRounds = 8

// probeBlock is no block name of Spark's: were the metadata accepted against all expectation, the upload
// would still fail, and nothing would be stored.
const probeBlock = "lifeboat-probe"

// Probe finds the dialect of an unknown Spark version by asking the block manager at target (host:port),
// beginning with d. It stores nothing, but every wrong guess writes a stack trace into the executor's log:
// ask only when the version is unknown. An executor that teaches nothing more is ErrDialectRefused.
func Probe(ctx context.Context, dialer wire.Dialer, target, app string, d java.Dialect) (java.Dialect, error) {
	op := "probe " + target
	for range probeRounds {
		failure, err := probeOnce(ctx, dialer, target, app, d)
		if err != nil {
			return java.Dialect{}, classify(ctx, op, err)
		}
		next, outcome := java.Learn(d, failure.Text)
		switch outcome {
		case java.Confirmed:
			return next, nil
		case java.Refused:
			return java.Dialect{}, classify(ctx, op, fmt.Errorf("%w: %w", ErrDialectRefused, failure))
		}
		d = next
	}
	return java.Dialect{}, classify(ctx, op, fmt.Errorf("%w: not learned in %d rounds", ErrDialectRefused, probeRounds))
}

// probeOnce asks over a connection of its own: an object that can't be read at all may cost the connection.
func probeOnce(ctx context.Context, dialer wire.Dialer, target, app string, d java.Dialect) (*wire.RemoteError, error) {
	conn, err := dial(ctx, dialer, target, defaultDialTimeout, 0)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_, err = conn.Call(ctx, wire.UploadBlock(app, "", probeBlock, d.ProbeMetadata(), nil))
	var failure *wire.RemoteError
	switch {
	case errors.As(err, &failure):
		return failure, nil
	case err != nil:
		return nil, err
	default:
		return nil, fmt.Errorf("%w: it accepted what is no upload", ErrDialectRefused)
	}
}
