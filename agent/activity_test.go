package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/driver"
)

// publish makes a reading known that began now: the tasks of each executor that is listed.
func (a *activity) publish(tasks map[string]int, blocks int) {
	r := reading{began: time.Now(), executors: map[string]driver.ExecutorInfo{}}
	for id, n := range tasks {
		r.executors[id] = driver.ExecutorInfo{ID: id, ActiveTasks: n, RDDBlocks: blocks}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = r
	close(a.next)
	a.next = make(chan struct{})
}

// TestIdle publishes readings of executor 1 every 200 ms, beginning when the driver is told, and says after which one
// it counts as idle.
func TestIdle(t *testing.T) {
	const gone = -1
	for name, tc := range map[string]struct {
		tasks      []int
		blocks     int
		withBlocks bool
		want       int // readings needed; 0: never
	}{
		"idle from the start":        {tasks: []int{0, 0, 0, 0, 0}, want: 3}, // the first one began too soon after it was told
		"tasks that end":             {tasks: []int{2, 2, 1, 1, 0, 0}, want: 6},
		"one quiet moment":           {tasks: []int{1, 1, 0, 1, 0, 1}},
		"lost by the driver":         {tasks: []int{1, 1, gone, gone}, want: 4},
		"busy to the end":            {tasks: []int{1, 1, 1, 1, 1}},
		"cached blocks do not count": {tasks: []int{0, 0, 0, 0}, blocks: 3, want: 3},
		"unless they are moved":      {tasks: []int{0, 0, 0, 0}, blocks: 3, withBlocks: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newActivity(func() *driver.REST { return nil })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				told := time.Now()
				go func() { done <- a.idle(ctx, "1", told, tc.withBlocks) }()
				for i, n := range tc.tasks {
					time.Sleep(200 * time.Millisecond)
					tasks := map[string]int{"1": n, "2": 7}
					if n == gone {
						delete(tasks, "1")
					}
					a.publish(tasks, tc.blocks)
					synctest.Wait()
					select {
					case err := <-done:
						if err != nil || i+1 != tc.want {
							t.Errorf("idle after reading %d, %v; want %d", i+1, err, tc.want)
						}
						return
					default:
					}
				}
				if tc.want != 0 {
					t.Errorf("not idle after %d readings", len(tc.tasks))
				}
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestReadingsAreTakenOnDemand: nobody asks a driver that nobody wants to know from.
func TestReadingsAreTakenOnDemand(t *testing.T) {
	a := newActivity(func() *driver.REST { return nil })
	if !a.isWanted() {
		t.Error("the first reading is not wanted")
	}
	a.publish(nil, 0)
	if a.isWanted() {
		t.Error("a second one is wanted by nobody")
	}
	one, two := a.want(), a.want()
	one()
	if !a.isWanted() {
		t.Error("not wanted although one is waiting")
	}
	two()
	if a.isWanted() {
		t.Error("wanted although nobody waits")
	}
}
