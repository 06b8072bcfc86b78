package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/peer"
	"github.com/lifeboat/lifeboat/migrate/place"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
)

// replacement is the executor of this node that has the volume of an earlier one, and takes what that has left.
type replacement struct {
	executor.Executor
	proc    string
	finder  executor.Finder
	self    java.BlockManagerID
	folders []string // its own, in its order
	mode    string   // config.AdoptLink or config.AdoptUpload
	notes   []string // for the report

	mu       sync.Mutex
	place    *place.Place              // nil until it is used, or where there can be no links
	tried    bool                      // to open that
	recovers bool                      // Spark looks for old files itself, with the first map task
	linked   map[migrate.OutputID]bool // what got a second name
}

// replacement is nil in all rescues but the adoption of a volume.
func (a *application) replacement() *replacement {
	if a.salvage == nil {
		return nil
	}
	return a.salvage.to
}

var errNotListed = fmt.Errorf("%w: the driver does not list the executor that has the volume among those that stay", errNoPeer)

// livingReplacement is the only destination of an adoption, as long as the driver counts on it. It knows whom it answers at all; that
// the executor stays, others have to say, because an answer never names the one who asks. One without others is named by the REST
// server only.
func (a *application) livingReplacement(ctx context.Context, to *replacement) ([]java.BlockManagerID, error) {
	list, err := a.getPeers(ctx, to.self)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, isFallback)
	switch {
	case len(list) > 0 && a.confirms(ctx, list, to.self):
	case len(list) == 0 && a.shows(to.self):
	default:
		return nil, errNotListed
	}
	return []java.BlockManagerID{to.self}, nil
}

// shows says whether the driver's REST server has just listed an executor.
func (a *application) shows(id java.BlockManagerID) bool {
	r, _ := a.activity.latest()
	return time.Since(r.began) <= 2*readingTimeout && slices.Contains(a.restIDs(), id)
}

// links is where outputs are adopted by links; nil: they are uploaded.
func (a *application) links() *place.Place {
	to := a.replacement()
	if to == nil || to.mode != config.AdoptLink || a.dryRun {
		return nil
	}
	at, err := to.open(a)
	if err != nil {
		a.note("outputs were uploaded, as the executor's folders were not in reach: " + err.Error())
		a.log.Warn("no links into the executor's folders", zap.Error(err))
	}
	return at
}

// offer is the destination that a peer is for the engine. at is what links has said.
func (a *application) offer(p *peer.Peer, at *place.Place) migrate.Destination {
	if at == nil {
		return p
	}
	return &placing{Peer: p, at: at, app: a, to: a.replacement()}
}

// open takes hold of the executor's folders, once. Without them everything is uploaded.
func (to *replacement) open(a *application) (*place.Place, error) {
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.tried {
		return to.place, nil
	}
	to.tried, to.recovers, to.linked = true, recovers(a.props), map[migrate.OutputID]bool{}
	as, err := to.finder.IdentityOf(to.PID, to.Start)
	if err != nil {
		return nil, err
	}
	sub, err := subFolders(a.props)
	if err != nil {
		return nil, err
	}
	to.place, err = place.Open(place.Options{
		Target: targetOf(to.self), App: to.App, Root: shuffle.Root{Proc: to.proc, PID: to.PID, Start: to.Start},
		Folders: to.folders, SubFolders: sub, As: as, Driver: a.driver,
	})
	return to.place, err
}

func (to *replacement) close() {
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.place != nil {
		to.place.Close()
	}
}

// subFolders is spark.diskStore.subDirectories; 0 where it is not set.
func subFolders(props map[string]string) (int, error) {
	const key = "spark.diskStore.subDirectories"
	text := strings.TrimSpace(props[key])
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %q", key, text)
	}
	return n, nil
}

// recovers says whether executors look for old files on their volumes themselves
// (KubernetesLocalDiskShuffleExecutorComponents.initializeExecutor, Spark 3.4 to 4.3).
func recovers(props map[string]string) bool {
	reuse, _ := strconv.ParseBool(strings.TrimSpace(props["spark.kubernetes.driver.reusePersistentVolumeClaim"]))
	return reuse && strings.HasSuffix(props["spark.shuffle.sort.io.plugin.class"], ".KubernetesLocalDiskShuffleDataIO")
}

// placing gives outputs a second name in the executor's folders, and uploads those that can't have one.
type placing struct {
	*peer.Peer
	at  *place.Place
	app *application
	to  *replacement

	once sync.Once
}

var (
	_ migrate.Destination = (*placing)(nil)
	_ migrate.Announcer   = (*placing)(nil)
)

func (p *placing) Put(ctx context.Context, out *migrate.Output) (migrate.Location, error) {
	at, err := p.at.Put(ctx, out)
	switch {
	case err == nil:
		p.to.mu.Lock()
		p.to.linked[out.ID] = true
		p.to.mu.Unlock()
	case errors.Is(err, place.ErrNoLink):
		p.once.Do(func() {
			p.app.note("outputs were uploaded that could have no second name: " + firstLine(err.Error()))
			p.app.log.Info("no hard link: uploaded", zap.Error(err))
		})
		return p.Peer.Put(ctx, out)
	}
	return at, err
}

// Announce tells the driver, not the executor: that has not been sent anything.
func (p *placing) Announce(ctx context.Context, at []migrate.Located) error {
	return p.at.Announce(ctx, at)
}

// keep puts back what Spark's own recovery takes away of what was linked, until that is over, or ctx.
func (to *replacement) keep(ctx context.Context, outs []*migrate.Output, log *zap.Logger) {
	to.mu.Lock()
	at, needed := to.place, to.recovers
	outs = slices.DeleteFunc(slices.Clone(outs), func(o *migrate.Output) bool { return !to.linked[o.ID] })
	to.mu.Unlock()
	if at == nil || !needed || len(outs) == 0 {
		return
	}
	p, err := executor.Open(to.PID, to.Start)
	if err != nil {
		return
	}
	defer p.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		if p.Done(ctx) == nil {
			cancel() // at once: what is open keeps its volume on this node
		}
	}()
	again, err := at.Keep(ctx, outs)
	if err != nil {
		log.Warn("adopted map outputs are not safe from the executor's own recovery", zap.Error(err))
	}
	log.Info("adopted map outputs are no longer looked after", zap.Int("putBack", again))
}
