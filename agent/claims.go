package agent

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate/object/catalog"
)

// claimTime is how long others keep away from what somebody has claimed, unless the claim is renewed.
const claimTime = 2 * time.Minute

// What an agent does claims under names of its own: a salvage or a clean-up keeps away from what a rescue on
// the same node is at, also when that runs in another process.
func (a *Agent) salvageClaim() string { return "salvage by " + a.cfg.Node.Name }

func rescueClaim(node string) string { return "rescue of " + node }

func cleanUpClaim(node string) string { return "clean-up by " + node }

// holdOn renews a claim that was just made until stop is called or ctx ends.
func holdOn(ctx context.Context, c *catalog.Catalog, p catalog.Place, by string, log *zap.Logger) (stop func()) {
	keeping, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if pause(keeping, claimTime/2) == nil {
			holdClaim(keeping, c, p, by, log)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// holdClaim keeps asking for a claim, and renews it, until ctx ends.
func holdClaim(ctx context.Context, c *catalog.Catalog, p catalog.Place, by string, log *zap.Logger) {
	const ask = claimTime / 12 // when another has it
	for {
		asking, cancel := context.WithTimeout(ctx, objectCheck)
		ours, err := c.Claim(asking, p, by, claimTime)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Info("copies not claimed: others may salvage them, too", zap.Stringer("place", p), zap.Error(err))
		}
		next := claimTime / 2
		if !ours {
			next = ask
		}
		if pause(ctx, next) != nil {
			return
		}
	}
}

// giveUpClaim ends a claim before its time, if it is still by the same: then nobody has to wait for its end.
func giveUpClaim(ctx context.Context, c *catalog.Catalog, p catalog.Place, by string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), objectCheck)
	defer cancel()
	_, _ = c.Claim(ctx, p, by, 0) // it expires by itself, too
}
