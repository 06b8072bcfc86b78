// Package migratetest holds what tests of destinations and of the copy engine share: the suite that every
// migrate.Destination has to pass, a destination in memory that fails by script, and outputs made up by
// a seed. Nothing of it runs in a rescue.
package migratetest

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
)

// Bytes is a Blob in memory.
type Bytes []byte

// Size is the length.
func (b Bytes) Size() int64 { return int64(len(b)) }

// ReadAt is io.ReaderAt's.
func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Hollow is a Blob of so many zero bytes, for sizes that no test wants to hold in memory.
type Hollow int64

// Size is the value.
func (h Hollow) Size() int64 { return int64(h) }

// ReadAt is io.ReaderAt's.
func (h Hollow) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(int64(h)-off, 0)))
	clear(p[:n])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ErrUnreadable is what a Broken blob fails with.
var ErrUnreadable = errors.New("made unreadable by the test")

// Broken is a Blob that can be read only up to an offset: after that a read fails with Err, or with
// io.EOF when Err is nil, as if the file had been cut off.
type Broken struct {
	migrate.Blob
	From int64
	Err  error
}

// ReadAt is io.ReaderAt's.
func (b Broken) ReadAt(p []byte, off int64) (int, error) {
	fail := b.Err
	if fail == nil {
		fail = io.EOF
	}
	if off >= b.From {
		return 0, fail
	}
	whole := len(p)
	p = p[:min(int64(whole), b.From-off)]
	n, err := b.Blob.ReadAt(p, off)
	if n < whole && (err == nil || errors.Is(err, io.EOF)) {
		err = fail
	}
	return n, err
}

// Output makes up a map output with size bytes of data that depend on the id, divided into a few
// partitions by a valid index. A size of 0 gives what Spark leaves for a task without records: no data.
func Output(app string, shuffle int, mapID int64, size int) *migrate.Output {
	const partitions = 4
	out := &migrate.Output{
		ID:        migrate.OutputID{App: app, Shuffle: shuffle, Map: mapID},
		Executor:  "1",
		Committed: time.Unix(1_700_000_000, 0),
	}
	index := make([]byte, 0, 8*(partitions+1)) // Spark's IndexShuffleBlockResolver: partitions+1 offsets, big-endian
	for i := range partitions + 1 {
		index = binary.BigEndian.AppendUint64(index, uint64(size*i/partitions))
	}
	out.Index = Bytes(index)
	if size > 0 {
		out.Data = pattern(uint64(shuffle)<<40^uint64(mapID), size)
	}
	return out
}

// HollowOutput is an output of so many bytes altogether that holds none of them.
func HollowOutput(mapID, size int64) *migrate.Output {
	return &migrate.Output{
		ID: migrate.OutputID{App: "app", Map: mapID}, Executor: "1", Index: Hollow(size), Committed: time.Unix(1_700_000_000, 0),
	}
}

// pattern is cheap and does not repeat within any block size, so that swapped chunks show.
func pattern(seed uint64, size int) Bytes {
	b := make([]byte, size)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return b
}
