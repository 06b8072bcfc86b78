package java

import "testing"

// TestNonNegativeHash has the hashes of java.lang.String.hashCode.
func TestNonNegativeHash(t *testing.T) {
	for s, want := range map[string]int32{
		"": 0, "a": 97, "shuffle": 2072332025, "polygenelubricants": 0, "ü\U0001F6A4": 2015235,
	} {
		if got := NonNegativeHash(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}
