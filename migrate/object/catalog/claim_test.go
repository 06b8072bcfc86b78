package catalog

import (
	"fmt"
	"testing"
	"time"
)

func TestClaim(t *testing.T) {
	c := New(newBucket(t))
	now := time.Now()
	c.now = func() time.Time { return now }
	claim := func(by string, want bool) {
		t.Helper()
		got, err := c.Claim(t.Context(), place, by, time.Minute)
		if err != nil || got != want {
			t.Errorf("claim by %s: %v, %v", by, got, err)
		}
	}
	claim("a", true)
	claim("b", false)
	claim("a", true) // renewed
	now = now.Add(50 * time.Second)
	claim("b", false)
	now = now.Add(time.Minute)
	claim("b", true)
	now = time.Now() // what b has claimed is as new as the storage's clock says
	claim("a", false)
}

// TestOneClaimWins: of many that find no claim at the same time exactly one gets it.
func TestOneClaimWins(t *testing.T) {
	c := New(newBucket(t))
	won := make(chan bool)
	for i := range 8 {
		go func() {
			ok, err := c.Claim(t.Context(), place, fmt.Sprint("node-", i), time.Minute)
			if err != nil {
				t.Error(err)
			}
			won <- ok
		}()
	}
	winners := 0
	for range 8 {
		if <-won {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("%d have the claim", winners)
	}
}

// TestDamagedClaimHoldsAndEnds: one that can't be read holds for as long as any may, and not for ever.
func TestDamagedClaimHoldsAndEnds(t *testing.T) {
	b := newBucket(t)
	c := New(b)
	mustPut(t, b, place.folder()+"claim-000007.json", []byte(`{"version":1,"by":"x","seconds":9999999`))
	if ok, err := c.Claim(t.Context(), place, "a", time.Minute); ok || err != nil {
		t.Errorf("claimed: %v, %v", ok, err)
	}
	c.now = func() time.Time { return time.Now().Add(maxClaim + time.Minute) }
	if ok, err := c.Claim(t.Context(), place, "a", time.Minute); !ok || err != nil {
		t.Errorf("not claimed after its time: %v, %v", ok, err)
	}
}
