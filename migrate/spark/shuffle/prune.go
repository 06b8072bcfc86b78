package shuffle

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

// Prune forgets the outputs whose files are no longer there, as when Spark has cleaned up their shuffle, and
// returns their names. Pinned ones are kept: they can still be read. Whoever keeps a store open for as long as an application
// lives calls it now and then: without it the store grows with every output that ever was.
func (s *Store) Prune() []migrate.OutputID {
	s.scan.Lock()
	defer s.scan.Unlock()
	var gone []migrate.OutputID
	for k, out := range s.known {
		if out.index.pinned() || out.index.there() {
			continue
		}
		delete(s.known, k)
		f := out.index.at.folder
		f.outputs--
		f.bytes -= out.Bytes()
		gone = append(gone, out.ID)
	}
	return gone
}

// Gone names the outputs whose files are no longer there, but can still be read because they are pinned. Release and Prune
// give back the disk space that they take. When ctx ends first there are none.
func (s *Store) Gone(ctx context.Context) []migrate.OutputID {
	s.scan.Lock()
	defer s.scan.Unlock()
	var gone []migrate.OutputID
	for _, out := range s.known {
		if ctx.Err() != nil {
			return nil
		}
		if out.index.pinned() && !out.index.there() {
			gone = append(gone, out.ID)
		}
	}
	return gone
}

func (h *handle) pinned() bool { return h.users.Load() >= 0 }

// there says whether a file still has the name under which it was verified. In doubt it is there.
func (b *blob) there() bool {
	folder := b.at.folder
	if !folder.acquire() {
		return false
	}
	defer folder.release()
	var st unix.Stat_t
	err := unix.Fstatat(int(folder.fd), b.at.path(b.name()), &st, unix.AT_SYMLINK_NOFOLLOW)
	return !errors.Is(err, unix.ENOENT)
}
