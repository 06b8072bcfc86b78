package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

var (
	// ErrGone: this application's driver is no more. Nothing listens at its port, or who listens there
	// does not know the endpoint or the application.
	ErrGone = errors.New("driver gone")
	// ErrSlow: no answer in time. The driver may still be there, and may even have done what it was asked.
	ErrSlow = errors.New("driver slow")
	// ErrNoREST: no port answers for the application: its user interface is off or elsewhere.
	ErrNoREST = errors.New("no REST interface of the application found")
	// ErrTooLarge: an answer longer than any that was foreseen; it was not read to its end.
	ErrTooLarge = errors.New("answer too large")
)

// StatusError is an unforeseen HTTP status of the REST interface.
type StatusError struct {
	Path string
	Code int
}

func (e *StatusError) Error() string { return fmt.Sprintf("GET %s: status %d", e.Path, e.Code) }

// classify marks an error with ErrGone or ErrSlow, where it is one of them.
func classify(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrGone) || errors.Is(err, ErrSlow):
		return err
	case errors.Is(err, syscall.ECONNREFUSED), noEndpoint(err):
		return fmt.Errorf("%w: %w", ErrGone, err)
	case timedOut(err):
		return fmt.Errorf("%w: %w", ErrSlow, err)
	default:
		return err
	}
}

func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, wire.ErrStalled) || errors.As(err, &n) && n.Timeout()
}

// noEndpoint recognizes the exceptions with which a process that has an RPC port, but no such endpoint
// any more, answers (o.a.s.rpc.netty.Dispatcher.postMessage, Spark 3.4 to 4.3).
func noEndpoint(err error) bool {
	var text string
	var remote *wire.RemoteError
	var failure *java.Failure
	switch {
	case errors.As(err, &remote):
		text, _, _ = strings.Cut(remote.Text, "\n")
	case errors.As(err, &failure):
		text = failure.Error()
	default:
		return false
	}
	return strings.Contains(text, "RpcEnvStoppedException") ||
		strings.Contains(text, "SparkException: Could not find "+schedulerEndpoint) ||
		strings.Contains(text, "SparkException: Could not find "+blocksEndpoint)
}
