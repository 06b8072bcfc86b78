package providers

import (
	"regexp"
	"testing"
)

func TestBootIDStays(t *testing.T) {
	id := BootID()
	if !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(id) || BootID() != id {
		t.Errorf("boot id %q, then %q", id, BootID())
	}
}
