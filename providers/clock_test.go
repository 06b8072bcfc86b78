package providers

import (
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC)
	for name, c := range map[string]struct {
		service time.Time
		want    time.Duration
	}{
		"unknown":            {time.Time{}, 0},
		"equal":              {now, 0},
		"date without parts": {now.Truncate(time.Second), 0},
		"tolerated":          {now.Add(4 * time.Second), 0},
		"node is late":       {now.Add(2 * time.Minute), -2 * time.Minute},
		"node is early":      {now.Add(-2*time.Minute - 600*time.Millisecond), 2 * time.Minute},
	} {
		if got := Skew(now, c.service); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
