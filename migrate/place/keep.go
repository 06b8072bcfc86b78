package place

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

const (
	// keepLook is how often Keep looks at all names, beside what the kernel tells it.
	keepLook = 5 * time.Second
	// keepSettle is how long it must have been quiet, after names were taken away and the executor has committed a map output.
	keepSettle = 10 * time.Second
	// keepQuiet is the same where no name was ever taken away: an output may also be one that it was sent.
	keepQuiet = 10 * time.Minute
	// keepTries is how often, on average, a name is put back: a recovery takes each away twice at most.
	keepTries = 8
)

// ErrTakenAway says that names were taken away again and again.
var ErrTakenAway = errors.New("what was placed is taken away again and again")

// Keep puts names back at once that the executor's own recovery takes away, and says how many. With
// KubernetesLocalDiskShuffleDataIO an executor's first map task moves every shuffle file below its volumes into the executor's folders; a
// file that is there already fails that, and is deleted in the cleaning up after it (BlockManager.doPut, seen in Spark 3.5.9 and 4.3.0).
// Keep ends, without an error, when that is over: a while after the executor's first own map output, which comes after its recovery; and
// when the executor ends.
// The outputs must have been put here before, and must stay open.
func (p *Place) Keep(ctx context.Context, outs []*migrate.Output) (again int, err error) {
	k := &keeper{Place: p, byName: map[string]*migrate.Output{}, left: keepTries * 2 * len(outs)}
	for _, out := range outs {
		k.byName[out.ID.IndexBlock()] = out
		if out.Data != nil && out.Data.Size() > 0 {
			k.byName[out.ID.DataBlock()] = out
		}
	}
	if err := k.watch(); err != nil {
		return 0, fmt.Errorf("watch what was placed at %s: %w", p.o.Target, err)
	}
	defer k.close()
	err = k.run(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	return k.again, err
}

type keeper struct {
	*Place
	byName  map[string]*migrate.Output
	events  *fsnotify.Watcher
	buckets []int // descriptors: their numbers are the names by which they are watched
	again   int
	left    int
	own     bool      // the executor has committed a map output
	taken   bool      // names were taken away
	quiet   time.Time // since when nothing is
}

func (k *keeper) watch() (err error) {
	if k.events, err = fsnotify.NewWatcher(); err != nil {
		return err
	}
	type where struct {
		folder int
		sub    string
	}
	seen := map[where]bool{}
	for name := range k.byName {
		folder, sub := position(name, len(k.o.Folders), k.o.SubFolders)
		if seen[where{folder, sub}] {
			continue
		}
		seen[where{folder, sub}] = true
		fd, err := k.bucket(name)
		if err == nil {
			k.buckets = append(k.buckets, fd)
			err = k.events.Add("/proc/self/fd/" + strconv.Itoa(fd))
		}
		if err != nil {
			k.close()
			return err
		}
	}
	return nil
}

func (k *keeper) close() {
	k.events.Close()
	for _, fd := range k.buckets {
		unix.Close(fd)
	}
}

func (k *keeper) run(ctx context.Context) error {
	look := time.NewTicker(keepLook)
	defer look.Stop()
	k.quiet = time.Now()
	if err := k.all(ctx); err != nil { // what was taken away before it was watched
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-k.events.Events:
			if !open {
				return fsnotify.ErrClosed
			}
			k.own = k.own || k.isOwn(e)
			if name := path.Base(e.Name); (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) && k.byName[name] != nil {
				k.taken, k.quiet = true, time.Now()
				err = k.restore(ctx, name)
			}
		case lost := <-k.events.Errors: // as when there were too many
			err = errors.Join(ignore(lost, fsnotify.ErrEventOverflow), k.all(ctx))
		case <-look.C:
			if !k.alive() {
				return nil
			}
			if err = k.all(ctx); err == nil && k.isOver() {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// isOver says that the executor's recovery has been, as far as that can be seen.
func (k *keeper) isOver() bool {
	quiet := time.Since(k.quiet)
	return k.own && (k.taken && quiet > keepSettle || quiet > keepQuiet)
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// isOwn is true for an index that the executor has committed and that was not placed.
func (k *keeper) isOwn(e fsnotify.Event) bool {
	name := path.Base(e.Name)
	return e.Has(fsnotify.Create) && strings.HasPrefix(name, "shuffle_") && strings.HasSuffix(name, ".index") && k.byName[name] == nil
}

func (k *keeper) all(ctx context.Context) error {
	for name := range k.byName {
		if err := k.restore(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// restore makes a name again that has gone.
func (k *keeper) restore(ctx context.Context, name string) error {
	out := k.byName[name]
	if out == nil || k.isThere(name) {
		return nil
	}
	if !k.alive() {
		return nil // its folders go with it
	}
	if k.left--; k.left < 0 {
		return fmt.Errorf("%w: %s", ErrTakenAway, name)
	}
	k.again++
	k.taken, k.quiet = true, time.Now()
	return k.Link(ctx, out)
}

// isThere does not look what it is: nothing is ever put in the place of something.
func (k *keeper) isThere(name string) bool {
	fd, err := k.bucket(name)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Faccessat(fd, name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
}
