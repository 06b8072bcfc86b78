package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestMovableEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(time.Minute)
		m, cancel := withMovable(t.Context(), at)
		defer cancel()
		if got, ok := m.Deadline(); !ok || !got.Equal(at) || m.Err() != nil {
			t.Errorf("deadline %v, %v, err %v", got, ok, m.Err())
		}
		<-m.Done()
		if !errors.Is(m.Err(), context.DeadlineExceeded) || !time.Now().Equal(at) {
			t.Errorf("ended %v after its deadline with %v", time.Since(at), m.Err())
		}
		if m.Advance(at.Add(-time.Second)) {
			t.Error("advanced after its end")
		}
	})
}

func TestMovableOnlyComesNearer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		m, cancel := withMovable(t.Context(), began.Add(time.Minute))
		defer cancel()
		child, end := context.WithCancel(m)
		defer end()
		if m.Advance(began.Add(2 * time.Minute)) {
			t.Error("moved to a later moment")
		}
		if !m.Advance(began.Add(10 * time.Second)) {
			t.Error("not moved to an earlier moment")
		}
		if at, _ := child.Deadline(); !at.Equal(began.Add(10 * time.Second)) {
			t.Errorf("a child sees %v", at.Sub(began))
		}
		<-child.Done()
		if took := time.Since(began); took != 10*time.Second || !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("child ended after %v with %v", took, child.Err())
		}
	})
}

func TestMovableEndsWithItsParentAndByCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		m, cancel := withMovable(parent, time.Now().Add(time.Minute))
		defer cancel()
		end()
		<-m.Done()
		if !errors.Is(m.Err(), context.Canceled) {
			t.Errorf("parent ended: %v", m.Err())
		}
		m, cancel = withMovable(t.Context(), time.Now().Add(time.Minute))
		cancel()
		cancel()
		<-m.Done()
		if !errors.Is(m.Err(), context.Canceled) {
			t.Errorf("cancelled: %v", m.Err())
		}
	})
}

// TestMovableInThePast runs with the race detector: the timer fires while it is still being set up.
func TestMovableInThePast(t *testing.T) {
	for range 1000 {
		m, cancel := withMovable(t.Context(), time.Now().Add(-time.Second))
		<-m.Done()
		if !errors.Is(m.Err(), context.DeadlineExceeded) {
			t.Fatal(m.Err())
		}
		cancel()
	}
}
