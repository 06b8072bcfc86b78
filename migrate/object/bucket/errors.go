package bucket

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong in words that are the same for all storages, so that callers can decide what to do.
type Kind int

// The kinds of errors.
const (
	// Unavailable: the storage or the way to it is in trouble (5xx, reset, refused, time limit of one request):
	// again here after a pause. The kind of every error that says nothing else.
	Unavailable Kind = iota
	// Throttled: the storage asks for fewer requests (503 SlowDown, 429): again here after a longer pause.
	Throttled
	// Denied: credentials are missing, wrong or not allowed to do this. Fresh ones may be: once more, not often.
	Denied
	// NotFound: no such object. For a missing bucket it is Misplaced.
	NotFound
	// Exists: the object is there already (IfAbsent).
	Exists
	// Full: a quota or a disk. Nothing that is larger will fit here either.
	Full
	// Misplaced: no such bucket, wrong region or endpoint, a malformed URL: nothing that is tried here will work.
	Misplaced
	// BadBody: the body could not be read as it was described, or the server's checksum of it was another; or a
	// range was asked for that is not within the object.
	BadBody
)

// String is the label used in metrics and reports.
func (k Kind) String() string {
	switch k {
	case Throttled:
		return "throttled"
	case Denied:
		return "denied"
	case NotFound:
		return "not found"
	case Exists:
		return "exists"
	case Full:
		return "full"
	case Misplaced:
		return "misplaced"
	case BadBody:
		return "bad body"
	default:
		return "unavailable"
	}
}

// Error is an error of a bucket with the operation that failed and its kind. Its text never holds credentials or
// signed URLs.
type Error struct {
	Op         string // as "put" or "list"
	URL        string // of the bucket
	Key        string // "" where none is concerned
	Kind       Kind
	RetryAfter time.Duration // what the server asked for; 0 when it said nothing
	Err        error
}

func (e *Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s %s: %s: %v", e.Op, e.URL, e.Kind, e.Err)
	}
	return fmt.Sprintf("%s %s/%s: %s: %v", e.Op, e.URL, e.Key, e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf finds the kind of an error; one without a kind is Unavailable.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}
