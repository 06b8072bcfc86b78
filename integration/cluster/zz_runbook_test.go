//go:build integration

package cluster

import "testing"

// TestZZRunbookIsRun fails for every block of the runbook that no test of the lane has pasted. With -run it can't say.
func TestZZRunbookIsRun(t *testing.T) {
	for _, s := range newOncall(t).steps[1:] {
		switch {
		case pasted[s.Line]:
		case wholeLane():
			t.Errorf("line %d: no test runs %s", s.Line, s.Script)
		default:
			t.Logf("line %d: not run by the tests that were chosen: %s", s.Line, s.Script)
		}
	}
}
