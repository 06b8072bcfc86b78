package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// classify says what a caller may do about an error. When the caller's own context has ended, the error
// says just that: it tells nothing about the executor.
func classify(ctx context.Context, op string, err error) error {
	var known *migrate.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.As(err, &known):
		return fmt.Errorf("%s: %w", op, err)
	default:
		return &migrate.Error{Op: op, Kind: kindOf(err), Err: err}
	}
}

func kindOf(err error) migrate.Kind {
	var body *wire.BodyError
	var remote *wire.RemoteError
	switch {
	case errors.As(err, &body):
		return migrate.Corrupt
	case errors.Is(err, ErrDialectRefused):
		return migrate.Elsewhere
	case errors.As(err, &remote):
		return remoteKind(remote.Text)
	case errors.Is(err, wire.ErrProtocol):
		return migrate.Elsewhere // not a block manager, or one that wants TLS
	default:
		return migrate.Transient // stalled, reset, closed: it may be back
	}
}

// refusals are the words by which an executor says that it will not take a block now or ever, from Spark
// 3.4 to 4.3. All else may pass.
func refusals() []string {
	return []string{
		// BlockManager.checkShouldStore: the executor is decommissioning itself.
		"BlockSavedOnDecommissionedBlockManagerException",
		"cannot be saved on decommissioned executor",
		// IndexShuffleBlockResolver.putShuffleBlockAsStream: over spark.storage.decommission.shuffleBlocks.maxDiskSize.
		"Not storing remote shuffles",
		// BlockManager.putBlockDataAsStream: another shuffle manager than Spark's own.
		"with unsupported shuffle resolver",
		// Its disk (strerror texts in java.io.IOException).
		"No space left on device", "Disk quota exceeded", "Read-only file system", "Input/output error",
		// It does not understand our object.
		"java.io.InvalidClassException", "java.lang.ClassCastException", "java.lang.ClassNotFoundException",
		"java.io.StreamCorruptedException", "java.io.OptionalDataException",
		// spark.authenticate: AbstractAuthRpcHandler, SaslMessage, AuthMessage.
		"java.lang.SecurityException", "Unauthenticated call to", "Expected SaslMessage", "Unknown challenge message",
	}
}

// remoteKind reads the exception and its causes. The frames of stack traces are left out: they name
// classes that have nothing to do with the reason.
func remoteKind(text string) migrate.Kind {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "at ") {
			continue
		}
		for _, words := range refusals() {
			if strings.Contains(line, words) {
				return migrate.Elsewhere
			}
		}
	}
	return migrate.Transient
}

// identityError reads the refusal of a block manager to say who it is: it names the right executor or
// application only to those who ask for another (NettyBlockRpcServer).
func identityError(err error) error {
	var remote *wire.RemoteError
	if errors.As(err, &remote) &&
		(strings.Contains(remote.Text, "Invalid executor id:") || strings.Contains(remote.Text, "incorrect application id:")) {
		return &migrate.Error{Op: "identify", Kind: migrate.Gone, Err: err}
	}
	return err
}

// dial connects within a time. A refused connection is certain: the executor's process has ended.
// Anything else may be the network.
func dial(ctx context.Context, d wire.Dialer, addr string, timeout, stall time.Duration) (*wire.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := wire.Dial(bounded, d, addr, wire.Options{Stall: stall})
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, wire.ContextError(ctx)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, &migrate.Error{Op: "connect to " + addr, Kind: migrate.Gone, Err: err}
	case bounded.Err() != nil:
		// Not wrapped: this is no deadline of the caller.
		return nil, fmt.Errorf("connect to %s: no answer within %v", addr, timeout)
	default:
		return nil, err
	}
}
