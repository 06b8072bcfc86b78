package migrate

import (
	"fmt"
	"io"
	"time"
)

// OutputID names one map output: what one map task of one shuffle left behind.
type OutputID struct {
	App     string // application id, as in the executor's --app-id
	Shuffle int    // shuffle id
	Map     int64  // the map task's id: the taskId of the driver's REST task list since Spark 3.0
}

// String is the form used in logs, journals and reports: app/shuffle_S_M.
func (id OutputID) String() string {
	return fmt.Sprintf("%s/shuffle_%d_%d", id.App, id.Shuffle, id.Map)
}

// IndexBlock is Spark's name of the index block (ShuffleIndexBlockId; the reduce id is always 0).
func (id OutputID) IndexBlock() string {
	return fmt.Sprintf("shuffle_%d_%d_0.index", id.Shuffle, id.Map)
}

// DataBlock is Spark's name of the data block (ShuffleDataBlockId).
func (id OutputID) DataBlock() string { return fmt.Sprintf("shuffle_%d_%d_0.data", id.Shuffle, id.Map) }

// Blob is one file of a map output. Reads at different offsets may run at the same time. A Blob that
// is also a syscall.Conn (as *os.File is) can be sent without its bytes passing through the heap.
type Blob interface {
	io.ReaderAt
	// Size is the length in bytes that was verified when the output was found.
	Size() int64
}

// Output is one committed and verified map output that can be read again and again until it is closed.
type Output struct {
	ID       OutputID
	Executor string // the executor that wrote it; "" for a folder whose executor has already gone
	Index    Blob
	// Data is nil when the map task wrote no record: Spark then leaves no data file.
	Data      Blob
	Committed time.Time // when the last of its files appeared
}

// Bytes is the size of the index and the data together.
func (o *Output) Bytes() int64 {
	n := o.Index.Size()
	if o.Data != nil {
		n += o.Data.Size()
	}
	return n
}
