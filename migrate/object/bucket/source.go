package bucket

import (
	"io"
)

// BodyError says that a body could not be read as it was described.
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

// Hash lets a hash see length bytes from offset on, as many at a time as buf holds.
func (s *Source) Hash(h io.Writer, offset, length int64, buf []byte) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{s.Section(offset, length)}, buf)
	return s.Explain(err)
}
