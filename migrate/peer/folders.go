package peer

import (
	"context"
	"fmt"
)

// Folders asks an executor for its own block manager folders (…/blockmgr-<uuid>), as paths in its own file
// system. It answers only under the application and executor id that are its own, so an answer also
// proves that this is the executor and its block manager's port. Options other than Target, App, Dialer and the
// time limits are not used.
func Folders(ctx context.Context, o Options) ([]string, error) {
	p := New(o)
	defer p.Close()
	op := fmt.Sprintf("ask %s for its folders", o.Target)
	conn, err := dial(ctx, o.Dialer, Address(o.Target), p.opts.DialTimeout, o.Stall)
	if err != nil {
		return nil, classify(ctx, op, err)
	}
	defer conn.Close()
	dirs, err := p.identify(ctx, conn)
	return dirs, classify(ctx, op, err)
}
