package providers

import (
	"cmp"
	"slices"
	"time"
)

// maxBook is how many events a Book keeps. No node has that many; an origin that invents new ones with every answer must
// not fill the memory.
const maxBook = 1024

// Book keeps what a source has said in this run of the agent, so that a notice doesn't move from poll to poll, and one
// whose event has ended is withdrawn once. The zero value is an empty book. It belongs to the poll function, which is never
// called twice at once.
type Book struct{ entries map[string]entry }

type entry struct {
	notice Notice
	said   string
}

// Keep returns n as it was when it was first noted, as long as said is the same: what the origin itself says about the
// event, without anything that is computed from a clock. When the origin says something new, n is noted in its place, and
// only the time at which it was first seen is kept.
func (b *Book) Keep(n Notice, said string) Notice {
	before, known := b.entries[n.ID]
	if known && before.said == said {
		return before.notice
	}
	if known {
		n.Seen = before.notice.Seen
	}
	if b.entries == nil {
		b.entries = make(map[string]entry)
	}
	b.entries[n.ID] = entry{notice: n, said: said}
	for len(b.entries) > maxBook {
		b.forgetOldest(n.ID)
	}
	return n
}

// Recall notes notices of an earlier run of the agent, as if they had been kept in this one.
func (b *Book) Recall(list []Notice) {
	for _, n := range list {
		b.Keep(n, "")
	}
}

// Settle adds the notices that were kept and are not among found any more to them, withdrawn, and forgets them. It is for
// good answers of origins whose events are documented to end.
func (b *Book) Settle(found []Notice) []Notice {
	now := time.Now()
	var gone []Notice
	for id, e := range b.entries {
		if slices.ContainsFunc(found, func(n Notice) bool { return n.ID == id }) {
			continue
		}
		n := e.notice
		n.Withdrawn, n.Seen = true, now
		gone = append(gone, n)
		delete(b.entries, id)
	}
	slices.SortFunc(gone, sooner)
	return append(slices.Clip(found), gone...)
}

// Kept are all notices of the book: what still holds when an answer says nothing about them.
func (b *Book) Kept() []Notice {
	var list []Notice
	for _, e := range b.entries {
		list = append(list, e.notice)
	}
	slices.SortFunc(list, sooner)
	return list
}

// sooner sorts by deadline. The order of a map is no order for a log.
func sooner(x, y Notice) int {
	return cmp.Or(x.Deadline.Compare(y.Deadline), cmp.Compare(x.ID, y.ID))
}

func (b *Book) forgetOldest(except string) {
	oldest := ""
	for id, e := range b.entries {
		if id != except && (oldest == "" || e.notice.Seen.Before(b.entries[oldest].notice.Seen)) {
			oldest = id
		}
	}
	delete(b.entries, oldest)
}
