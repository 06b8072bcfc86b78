package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// FrameType says what message a frame holds (org.apache.spark.network.protocol.Message.Type).
type FrameType byte

// The frame types that a client of block managers and drivers meets.
const (
	TypeRPCRequest   FrameType = 3
	TypeRPCResponse  FrameType = 4
	TypeRPCFailure   FrameType = 5
	TypeOneWay       FrameType = 9
	TypeUploadStream FrameType = 10
)

// frameHead is the length field and the type: what every frame begins with.
const frameHead = 8 + 1

// ErrProtocol marks bytes that are not Spark's protocol, or a message over its size cap.
var ErrProtocol = errors.New("not the protocol of Spark")

// appendFrameHead begins a frame whose message (without a streamed body) has n bytes. The length
// field counts itself (MessageEncoder).
func appendFrameHead(dst []byte, t FrameType, n int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(frameHead+n))
	return append(dst, byte(t))
}

// ReadFrame reads one frame and returns its type and message. A message of more than limit bytes is
// refused with ErrProtocol before anything is allocated for it. A clean end before the first byte is
// io.EOF, any other end io.ErrUnexpectedEOF. The streamed body of an UploadStream is left unread.
func ReadFrame(r io.Reader, limit int) (FrameType, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	t := FrameType(head[8])
	n := binary.BigEndian.Uint64(head[:8])
	if n < frameHead || n-frameHead > uint64(limit) {
		return t, nil, fmt.Errorf("%w: frame of %d bytes and type %d", ErrProtocol, n, t)
	}
	message, err := readGrowing(r, int(n-frameHead))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return t, message, err
}

// readStep bounds what is allocated on the word of a length field alone.
const readStep = 64 << 10

// readGrowing reads n bytes into memory that grows with what really arrives.
func readGrowing(r io.Reader, n int) ([]byte, error) {
	buf := make([]byte, 0, min(n, readStep))
	for len(buf) < n {
		from := len(buf)
		buf = append(buf, make([]byte, min(n-from, readStep))...)
		if _, err := io.ReadFull(r, buf[from:]); err != nil {
			return nil, err
		}
	}
	return buf, nil
}
