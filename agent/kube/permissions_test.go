package kube

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestChartGrantsWhatIsNeeded and nothing else.
func TestChartGrantsWhatIsNeeded(t *testing.T) {
	text, err := os.ReadFile("../../deploy/chart/templates/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	role, _, _ := strings.Cut(string(text), "ClusterRoleBinding")
	var granted []string
	for _, m := range regexp.MustCompile(`apiGroups: \["(.*)"\]\n *resources: \[(.*)\]\n *verbs: \[(.*)\]`).FindAllStringSubmatch(role, -1) {
		granted = append(granted, m[1]+" "+m[2]+": "+m[3])
	}
	var needed []string
	for _, p := range Permissions() {
		needed = append(needed, p.Group+" "+p.Resource+": "+strings.Join(p.Verbs, ", "))
		if p.For == "" {
			t.Errorf("%s: for what?", p.Resource)
		}
	}
	slices.Sort(granted)
	slices.Sort(needed)
	if !slices.Equal(granted, needed) {
		t.Errorf("the chart grants\n%s\nneeded is\n%s", strings.Join(granted, "\n"), strings.Join(needed, "\n"))
	}
}
