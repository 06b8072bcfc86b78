package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrStalled ends a connection on which for Options.Stall no byte could be written and none
	// arrived while an answer was due.
	ErrStalled = errors.New("connection stalled")
	// ErrClosed is the error of every request on a connection after Close.
	ErrClosed = errors.New("connection closed")
	// ErrAborted ends a connection on which another request was given up in the middle of its body:
	// what follows on the connection would be taken for the rest of that body.
	ErrAborted = errors.New("connection given up in the middle of another request's body")
)

// RemoteError is a failure that the other side reports (RpcFailure).
type RemoteError struct {
	// Text is the Java exception with its stack trace and causes, at most 32 KiB.
	Text string
}

// Error is the first line and the last cause: stack traces do not belong in logs.
func (e *RemoteError) Error() string {
	text := "remote: " + e.firstLine()
	if i := strings.LastIndex(e.Text, "\nCaused by: "); i >= 0 {
		cause, _, _ := strings.Cut(e.Text[i+len("\nCaused by: "):], "\n")
		text += " (" + strings.TrimSpace(cause) + ")"
	}
	return text
}

// Class is the fully qualified name of the Java exception, as "java.io.InvalidClassException"; ""
// when the text does not begin with one.
func (e *RemoteError) Class() string {
	class, _, _ := strings.Cut(e.firstLine(), ":")
	if strings.ContainsAny(class, " \t") || !strings.Contains(class, ".") {
		return ""
	}
	return class
}

func (e *RemoteError) firstLine() string {
	line, _, _ := strings.Cut(e.Text, "\n")
	return strings.TrimSpace(line)
}

// BodyError says that a body could not be read as its Size promised: the fault lies with the caller's
// file, not with the network or the other side.
type BodyError struct {
	Offset int64 // where reading failed, in bytes
	Err    error // io.ErrUnexpectedEOF when the body was shorter than its Size
}

func (e *BodyError) Error() string { return fmt.Sprintf("read body at %d: %v", e.Offset, e.Err) }

func (e *BodyError) Unwrap() error { return e.Err }

// ContextError is the reason why ctx ended. A cause is added but does not replace ctx.Err(), so that
// errors.Is(err, context.DeadlineExceeded) holds also for context.WithDeadlineCause.
func ContextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(cause, err) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
