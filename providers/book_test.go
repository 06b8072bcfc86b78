package providers

import (
	"fmt"
	"testing"
	"time"
)

func TestBookKeepsWhatWasFirstSaid(t *testing.T) {
	var b Book
	seen := time.Now()
	first := b.Keep(Notice{ID: "a", Seen: seen, Deadline: seen.Add(time.Minute)}, "soon")
	again := b.Keep(Notice{ID: "a", Seen: seen.Add(1), Deadline: seen.Add(time.Hour)}, "soon")
	if !again.Deadline.Equal(first.Deadline) || !again.Seen.Equal(seen) {
		t.Errorf("the notice moved: %+v", again)
	}
	changed := b.Keep(Notice{ID: "a", Seen: seen.Add(1), Deadline: seen.Add(time.Hour)}, "later")
	if !changed.Deadline.Equal(seen.Add(time.Hour)) || !changed.Seen.Equal(seen) {
		t.Errorf("what the origin says anew: %+v", changed)
	}
	if got := b.Keep(Notice{ID: "a"}, "later"); !got.Deadline.Equal(changed.Deadline) {
		t.Errorf("then %+v", got)
	}
}

func TestBookWithdrawsOnce(t *testing.T) {
	var b Book
	d := time.Now()
	one, two := b.Keep(Notice{ID: "1", Deadline: d}, ""), b.Keep(Notice{ID: "2", Deadline: d.Add(1)}, "")
	three := b.Keep(Notice{ID: "3", Deadline: d.Add(2)}, "")
	if got := b.Kept(); len(got) != 3 || got[0].ID != "1" || got[2].ID != "3" {
		t.Errorf("kept: %v", got)
	}
	if got := b.Settle([]Notice{one, two, three}); len(got) != 3 {
		t.Errorf("nothing has ended: %v", got)
	}
	found := []Notice{two}
	got := b.Settle(found)
	if len(got) != 3 || got[0].Withdrawn || got[1].ID != "1" || !got[1].Withdrawn || got[2].ID != "3" || !got[2].Withdrawn {
		t.Errorf("two have ended: %v", got)
	}
	if got := b.Settle(found); len(got) != 1 {
		t.Errorf("withdrawn again: %v", got)
	}
	if got := b.Settle(nil); len(got) != 1 || got[0].ID != "2" || !got[0].Withdrawn || len(b.Kept()) != 0 {
		t.Errorf("the last: %v", got)
	}
}

func TestBookIsBounded(t *testing.T) {
	var b Book
	at := time.Now()
	for i := range 3 * maxBook {
		b.Keep(Notice{ID: fmt.Sprint(i), Seen: at.Add(time.Duration(i))}, "")
	}
	kept := b.Kept()
	if len(kept) != maxBook {
		t.Fatalf("%d events kept", len(kept))
	}
	for _, n := range kept {
		if n.Seen.Before(at.Add(2 * maxBook)) {
			t.Fatalf("the old event %s is kept", n.ID)
		}
	}
}
