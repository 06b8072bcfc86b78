package kube

import (
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers/kube"
)

func TestOutlives(t *testing.T) {
	now := time.Now()
	mark := kube.Mark{Report: "r", Phase: kube.PhaseEnded, Boot: "b1", Cordoned: true, Deadline: now.Add(-time.Minute)}
	state := func(change func(m *kube.Mark, s *kube.NodeState)) kube.NodeState {
		m, s := mark, kube.NodeState{BootID: "b1", Unschedulable: true}
		change(&m, &s)
		text, err := m.Text()
		if err != nil {
			t.Fatal(err)
		}
		s.Annotations = map[string]string{kube.OwnMark: text}
		return s
	}
	for name, tt := range map[string]struct {
		state    kube.NodeState
		standing bool
		want     bool
	}{
		"no mark":                      {state: kube.NodeState{BootID: "b2"}},
		"somebody else's annotation":   {state: kube.NodeState{BootID: "b2", Annotations: map[string]string{kube.OwnMark: "mine"}}},
		"still to be taken":            {state: state(func(*kube.Mark, *kube.NodeState) {})},
		"booted again":                 {state: state(func(_ *kube.Mark, s *kube.NodeState) { s.BootID = "b2" }), standing: true, want: true},
		"boot not known":               {state: state(func(_ *kube.Mark, s *kube.NodeState) { s.BootID = "" })},
		"not taken":                    {state: state(func(m *kube.Mark, _ *kube.NodeState) { m.Deadline = now.Add(-outlived - time.Second) }), want: true},
		"not taken, but still said so": {state: state(func(m *kube.Mark, _ *kube.NodeState) { m.Deadline = now.Add(-24 * time.Hour) }), standing: true},
		"uncordoned by a person":       {state: state(func(_ *kube.Mark, s *kube.NodeState) { s.Unschedulable = false }), standing: true, want: true},
		"never cordoned by us":         {state: state(func(m *kube.Mark, s *kube.NodeState) { m.Cordoned, s.Unschedulable = false, false })},
		"cordoned by a person before":  {state: state(func(m *kube.Mark, _ *kube.NodeState) { m.Cordoned = false })},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outlives(tt.state, now, func() bool { return tt.standing }); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
