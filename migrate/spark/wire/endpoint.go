package wire

// EndpointMessage encodes the body of an RPC to a named endpoint of a process with an RPC port, as the
// driver has (org.apache.spark.rpc.netty.RequestMessage): no sender address, the receiver's own address
// as it knows it, the endpoint's name, and the Java-serialized message.
func EndpointMessage(host string, port int, endpoint string, payload []byte) []byte {
	m := make([]byte, 0, 1+1+2+len(host)+4+2+len(endpoint)+len(payload))
	m = append(m, 0, 1)
	m = appendInt32(appendUTF(m, host), port)
	return append(appendUTF(m, endpoint), payload...)
}

// Endpoint is a decoded EndpointMessage.
type Endpoint struct {
	Host    string
	Port    int
	Name    string
	Payload []byte
}

// DecodeEndpointMessage is the receiving side of EndpointMessage. It knows only messages without a
// sender address. Payload shares memory with message.
func DecodeEndpointMessage(message []byte) (Endpoint, error) {
	c := cursor{rest: message}
	if c.byte() != 0 {
		c.fail("a sender address")
	}
	if c.byte() != 1 && c.err == nil {
		c.fail("no receiver address")
	}
	e := Endpoint{Host: c.utf(), Port: c.int32(), Name: c.utf()}
	e.Payload = c.rest
	return e, c.err
}
