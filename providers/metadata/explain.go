package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/lifeboat/lifeboat/providers"
)

// TimedOut says whether a request failed because its time was over.
func TimedOut(ctx context.Context, err error) bool {
	var netErr net.Error
	return ctx.Err() != nil || errors.As(err, &netErr) && netErr.Timeout()
}

// Failed makes a PollError whose text begins as all failures of metadata do.
func Failed(r providers.Result, format string, args ...any) error {
	return &providers.PollError{Result: r, Err: fmt.Errorf("instance metadata: "+format, args...)}
}

// What names the request: method and path.
func (x *Exchange) What() string { return x.Method + " " + x.Path }

// Explain classifies a failure by what was seen on the wire, and says what to do where that is known.
// ctx is that of the request. What only one cloud knows, its source says before it asks here.
func (x *Exchange) Explain(ctx context.Context, err error) error {
	var pe *providers.PollError
	switch {
	case errors.As(err, &pe):
		return err
	case x.Err != nil && (errors.Is(x.Err, ErrTooLarge) || errors.Is(x.Err, ErrBadToken)):
		return Failed(providers.Malformed, "%s: %w", x.What(), x.Err)
	case TimedOut(ctx, err):
		return Failed(providers.Timeout, "%s was not answered in time: %w", x.What(), orContext(ctx, err))
	case x.Status == http.StatusUnauthorized || x.Status == http.StatusForbidden:
		return Failed(providers.Denied, "%s: %d: the service refuses this request; is metadata switched off for this machine, "+
			"or does something between answer for it?", x.What(), x.Status)
	case x.Status >= 300 && x.Status < 400:
		return Failed(providers.Denied, "%s: %d: redirects are not followed", x.What(), x.Status)
	case x.Status >= 400:
		return Failed(providers.Status, "%s: %d", x.What(), x.Status)
	case x.Status != 0:
		return Failed(providers.Malformed, "%s: %d with an answer that can't be read: %w", x.What(), x.Status, err)
	default:
		return Failed(providers.Unreachable, "%w", err)
	}
}

// orContext returns the error, or the context's where there is none.
func orContext(ctx context.Context, err error) error {
	if err == nil {
		return context.Cause(ctx)
	}
	return err
}
