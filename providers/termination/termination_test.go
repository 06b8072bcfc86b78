package termination

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

// newSource is a source whose metadata nobody asks.
func newSource(t testing.TB, o Options) *Source {
	t.Helper()
	s, err := New(Cloud{
		Source: "test-spot", Endpoint: "http://127.0.0.1:1", Path: "/time",
		Get: func(context.Context, *metadata.Client, string) (metadata.Answer, error) {
			return metadata.Answer{}, errors.New("not asked")
		},
		Parse: func(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) },
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNotice(t *testing.T) {
	now := time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, c := range map[string]struct {
		body string
		skew time.Duration
		want time.Duration // from now to the deadline
		id   string
	}{
		"in time":          {"2027-03-04T05:11:07Z", 0, 5 * time.Minute, "test-spot-2027-03-04T05:11:07Z"},
		"with a line feed": {"2027-03-04T05:11:07Z\n", 0, 5 * time.Minute, "test-spot-2027-03-04T05:11:07Z"},
		"another zone":     {"2027-03-04T13:11:07+08:00", 0, 5 * time.Minute, "test-spot-2027-03-04T05:11:07Z"},
		"our clock ahead":  {"2027-03-04T05:11:07Z", 2 * time.Minute, 7 * time.Minute, "test-spot-2027-03-04T05:11:07Z"},
		"our clock behind": {"2027-03-04T05:11:07Z", -2 * time.Minute, 3 * time.Minute, "test-spot-2027-03-04T05:11:07Z"},
		"over":             {"2027-03-04T05:06:06Z", 0, 20 * time.Second, "test-spot-2027-03-04T05:06:06Z"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource(t, Options{Lead: 20 * time.Second})
			n, err := s.notice([]byte(c.body), now, c.skew)
			if err != nil || n.ID != c.id || n.Kind != providers.Preemption || n.Source != "test-spot" || n.Deadline.Sub(now) != c.want || !n.Seen.Equal(now) {
				t.Errorf("%+v %v", n, err)
			}
			again, err := s.notice([]byte(c.body), now.Add(time.Minute), c.skew+time.Second)
			if err != nil || !again.Deadline.Equal(n.Deadline) || !again.Seen.Equal(n.Seen) {
				t.Errorf("a minute later: %+v %v", again, err)
			}
		})
	}
}

func TestWhatIsNoTimeIsNoNotice(t *testing.T) {
	s := newSource(t, Options{})
	for _, body := range []string{"", " ", "soon", "null", "<html></html>", "2027-03-04T05:1", "2027-03-04T05:11:07Z 2027-03-04T05:11:08Z", "1999-12-31T23:59:59Z", "\xff"} {
		if n, err := s.notice([]byte(body), time.Now(), 0); err == nil {
			t.Errorf("%q: %+v", body, n)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, o := range map[string]Options{
		"endpoint": {Endpoint: "metadata"},
		"lead":     {Lead: -1},
		"interval": {Interval: -1},
		"timeout":  {Timeout: -1},
	} {
		if _, err := New(Cloud{Source: "test-spot"}, o); err == nil || !strings.HasPrefix(err.Error(), "test-spot: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzNotice(f *testing.F) {
	for _, body := range []string{"2027-03-04T05:11:07Z", "2027-03-04T13:11:07.123456789+08:00\n", "9999-12-31T23:59:59-23:59", "x"} {
		f.Add([]byte(body))
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := newSource(t, Options{}).notice(body, now, 0)
		if err != nil {
			return
		}
		if n.Deadline.Before(now) || len(n.ID) > 64 || strings.ContainsAny(n.ID, "/\\ \n\x00") {
			t.Errorf("%q: %+v", body, n)
		}
	})
}
