// Package gentle reads map outputs without getting in the way of the job that wrote them: at the lowest priority for
// the disk. A mirror, which has all the time there is, reads through it; a rescue, which has none, does not.
package gentle

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

// From ioprio_set(2): a thread of the idle class gets the disk only when nobody else asks for it. It works where the
// device's scheduler knows of priorities (bfq, mq-deadline); with the scheduler "none" the device decides.
const (
	whoProcess = 1 // IOPRIO_WHO_PROCESS: a thread; 0 is the caller's own
	classIdle  = 3 // IOPRIO_CLASS_IDLE
	classShift = 13
)

// Readers are a few threads that read at idle priority.
type Readers struct {
	work   chan *request
	closed chan struct{}
	all    sync.WaitGroup
	once   sync.Once
}

type request struct {
	blob migrate.Blob
	p    []byte
	off  int64
	n    int
	err  error
	done chan struct{}
}

// NewReaders starts so many threads. The error says that the kernel refused the priority: the readers work then, at
// the usual one.
func NewReaders(threads int) (*Readers, error) {
	r := &Readers{work: make(chan *request), closed: make(chan struct{})}
	started := make(chan error, threads)
	for range threads {
		r.all.Go(func() { r.thread(started) })
	}
	var err error
	for range threads {
		if e := <-started; e != nil {
			err = e
		}
	}
	return r, err
}

// thread serves requests. It ends without giving its thread back, so that the priority goes with it.
func (r *Readers) thread(started chan<- error) {
	runtime.LockOSThread()
	_, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle<<classShift)
	if errno != 0 {
		started <- fmt.Errorf("idle I/O priority: %w", errno)
	} else {
		started <- nil
	}
	for {
		select {
		case q := <-r.work:
			q.n, q.err = q.blob.ReadAt(q.p, q.off)
			close(q.done)
		case <-r.closed:
			return
		}
	}
}

// Close ends the threads when they have done what they are at. Later reads fail.
func (r *Readers) Close() {
	r.once.Do(func() { close(r.closed) })
	r.all.Wait()
}

// Output is the same output, read by these threads.
func (r *Readers) Output(out *migrate.Output) *migrate.Output {
	gentle := *out
	gentle.Index = blob{out.Index, r}
	if out.Data != nil {
		gentle.Data = blob{out.Data, r}
	}
	return &gentle
}

// blob hides that the file could be sent past the readers: sendfile(2) would read at the sender's priority.
type blob struct {
	of      migrate.Blob
	readers *Readers
}

func (b blob) Size() int64 { return b.of.Size() }

func (b blob) ReadAt(p []byte, off int64) (int, error) {
	q := &request{blob: b.of, p: p, off: off, done: make(chan struct{})}
	select {
	case b.readers.work <- q:
	case <-b.readers.closed:
		return 0, fmt.Errorf("read at idle priority: %w", os.ErrClosed)
	}
	<-q.done
	return q.n, q.err
}
