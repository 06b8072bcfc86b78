package migrate

import (
	"errors"
	"fmt"
)

// Kind says what a caller may do about an error.
type Kind int

const (
	// Transient: try again here after a pause. The kind of every error that says nothing else.
	Transient Kind = iota
	// Elsewhere: this destination will not take this output (full, refused, leaving); another may.
	Elsewhere
	// Gone: this destination is certainly no more, and what it had acknowledged is lost with it.
	Gone
	// Corrupt: the output itself can't be read as it was verified; give it up everywhere.
	Corrupt
)

// String is the label used in metrics and reports.
func (k Kind) String() string {
	switch k {
	case Elsewhere:
		return "elsewhere"
	case Gone:
		return "gone"
	case Corrupt:
		return "corrupt"
	default:
		return "transient"
	}
}

// Error is an error with the operation that failed and its kind.
type Error struct {
	Op   string // what was attempted, as "upload shuffle_0_7_0.data to executor 3 (10.0.0.7:40123)"
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// KindOf finds the kind of an error; one without a kind is Transient.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Transient
}
