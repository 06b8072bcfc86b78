package shuffle

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// maxIndex caps an index file: 8 bytes for each reduce partition, and one more. Spark's own limit
	// of partitions is far above what fits, but no driver survives a million of them times the maps.
	maxIndex = 64 << 20
	// indexBuffer is how much of an index is in memory at once.
	indexBuffer = 32 << 10
)

// badIndex says why an index file is not one.
type badIndex string

func (e badIndex) Error() string { return string(e) }

// verifyIndex reads an index file (IndexShuffleBlockResolver: the offsets of all reduce partitions as
// big-endian longs, from 0 to the length of the data file) and returns its last offset. The buffer
// must hold a multiple of 8 bytes. A badIndex error judges the content, any other the reading.
func verifyIndex(r io.ReaderAt, size int64, buf []byte) (int64, error) {
	if size < 8 || size%8 != 0 {
		return 0, badIndex(fmt.Sprintf("index file has %d bytes", size))
	}
	if size > maxIndex {
		return 0, badIndex(fmt.Sprintf("index file has %d bytes, the cap is %d", size, int64(maxIndex)))
	}
	var last int64
	for at := int64(0); at < size; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), size-at)]
		if _, err := io.ReadFull(io.NewSectionReader(r, at, int64(len(part))), part); err != nil {
			return 0, err
		}
		for i := 0; i < len(part); i += 8 {
			offset := int64(binary.BigEndian.Uint64(part[i:]))
			if at == 0 && i == 0 && offset != 0 {
				return 0, badIndex("first offset of the index is not 0")
			}
			if offset < last {
				return 0, badIndex("offsets of the index go down")
			}
			last = offset
		}
	}
	return last, nil
}
