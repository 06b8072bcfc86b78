// Package executor finds the Spark processes of this node from outside the JVM: executors and
// standalone workers, with what a rescue must know of them (application, local directories,
// versions, start time). It is the first step of a rescue: everything later, from pinning files to
// ending the executor, refers to what was found here.
package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Cluster managers, as Executor.Manager names them.
const (
	Standalone = "standalone"
	Kubernetes = "kubernetes"
	YARN       = "yarn"
)

// ErrGone says that a process has ended, or that its id now belongs to another process.
var ErrGone = errors.New("the process has gone")

// Executor is one live executor process on this node.
type Executor struct {
	App       string // --app-id
	ID        string // --executor-id
	Host      string // --hostname, as the driver knows it
	DriverURL string // --driver-url, as spark://CoarseGrainedScheduler@host:port
	// ResourceProfile is --resourceProfileId; 0 is Spark's default profile.
	ResourceProfile int
	PID             int
	Start           uint64   // clock ticks since boot: with PID the identity of the process
	LocalDirs       []string // as the process sees them: below its own root, in Spark's order
	Spark, Scala    string   // versions from the jar's name, vendor suffix kept; "" unknown
	Manager         string
	// HandlesPWR is true when the JVM has a handler for SIGPWR (Spark installs it when
	// spark.decommission.enabled is set). Without one the signal kills.
	HandlesPWR bool
}

// Worker is one live standalone worker process on this node.
type Worker struct {
	PID        int
	Start      uint64 // as in Executor
	Host       string // "" when it was left to Spark to choose
	LocalDirs  []string
	HandlesPWR bool
}

// Found is what one scan of the node saw.
type Found struct {
	Executors []Executor
	Workers   []Worker
}

// AccessError says that a Spark process was seen but that the agent may not look at it, or signal it.
type AccessError struct {
	PID  int
	What string // what was attempted, as "read its environment"
	Need string // what would allow it
	Err  error
}

func (e *AccessError) Error() string {
	return fmt.Sprintf("process %d: %s: %v: the agent needs %s, or to run as Spark's user and group", e.PID, e.What, e.Err, e.Need)
}

func (e *AccessError) Unwrap() error { return e.Err }

// Finder looks for Spark processes in a proc file system. Its methods start from nothing each time;
// who looks again and again takes a Scanner.
type Finder struct {
	Proc string // where proc is mounted; "" is /proc
	// Addresses are the node's host names and IP addresses; executors that were told another
	// --hostname belong to another node and are left out. Empty: every executor seen.
	Addresses []string
}

// Executors lists the executors of this node, in the order of their process ids. An error may come
// together with a result: then something was seen that could not be read.
func (f Finder) Executors(ctx context.Context) ([]Executor, error) {
	found, err := NewScanner(f).Scan(ctx)
	return found.Executors, err
}

// Workers lists the standalone workers of this node. Errors are as for Executors.
func (f Finder) Workers(ctx context.Context) ([]Worker, error) {
	found, err := NewScanner(f).Scan(ctx)
	return found.Workers, err
}

func (f Finder) proc() string {
	if f.Proc == "" {
		return "/proc"
	}
	return f.Proc
}

// gone tells the errors of a process that ended while it was looked at from those of one that can't
// be read.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, ErrGone)
}
