// Package migrate decides which map output goes where before the deadline, and copies it: the
// domain types of a rescue (Output, Destination), the plan and the copy engine. It stands between
// the agent, which says when, and the packages below it, which know Spark and storage.
package migrate

import (
	"context"
	"fmt"
)

// Target says where a destination is, for the host-name rule (a running map stage keeps a moved
// output only when it lies on another host name) and for the report.
type Target struct {
	Executor string // executor id; "" for object storage
	Host     string // the executor's host as Spark knows it
	Port     int    // the block manager's port
	URL      string // object storage only
}

// String is the form used in logs and reports.
func (t Target) String() string {
	if t.URL != "" {
		return t.URL
	}
	return fmt.Sprintf("executor %s (%s:%d)", t.Executor, t.Host, t.Port)
}

// Location is where a map output was stored.
type Location struct {
	Target Target
	// Announced is true when Spark already knows: an executor that receives an index block tells the driver.
	Announced bool
}

// Located is a map output with the place where it lies.
type Located struct {
	Output *Output
	At     Location
}

// Destination is where map outputs can go: a peer executor, or object storage. All methods may be
// called by many goroutines at once.
type Destination interface {
	// Target never changes; two destinations with the same Target are the same place.
	Target() Target
	// Put stores one output: data acknowledged first, then the index, or nothing that Spark could
	// read. It is safe to repeat. Errors are classified (see Kind). It returns at once when ctx ends: the
	// engine waits for it after the deadline, because nothing may be in flight once a rescue is over.
	Put(ctx context.Context, out *Output) (Location, error)
}

// Announcer tells Spark (again) where outputs lie that were stored before. A destination that can is
// asked once more for outputs that were committed just before they were copied: the driver drops an
// update for a map output that it has not registered yet.
type Announcer interface {
	Announce(ctx context.Context, at []Located) error
}
