package object

import (
	"testing"

	"github.com/lifeboat/lifeboat/migrate"
)

// TestKey has the hashes that java.lang.String.hashCode gives, made non-negative as Spark does it.
func TestKey(t *testing.T) {
	id := migrate.OutputID{App: "app-20260101000000-0000", Shuffle: 3, Map: 17}
	for _, c := range []struct{ got, want string }{
		{IndexKey(id), "app-20260101000000-0000/3/793681805/shuffle_3_17_0.index"},
		{DataKey(id), "app-20260101000000-0000/3/25441679/shuffle_3_17_0.data"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}
