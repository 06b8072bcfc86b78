package providers

import (
	"context"
	"errors"
)

// Result says how a poll ended, in one word: the label of lifeboat_notice_polls_total.
type Result string

// The results of a poll. All but None and Found are failures.
const (
	None        Result = "none"        // the origin answered that there is no notice
	Found       Result = "notice"      // the origin showed at least one notice
	Timeout     Result = "timeout"     // no answer in time
	Unreachable Result = "unreachable" // no connection, a connection that broke, or a missing folder
	Denied      Result = "denied"      // the origin, or our own rules about whom to believe, refused
	Status      Result = "status"      // an answer that says nothing about notices: 429, 5xx
	Malformed   Result = "malformed"   // an answer that can't be understood
)

// ErrFinal is an acknowledgement that is refused and stays so.
var ErrFinal = errors.New("not to be tried again")

// PollError is a failed poll with its result. Sources return it from their poll function.
type PollError struct {
	Result Result
	Err    error
}

func (e *PollError) Error() string { return e.Err.Error() }

func (e *PollError) Unwrap() error { return e.Err }

// resultOf finds the result of a failed poll; an error that says nothing is Unreachable.
func resultOf(err error) Result {
	var pe *PollError
	switch {
	case errors.As(err, &pe):
		return pe.Result
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	default:
		return Unreachable
	}
}
