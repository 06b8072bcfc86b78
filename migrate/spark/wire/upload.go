package wire

// UploadStream announces a body that follows outside the frame
// (org.apache.spark.network.protocol.UploadStream).
type UploadStream struct {
	ID   int64
	Meta []byte // a block transfer message, as UploadBlockStream makes it
	// Length is the size of the body in bytes. The receiver hands the next Length bytes of the
	// connection to the block, whatever they are: a body can't be cut short without ending the connection.
	Length int64
}

// Append encodes the frame, without the body.
func (m UploadStream) Append(dst []byte) []byte {
	dst = appendFrameHead(dst, TypeUploadStream, 8+4+len(m.Meta)+8)
	dst = appendBytes(appendInt64(dst, m.ID), m.Meta)
	return appendInt64(dst, m.Length)
}

// Decode reads the message of a frame. Meta shares memory with it.
func (m *UploadStream) Decode(message []byte) error {
	c := cursor{rest: message}
	m.ID = c.int64()
	m.Meta = c.bytes()
	m.Length = c.int64()
	if m.Length < 0 {
		c.fail("upload of %d bytes", m.Length)
	}
	return c.end()
}
