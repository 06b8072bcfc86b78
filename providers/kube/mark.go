package kube

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lifeboat/lifeboat/providers"
)

// Phases of a rescue as the node's mark and its taint name them.
const (
	PhaseCopying = "copying"
	PhaseEnded   = "ended"
)

// Mark is what a rescue of a whole node writes on its Node object, in the annotation OwnMark: agents on other nodes send nothing
// here while it is there.
type Mark struct {
	Report   string    `json:"report"`   // id of the rescue
	Phase    string    `json:"phase"`    // PhaseCopying or PhaseEnded
	Deadline time.Time `json:"deadline"` // when the node is taken
	Boot     string    `json:"boot"`     // status.nodeInfo.bootID: another one says that the machine came back
	Cordoned bool      `json:"cordoned"` // the rescue has cordoned the node; false when it was already
	By       string    `json:"by"`       // id of the notice
}

// maxMark is the most that a mark may have, in bytes.
const maxMark = 4 << 10

// ParseMark reads the annotation.
func ParseMark(text string) (Mark, error) {
	var m Mark
	if len(text) > maxMark {
		return m, fmt.Errorf("annotation %s: %d bytes are too many", OwnMark, len(text))
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return Mark{}, fmt.Errorf("annotation %s: %w", OwnMark, err)
	}
	return m, nil
}

// Text is the annotation.
func (m Mark) Text() (string, error) {
	text, err := json.Marshal(m)
	return string(text), err
}

// Mark is the node's own; false when there is none. One that can't be read is empty.
func (s NodeState) Mark() (Mark, bool) {
	text, has := s.Annotations[OwnMark]
	if !has {
		return Mark{}, false
	}
	m, _ := ParseMark(text)
	return m, true
}

// Doomed says why nothing should be sent to a node; "" when nothing speaks against it. A removal that has only become likely
// does not. Taints are those of the configuration.
func (s NodeState) Doomed(taints []Taint) string {
	mark, marked := s.Mark()
	switch {
	case marked:
		return "it is being rescued itself (" + mark.Report + ")"
	case s.Deleting:
		return "it is being deleted"
	case s.Unschedulable:
		return "it is cordoned"
	case s.Ready != corev1.ConditionTrue:
		return "it is not ready"
	}
	for _, t := range s.Taints {
		if dooms(t, taints) {
			return "it has the taint " + t.Key
		}
	}
	return ""
}

func dooms(t corev1.Taint, configured []Taint) bool {
	if t.Key == OwnTaint || t.Key == corev1.TaintNodeUnreachable || t.Key == corev1.TaintNodeNotReady {
		return true
	}
	if means, known := meaningOf(t, configured); known {
		return fatal(means.Kind)
	}
	means, known := meaningOf(t, DisruptionTaints())
	return known && (means.Kind == "" || fatal(means.Kind)) // those without a kind say that it is dead
}

func fatal(k providers.Kind) bool {
	return k == providers.Preemption || k == providers.Drain || k == providers.Maintenance || k == providers.Cordon
}
