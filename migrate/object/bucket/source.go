package bucket

import (
	"io"
	"sync"
)

// BodyError says that a body could not be read as it was described, or that a range is not within an object.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return e.Err.Error() }
func (e *BodyError) Unwrap() error { return e.Err }

// Explain is the watchdog's, except that what is wrong with the body itself is a *BodyError.
func (s *Source) Explain(err error) error {
	if failed := s.Err(); err != nil && failed != nil && s.w.parent.Err() == nil {
		return &BodyError{failed}
	}
	return s.w.Explain(err)
}

// bufferSize is up to what size a body is read only once, into memory, and how much of others is hashed at a time.
const bufferSize = 256 << 10

// Buffers are for reuse. The zero value works.
type Buffers struct{ pool sync.Pool }

// Digest lets a hash see length bytes from offset on, which for a checksum that goes ahead of the content have to be read
// twice. A few bytes it reads only once and returns; otherwise content is nil. They are not kept for reuse: a request that
// has failed may still be reading.
func (s *Source) Digest(h io.Writer, offset, length int64, b *Buffers) (content []byte, err error) {
	section := s.Section(offset, length)
	if length <= bufferSize {
		content = make([]byte, length)
		if _, err := io.ReadFull(section, content); err != nil {
			return nil, s.Explain(err)
		}
		_, err := h.Write(content)
		return content, err
	}
	buf, ok := b.pool.Get().(*[]byte)
	if !ok {
		fresh := make([]byte, bufferSize)
		buf = &fresh
	}
	defer b.pool.Put(buf)
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{section}, *buf)
	return nil, s.Explain(err)
}
