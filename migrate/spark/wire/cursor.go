package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// cursor reads the fields of a message; the first bad one makes all later reads fail, so that a
// decoder has to look at the error only once.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
	}
	c.rest = nil
}

// take returns the next n bytes, not copied; nil after an error.
func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.fail("%d bytes wanted, %d left", n, len(c.rest))
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) int32() int {
	if b := c.take(4); b != nil {
		return int(int32(binary.BigEndian.Uint32(b)))
	}
	return 0
}

func (c *cursor) int64() int64 {
	if b := c.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// bytes reads an int32 length and so many bytes (Encoders.ByteArrays, Encoders.Strings).
func (c *cursor) bytes() []byte { return c.take(c.int32()) }

func (c *cursor) string() string { return string(c.bytes()) }

// utf reads a uint16 length and so many bytes (java.io.DataOutputStream.writeUTF; names and hosts
// are plain ASCII, where modified UTF-8 is the same).
func (c *cursor) utf() string {
	b := c.take(2)
	if b == nil {
		return ""
	}
	return string(c.take(int(binary.BigEndian.Uint16(b))))
}

// count reads the length of an array whose items have at least 4 bytes each: no honest array is
// longer than what is left of the message.
func (c *cursor) count() int {
	n := c.int32()
	if n < 0 || n > len(c.rest)/4 {
		c.fail("array of %d items in %d bytes", n, len(c.rest))
		return 0
	}
	return n
}

func (c *cursor) strings() []string { return array(c, c.string) }

func (c *cursor) ints() []int { return array(c, c.int32) }

// array reads a counted array of what next reads.
func array[T any](c *cursor, next func() T) []T {
	items := make([]T, c.count())
	for i := range items {
		items[i] = next()
	}
	return items
}

// end checks that nothing is left and returns the first error.
func (c *cursor) end() error {
	if len(c.rest) > 0 {
		c.fail("%d bytes too many", len(c.rest))
	}
	return c.err
}

func appendInt32(dst []byte, n int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(n)) }

func appendInt64(dst []byte, n int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(n)) }

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(appendInt32(dst, len(b)), b...)
}

func appendStrings(dst []byte, items []string) []byte {
	dst = appendInt32(dst, len(items))
	for _, s := range items {
		dst = appendBytes(dst, s)
	}
	return dst
}

func appendUTF(dst []byte, s string) []byte {
	s = s[:min(len(s), math.MaxUint16)]
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}
