package status

import (
	"slices"
	"testing"

	"github.com/lifeboat/lifeboat/providers"
)

func TestSurvivorNotReady(t *testing.T) {
	watching := []Source{{Health: providers.Health{OK: true}}}
	for name, tt := range map[string]struct {
		status Status
		want   []string
	}{
		"it leads":               {Status{Sources: watching, Survivor: &Survivor{Leader: true}}, []string{}},
		"another leads":          {Status{Sources: watching, Survivor: &Survivor{}}, []string{}},
		"the nodes can't be had": {Status{Sources: []Source{{Health: providers.Health{Error: "403"}}}, Survivor: &Survivor{}}, []string{"the nodes can't be watched: 403"}},
		"the Lease can't be had": {Status{Sources: watching, Survivor: &Survivor{LeaseError: "403"}}, []string{"the Lease can't be read or written: 403"}},
		"it ends":                {Status{Sources: watching, Survivor: &Survivor{}, Stopping: true}, []string{"stopping"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.status.NotReady(); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
