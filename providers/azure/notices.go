package azure

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

// patience is how many documents in a row with numbers that are too low are taken for old ones, before
// they count as a list that is numbered anew.
const patience = 10

// update takes a document and returns the notices that hold, and those that it ends, withdrawn.
func (s *Events) update(doc document, vm string, now time.Time, skew time.Duration) ([]providers.Notice, error) {
	var found []providers.Notice
	kept := s.book.Kept()
	for _, e := range doc.events {
		if e.covers(vm) && !has(found, e.id()) {
			found = append(found, s.notice(e, kept, now, skew))
		}
	}
	if !s.newer(doc) {
		for _, n := range kept {
			if !has(found, n.ID) {
				found = append(found, n)
			}
		}
	}
	if doc.broken > 0 && len(found) == 0 {
		return nil, metadata.Failed(providers.Malformed, "%d of the scheduled events can't be read; they may be about this machine", doc.broken)
	}
	s.noteBroken(doc.broken)
	return s.book.Settle(found), nil
}

// notice makes the notice of an event, or finds it as it was made before. kept are the notices that hold until now.
func (s *Events) notice(e event, kept []providers.Notice, now time.Time, skew time.Duration) providers.Notice {
	var before time.Time
	if i := slices.IndexFunc(kept, func(n providers.Notice) bool { return n.ID == e.id() }); i >= 0 {
		before = kept[i].Deadline
	} else {
		s.noteNew(e)
	}
	kind, _ := e.kind()
	n := providers.Notice{ID: e.id(), Source: Name, Kind: kind, Seen: now, Deadline: e.deadline(before, now, skew, s.o.Lead)}
	return s.book.Keep(n, e.EventType+" "+e.EventStatus+" "+e.NotBefore)
}

// newer says whether a document that doesn't show an event proves that it has ended. Azure gives each
// change of the list a higher number. So a document with the number of the last one that lacks an event
// contradicts it, and one with a lower number is older, unless Azure began to count anew: then
// it is believed when it stays.
func (s *Events) newer(doc document) bool {
	if doc.broken > 0 || !doc.numbered {
		return false
	}
	if s.numbered && doc.number < s.number {
		s.low++
	} else {
		s.low = 0
	}
	if s.numbered && doc.number <= s.number && s.low < patience {
		return false
	}
	s.numbered, s.number, s.low = true, doc.number, 0
	return true
}

// noteNew logs what a notice has no place for.
func (s *Events) noteNew(e event) {
	log := s.o.Log.With(zap.String("source", Name), zap.String("id", e.id()), zap.String("type", short(e.EventType)))
	log.Info("scheduled event", zap.String("status", short(e.EventStatus)), zap.String("by", short(e.EventSource)),
		zap.String("not_before", short(e.NotBefore)), zap.Int("machines", len(e.Resources)), zap.Int("seconds", e.duration()))
	if kind, known := e.kind(); !known {
		log.Warn("scheduled event of an unknown type", zap.String("taken_as", string(kind)))
	}
}

// noteBroken logs that events can't be read while others can, once until that is over.
func (s *Events) noteBroken(n int) {
	if n > 0 && !s.broken {
		s.o.Log.Warn("some scheduled events can't be read; they may be about this machine", zap.String("source", Name), zap.Int("events", n))
	}
	s.broken = n > 0
}

func has(list []providers.Notice, id string) bool {
	return slices.ContainsFunc(list, func(n providers.Notice) bool { return n.ID == id })
}

// short cuts a text from outside for the log.
func short(s string) string { return s[:min(len(s), 64)] }
