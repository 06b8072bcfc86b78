package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

// refusals is a source that answers acknowledgements with these errors, one after the other.
type refusals struct {
	errs  []error
	asked int
}

func (r *refusals) Acknowledge(context.Context, string) error {
	r.asked++
	return r.errs[min(r.asked, len(r.errs))-1]
}

func TestRefusedAcknowledgementIsTriedAgainOnlyWhereThatMayHelp(t *testing.T) {
	const left = 10 * time.Minute
	final := fmt.Errorf("it lists others: %w", providers.ErrFinal)
	trouble := errors.New("503")
	for name, c := range map[string]struct {
		errs    []error
		want    error
		asked   int           // 0: often
		longest time.Duration // until the answer
	}{
		"accepted":             {[]error{nil}, nil, 1, 0},
		"accepted later":       {[]error{trouble, trouble, nil}, nil, 3, time.Minute},
		"refused for good":     {[]error{final}, final, 1, 0},
		"refused after a 503":  {[]error{trouble, final}, final, 2, time.Minute},
		"trouble till the end": {[]error{trouble}, trouble, 0, left},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, r := time.Now(), &refusals{errs: c.errs}
				err := retryAcknowledge(t.Context(), r, "a", start.Add(left))
				if !errors.Is(err, c.want) || c.asked > 0 && r.asked != c.asked || c.asked == 0 && r.asked < 50 {
					t.Errorf("error %v after %d tries, want %v", err, r.asked, c.want)
				}
				if took := time.Since(start); took > c.longest {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}
