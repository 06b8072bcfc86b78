package peer

import (
	"context"
	"fmt"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// Folders asks an executor for its own block manager folders (…/blockmgr-<uuid>), as paths in its own file
// system. It answers only under the application and executor id that are its own, so an answer also
// proves that this is the executor and its block manager's port. Options other than Target, App, Dialer and the
// time limits are not used.
func Folders(ctx context.Context, o Options) ([]string, error) {
	p := New(o)
	defer p.Close()
	op := fmt.Sprintf("ask %s for its folders", o.Target)
	lease, err := p.pool.acquire(ctx)
	if err != nil {
		return nil, classify(ctx, op, err)
	}
	defer lease.release()
	reply, err := lease.conn.Call(ctx, wire.GetLocalDirs(o.App, o.Target.Executor))
	if err != nil {
		return nil, classify(ctx, op, identityError(err))
	}
	dirs, err := wire.DecodeLocalDirs(reply)
	if err != nil {
		return nil, classify(ctx, op, err)
	}
	return dirs[o.Target.Executor], nil
}
