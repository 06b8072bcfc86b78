package wire

import "strings"

// RPCRequest is a remote procedure call (org.apache.spark.network.protocol.RpcRequest).
type RPCRequest struct {
	ID   int64
	Body []byte
}

// Append encodes the whole frame.
func (m RPCRequest) Append(dst []byte) []byte {
	return appendRPC(dst, TypeRPCRequest, m.ID, m.Body)
}

// Decode reads the message of a frame. Body shares memory with it.
func (m *RPCRequest) Decode(message []byte) (err error) {
	m.ID, m.Body, err = decodeRPC(message)
	return err
}

// RPCResponse is the answer to a call, or to an upload that was stored
// (org.apache.spark.network.protocol.RpcResponse).
type RPCResponse struct {
	ID   int64
	Body []byte
}

// Append encodes the whole frame.
func (m RPCResponse) Append(dst []byte) []byte {
	return appendRPC(dst, TypeRPCResponse, m.ID, m.Body)
}

// Decode reads the message of a frame. Body shares memory with it.
func (m *RPCResponse) Decode(message []byte) (err error) {
	m.ID, m.Body, err = decodeRPC(message)
	return err
}

// RPCFailure says that a call or an upload failed over there: the Java exception with its stack trace
// (org.apache.spark.network.protocol.RpcFailure).
type RPCFailure struct {
	ID   int64
	Text string
}

// maxFailureText is what is kept of a failure's text in bytes: enough for the traces of the exception and
// its causes, where the reason often stands last.
const maxFailureText = 32 << 10

// Append encodes the whole frame.
func (m RPCFailure) Append(dst []byte) []byte {
	return appendRPC(dst, TypeRPCFailure, m.ID, m.Text)
}

// Decode reads the message of a frame. A text of more than 32 KiB is cut.
func (m *RPCFailure) Decode(message []byte) error {
	id, text, err := decodeRPC(message)
	m.ID = id
	m.Text = strings.ToValidUTF8(string(text[:min(len(text), maxFailureText)]), "\uFFFD")
	return err
}

func appendRPC[T string | []byte](dst []byte, t FrameType, id int64, body T) []byte {
	return append(appendRPCHead(dst, t, id, len(body)), body...)
}

// appendRPCHead is a frame up to its body of n bytes.
func appendRPCHead(dst []byte, t FrameType, id int64, n int) []byte {
	return appendInt32(appendInt64(appendFrameHead(dst, t, 8+4+n), id), n)
}

// decodeRPC reads what requests, responses and failures have in common: an id, then a counted body
// that fills the rest of the frame.
func decodeRPC(message []byte) (int64, []byte, error) {
	c := cursor{rest: message}
	id := c.int64()
	body := c.bytes()
	return id, body, c.end()
}
