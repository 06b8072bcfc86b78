package survivor

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers/kube"
)

const after = 10 * time.Second

// scene is a silent machine and a fresh look at it, by the clock of this process; the API server's is the same.
type scene struct {
	node silence
	look sight
}

// dead is a machine that was last there a minute ago, seen silent and its lease unchanged for 11 s, and which the cloud has
// shut down.
func dead() scene {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	lease := pulse{found: true, beat: "2026-03-01T11:59:00.000000Z", over: now.Add(-20 * time.Second), lasts: 40 * time.Second}
	m := member("Unknown")
	return scene{
		node: silence{member: m, since: now.Add(-11 * time.Second), pulse: lease, still: now.Add(-11 * time.Second)},
		look: sight{member: shutdown(m), pulse: lease, now: now},
	}
}

func member(ready string) kube.Member {
	m := kube.Member{NodeState: kube.NodeState{Name: "n", UID: "u1", BootID: "b1", ResourceVersion: "7"}}
	put(&m.Ready, ready)
	return m
}

// put writes a value whose type's package only providers/kube imports.
func put[T ~string](to *T, s string) { *to = T(s) }

func shutdown(m kube.Member) kube.Member {
	m.Taints = nil
	if err := json.Unmarshal([]byte(`[{"key":"`+kube.ShutdownTaint+`","effect":"NoSchedule"}]`), &m.Taints); err != nil {
		panic(err)
	}
	return m
}

// said puts a machine's last word on it: its phase, the deadline, and the boot of which it was.
func (s *scene) said(phase string, deadline time.Time, boot string) {
	s.look.member = member("Unknown")
	s.look.member.Annotations = map[string]string{kube.OwnMark: fmt.Sprintf(`{"report":"r","phase":%q,"deadline":%q,"boot":%q}`,
		phase, deadline.Format(time.RFC3339), boot)}
}

// cordoned lets the last word say that the node was cordoned for it.
func (s *scene) cordoned(still bool) {
	text := s.look.member.Annotations[kube.OwnMark]
	s.look.member.Annotations[kube.OwnMark] = strings.TrimSuffix(text, "}") + `,"cordoned":true}`
	s.look.member.Unschedulable = still
}

func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		change     func(s *scene)
		onNotReady bool
		want       Witness // "": not dead
		alive      bool
	}{
		"shut down":                         {func(*scene) {}, false, WitnessShutdown, false},
		"deleted":                           {func(s *scene) { s.look.member, s.look.gone = kube.Member{}, true }, false, WitnessDeleted, false},
		"deleted, and its lease with it":    {func(s *scene) { s.look = sight{gone: true, now: s.look.now} }, false, WitnessDeleted, false},
		"deleted before its lease was read": {func(s *scene) { s.node.still = time.Time{}; s.look = sight{gone: true, now: s.look.now} }, false, "", false},
		"deleted a moment ago":              {func(s *scene) { s.node.since = s.look.now.Add(-time.Second); s.look.gone = true }, false, "", false},
		"deleted by hand, its kubelet renews": {func(s *scene) {
			s.look.member, s.look.gone = kube.Member{}, true
			s.look.pulse.beat, s.look.pulse.over = "later", s.look.now.Add(40*time.Second)
		}, false, "", true},
		"deleted and made again":       {func(s *scene) { s.look.member.UID = "u2" }, true, "", true},
		"rebooted":                     {func(s *scene) { s.look.member.BootID = "b2" }, true, "", true},
		"rebooted, and ready":          {func(s *scene) { s.look.member.BootID, s.look.member.Ready = "b2", "True" }, true, "", true},
		"ready":                        {func(s *scene) { s.look.member.Ready = "True" }, true, "", true},
		"not ready by its own word":    {func(s *scene) { s.look.member.Ready = "False" }, true, "", true},
		"cordoned only":                {func(s *scene) { s.look.member = member("True"); s.look.member.Unschedulable = true }, true, "", true},
		"lease renewed":                {func(s *scene) { s.look.pulse.beat = "2026-03-01T11:59:10.000000Z" }, true, "", true},
		"lease read first now":         {func(s *scene) { s.node.still = time.Time{} }, true, "", false},
		"lease never there":            {func(s *scene) { s.look.pulse, s.node.pulse = pulse{}, pulse{} }, true, "", false},
		"lease made again":             {func(s *scene) { s.node.pulse = pulse{} }, true, "", true},
		"lease deleted":                {func(s *scene) { s.look.pulse = pulse{} }, true, "", false},
		"silent for too short":         {func(s *scene) { s.node.since = s.look.now.Add(-9 * time.Second) }, true, "", false},
		"lease observed for too short": {func(s *scene) { s.node.still = s.look.now.Add(-9 * time.Second) }, true, "", false},
		"lease not over":               {func(s *scene) { s.look.pulse.over = s.look.now.Add(time.Second) }, true, "", false},
		"lease over for too short":     {func(s *scene) { s.look.pulse.over = s.look.now.Add(-9 * time.Second) }, true, "", false},
		"its clock is an hour ahead": {func(s *scene) {
			s.look.pulse.over = s.look.now.Add(time.Hour)
			s.node.still = s.look.now.Add(-50 * time.Second)
		}, false, WitnessShutdown, false},
		"its clock is an hour ahead, observed for too short": {func(s *scene) {
			s.look.pulse.over = s.look.now.Add(time.Hour)
			s.node.still = s.look.now.Add(-49 * time.Second)
		}, false, "", false},
		"its clock is an hour behind, and it renews": {func(s *scene) {
			s.look.pulse.over, s.look.pulse.beat = s.look.now.Add(-time.Hour), "2026-03-01T10:59:10.000000Z"
		}, true, "", true},
		"our clock is an hour ahead": {func(s *scene) { s.look.skew = time.Hour; s.look.pulse.over = s.look.now.Add(-time.Hour) }, true, "", false},
		"our clock is an hour behind": {func(s *scene) {
			s.look.skew = -time.Hour
			s.look.pulse.over = s.look.now.Add(time.Hour - 20*time.Second)
		}, false, WitnessShutdown, false},
		"silent only":                     {func(s *scene) { s.look.member = member("Unknown") }, false, "", false},
		"silent only, and that is enough": {func(s *scene) { s.look.member = member("Unknown") }, true, WitnessNone, false},
		"its last word, ended":            {func(s *scene) { s.said("ended", s.look.now.Add(-time.Minute), "b1") }, false, WitnessLastWord, false},
		"its last word, copying":          {func(s *scene) { s.said("copying", s.look.now.Add(-time.Minute), "b1") }, false, WitnessLastWord, false},
		"its last word, taken back":       {func(s *scene) { s.said("withdrawn", s.look.now.Add(-time.Minute), "b1") }, false, "", false},
		"its last word, of another boot":  {func(s *scene) { s.said("ended", s.look.now.Add(-time.Minute), "b0") }, false, "", false},
		"its last word, of no boot":       {func(s *scene) { s.said("ended", s.look.now.Add(-time.Minute), "") }, false, "", false},
		"it has outlived its last word": {func(s *scene) {
			s.said("ended", s.look.now.Add(-5*time.Minute), "b1")
		}, false, "", false},
		"it has outlived its last word a little": {func(s *scene) {
			s.said("ended", s.look.now.Add(-2*time.Minute), "b1")
		}, false, WitnessLastWord, false},
		"its last word, cordoned": {func(s *scene) {
			s.said("ended", s.look.now.Add(-time.Minute), "b1")
			s.cordoned(true)
		}, false, WitnessLastWord, false},
		"its last word, and uncordoned by somebody": {func(s *scene) {
			s.said("ended", s.look.now.Add(-time.Minute), "b1")
			s.cordoned(false)
		}, false, "", false},
		"its deadline is to come":       {func(s *scene) { s.said("copying", s.look.now.Add(time.Minute), "b1") }, false, "", false},
		"its deadline is over just now": {func(s *scene) { s.said("copying", s.look.now.Add(-9*time.Second), "b1") }, false, "", false},
		"its deadline by our fast clock": {func(s *scene) {
			s.said("copying", s.look.now.Add(-time.Minute), "b1")
			s.look.skew, s.look.pulse.over = time.Hour, s.look.now.Add(-2*time.Hour)
		}, false, "", false},
		"its last word can't be read": {func(s *scene) {
			s.look.member = member("Unknown")
			s.look.member.Annotations = map[string]string{kube.OwnMark: `{"phase":`}
		}, false, "", false},
		"its last word has no deadline": {func(s *scene) {
			s.look.member = member("Unknown")
			s.look.member.Annotations = map[string]string{kube.OwnMark: `{"phase":"ended","boot":"b1"}`}
		}, false, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := dead()
			tt.change(&s)
			v := rules{after: after, onNotReady: tt.onNotReady}.judge(s.node, s.look)
			if v.dead != (tt.want != "") || v.witness != tt.want || v.alive != tt.alive || v.why == "" {
				t.Errorf("got %+v, want witness %q, alive %v", v, tt.want, tt.alive)
			}
		})
	}
}

// TestFlapping: every sign of life begins the observation anew.
func TestFlapping(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := silence{member: member("Unknown"), since: begin}
	beats := pulse{found: true, lasts: 40 * time.Second, over: begin.Add(-time.Hour)} // a clock that is behind
	r := rules{after: after, onNotReady: true}
	for i := range 20 {
		now := begin.Add(time.Duration(i) * 9 * time.Second)
		beats.beat = fmt.Sprint(i)
		s.listen(beats, now)
		if v := r.judge(s, sight{member: member("Unknown"), pulse: beats, now: now.Add(8 * time.Second)}); v.dead {
			t.Fatalf("dead after %d renewals: %s", i+1, v.why)
		}
	}
	last := s.still
	s.listen(beats, last.Add(time.Minute)) // the same once more
	if v := r.judge(s, sight{member: member("Unknown"), pulse: beats, now: last.Add(after)}); !v.dead {
		t.Errorf("not dead after it has gone silent for good: %s", v.why)
	}
	s.listen(pulse{}, last.Add(2*time.Minute))
	if !s.pulse.found || s.still != last {
		t.Errorf("a lease that was deleted counts as a sign of life: %+v", s)
	}
}

func TestGuard(t *testing.T) {
	type zone struct{ nodes, silent int }
	for name, tt := range map[string]struct {
		zones map[string]zone
		held  map[string]bool
	}{
		"one of two":                {map[string]zone{"": {2, 1}}, map[string]bool{"": false}},
		"one of one":                {map[string]zone{"": {1, 1}}, map[string]bool{"": false}},
		"two of two":                {map[string]zone{"": {2, 2}}, map[string]bool{"": true}},
		"half":                      {map[string]zone{"": {10, 5}}, map[string]bool{"": false}},
		"more than half":            {map[string]zone{"": {11, 6}}, map[string]bool{"": true}},
		"all":                       {map[string]zone{"a": {30, 30}, "b": {30, 30}}, map[string]bool{"a": true, "b": true, "": true}},
		"one zone of three":         {map[string]zone{"a": {10, 10}, "b": {10, 0}, "c": {10, 1}}, map[string]bool{"a": true, "b": false, "c": false}},
		"a zone of two":             {map[string]zone{"a": {2, 2}, "b": {10, 0}}, map[string]bool{"a": false}},
		"a zone of three, one":      {map[string]zone{"a": {3, 1}, "b": {10, 0}}, map[string]bool{"a": false}},
		"a zone of three, two":      {map[string]zone{"a": {3, 2}, "b": {10, 0}}, map[string]bool{"a": true, "b": false}},
		"nobody":                    {nil, map[string]bool{"": false, "a": false}},
		"more than half over zones": {map[string]zone{"a": {2, 2}, "b": {2, 1}}, map[string]bool{"a": true, "b": true}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCensus()
			for z, n := range tt.zones {
				for i := range n.nodes {
					c.count(z, i < n.silent)
				}
			}
			for z, want := range tt.held {
				if held := c.held(z); (held != "") != want {
					t.Errorf("zone %q: %q, want held: %v", z, held, want)
				}
			}
		})
	}
}
