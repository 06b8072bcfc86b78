package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/catalog"
)

// executorsMost is of how many executors of one node it is remembered that they wrote something.
const executorsMost = 1000

// sighting is what is known of one node's part of the catalog, so that it is not read in vain.
type sighting struct {
	newest    time.Time       // manifest, by the storage's clock
	executors map[string]bool // whose outputs it may list; "" is one that had gone before
	nothing   string          // as situation, when nothing was left to salvage
}

// situation is what a salvage of the place depends on; "" when all its executors live.
func (s *sighting) situation(alive []string) string {
	var dead []string
	for id := range s.executors {
		if !has(alive, id) {
			dead = append(dead, id)
		}
	}
	if len(dead) == 0 {
		return ""
	}
	slices.Sort(dead)
	return s.newest.Format(time.RFC3339Nano) + " " + strings.Join(dead, ",")
}

// survey reads what is new in the catalog of the application.
func (w *appLookout) survey(ctx context.Context) ([]catalog.Place, error) {
	ctx, cancel := context.WithTimeout(ctx, salvageTime)
	defer cancel()
	of := func(p catalog.Place) *sighting {
		if w.sights[p] == nil {
			w.sights[p] = &sighting{executors: map[string]bool{}}
		}
		return w.sights[p]
	}
	since := func(p catalog.Place) time.Time { return of(p).newest }
	return w.copies.catalog.Fresh(ctx, w.executor.App, since, func(m *catalog.Manifest) {
		s := of(m.Place())
		if m.Written.After(s.newest) {
			s.newest = m.Written
		}
		if len(m.Executors) == 0 {
			s.executors[""] = true
		}
		for _, x := range m.Executors[:min(len(m.Executors), executorsMost)] {
			s.executors[x.ID] = true
		}
		for _, e := range m.Outputs {
			if e.Executor != "" && len(s.executors) < executorsMost {
				s.executors[e.Executor] = true
			}
		}
	})
}
