package agent

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
)

// storedSet is which outputs lie in object storage whole, by their size. It can be used by many goroutines at once.
type storedSet struct {
	began time.Time
	now   func() time.Time

	mu      sync.Mutex
	outputs map[catalog.Ref]storedOutput
}

// storedOutput is small: a node may have hundreds of thousands.
type storedOutput struct {
	bytes int64
	at    time.Duration // after the set began
}

// storedSure is how long it goes without saying that what was stored is still there: nothing cleans up buckets that
// fast.
const storedSure = time.Hour

func newStoredSet() *storedSet {
	return &storedSet{began: time.Now(), now: time.Now, outputs: map[catalog.Ref]storedOutput{}}
}

func (s *storedSet) add(r catalog.Ref, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outputs[r] = storedOutput{bytes: bytes, at: s.now().Sub(s.began)}
}

// has says whether this very output is there: of an output of the same name and another size it says no.
func (s *storedSet) has(out *migrate.Output) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.outputs[catalog.RefOf(out.ID)]
	return ok && o.bytes == out.Bytes()
}

// hasOld says that it was stored so long ago that it may have been removed since.
func (s *storedSet) hasOld(out *migrate.Output) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.outputs[catalog.RefOf(out.ID)]
	return ok && s.now().Sub(s.began)-o.at > storedSure
}

func (s *storedSet) forget(ids []migrate.OutputID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.outputs, catalog.RefOf(id))
	}
}

func (s *storedSet) refs() []catalog.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.outputs))
}

// clone is what is there now, and stays as it is.
func (s *storedSet) clone() *storedSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &storedSet{began: s.began, now: s.now, outputs: maps.Clone(s.outputs)}
}

func (s *storedSet) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.outputs)
}
