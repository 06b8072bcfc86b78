package java

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrUnexpected is wrapped by errors about a stream that is valid but not the answer that was asked for.
var ErrUnexpected = errors.New("unexpected object")

// Failure is an answer that says that the asked one failed: an exception object, or one within
// o.a.s.rpc.netty.RpcFailure, which is how a Spark endpoint answers with a failure.
type Failure struct {
	Class   string // Java name of the exception, as "org.apache.spark.SparkException"
	Message string
}

func (f *Failure) Error() string {
	if f.Message == "" {
		return f.Class
	}
	return f.Class + ": " + f.Message
}

// maxMessage caps a Failure's message in bytes: it ends in logs.
const maxMessage = 4 << 10

const (
	classRPCFailure = "org.apache.spark.rpc.netty.RpcFailure"
	classThrowable  = "java.lang.Throwable"
)

// DecodeBoolean reads an answer that is a java.lang.Boolean.
//
// Errors of all decoders: *Failure when the asked one answered with an exception, else one that wraps
// ErrMalformed, ErrTooLarge or ErrUnexpected.
func DecodeBoolean(data []byte) (bool, error) {
	v, err := decode(data)
	if err != nil {
		return false, err
	}
	o, ok := v.(*object)
	if ok && o.class.name == "java.lang.Boolean" {
		if b, found := o.field("value"); found {
			if b, ok := b.(bool); ok {
				return b, nil
			}
		}
	}
	return false, unexpected(v, "a Boolean")
}

// DecodePeers reads the answer to GetPeers: a Scala Seq, of whatever class, of BlockManagerId. The
// driver's own block manager is never among them.
func DecodePeers(data []byte) ([]BlockManagerID, error) {
	v, err := decode(data)
	if err != nil {
		return nil, err
	}
	if !isCollection(v) {
		return nil, unexpected(v, "a collection of block managers")
	}
	var peers []BlockManagerID
	walk(v, func(o *object) bool {
		if err != nil || o.class.name != classBlockManager {
			return err == nil
		}
		var id BlockManagerID
		if id, err = parseBlockManager(o.raw()); err == nil {
			peers = append(peers, id)
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return peers, nil
}

// DecodeAppConfig reads the answer to RetrieveSparkAppConfig: the Spark properties of the application.
// The I/O encryption key and the delegation tokens that come with it are skipped; but the properties
// themselves may hold passwords, so they are not to be logged or stored as a whole, and the caller
// should clear data.
func DecodeAppConfig(data []byte) (map[string]string, error) {
	v, err := decode(data)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*object)
	if !ok || !strings.HasSuffix(o.class.name, "$SparkAppConfig") {
		return nil, unexpected(v, "a SparkAppConfig")
	}
	list, _ := o.field("sparkProperties")
	if !isCollection(list) {
		return nil, unexpected(list, "a collection of properties")
	}
	properties := map[string]string{}
	walk(list, func(o *object) bool {
		if o.class.name != classTuple2 {
			return true
		}
		key, value := text(o, "_1"), text(o, "_2")
		if key != nil && value != nil {
			properties[*key] = *value
		}
		return false
	})
	return properties, nil
}

// decode parses an answer and finds the failure that may stand in its place.
func decode(data []byte) (value, error) {
	v, err := parse(data)
	if err != nil {
		return nil, err
	}
	if f, ok := asFailure(v); ok {
		return nil, f
	}
	return v, nil
}

// asFailure recognizes exceptions and RpcFailure.
func asFailure(v value) (*Failure, bool) {
	o, ok := v.(*object)
	if !ok {
		return nil, false
	}
	if o.class.name == classRPCFailure {
		e, _ := o.field("e")
		if inner, ok := e.(*object); ok && isThrowable(inner) {
			return newFailure(inner), true
		}
		return &Failure{Class: classRPCFailure}, true
	}
	if !isThrowable(o) {
		return nil, false
	}
	return newFailure(o), true
}

func isThrowable(o *object) bool {
	for c, n := o.class, 0; c != nil && n < maxDepth; c, n = c.super, n+1 {
		if c.name == classThrowable {
			return true
		}
	}
	return false
}

func newFailure(o *object) *Failure {
	f := &Failure{Class: o.class.name}
	if m := text(o, "detailMessage"); m != nil {
		f.Message = (*m)[:min(len(*m), maxMessage)]
	}
	return f
}

// text is a string field; nil when it is none.
func text(o *object, name string) *string {
	v, _ := o.field(name)
	s, ok := v.(string)
	if !ok {
		return nil
	}
	return &s
}

// isCollection accepts every Scala collection: which one a driver answers with depends on the version,
// and the elements look the same in all.
func isCollection(v value) bool {
	o, ok := v.(*object)
	if !ok {
		return false
	}
	if o.class.name == classModuleProxy { // an empty one that is a module, as Nil
		m, _ := o.field("moduleClass")
		c, ok := m.(*class)
		return ok && strings.HasPrefix(c.name, "scala.collection.")
	}
	return strings.HasPrefix(o.class.name, "scala.collection.")
}

// walk visits every object below v once, in the order of the stream. visit says whether to look
// further inside.
func walk(v value, visit func(*object) bool) {
	seen := map[any]bool{}
	todo := []value{v}
	push := func(vs []value) {
		for i := len(vs) - 1; i >= 0; i-- {
			todo = append(todo, vs[i])
		}
	}
	for len(todo) > 0 {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch v := v.(type) {
		case *array:
			if !seen[v] {
				seen[v] = true
				push(v.elements)
			}
		case *object:
			if seen[v] {
				continue
			}
			seen[v] = true
			if visit(v) {
				push(v.data)
				push(v.values())
			}
		}
	}
}

// values are the field values without their names.
func (o *object) values() []value {
	out := make([]value, len(o.fields))
	for i, m := range o.fields {
		out[i] = m.value
	}
	return out
}

// parseBlockManager reads what BlockManagerId.writeExternal wrote: UTF executor, UTF host, int port,
// boolean "has topology" and, if so, UTF topology.
func parseBlockManager(raw []byte) (BlockManagerID, error) {
	var id BlockManagerID
	var ok bool
	if id.Executor, raw, ok = cutUTF(raw); !ok {
		return BlockManagerID{}, shortID()
	}
	if id.Host, raw, ok = cutUTF(raw); !ok || len(raw) < 5 {
		return BlockManagerID{}, shortID()
	}
	port := binary.BigEndian.Uint32(raw)
	if port == 0 || port > 0xFFFF {
		return BlockManagerID{}, fmt.Errorf("%w: block manager with port %d", ErrMalformed, port)
	}
	id.Port = int(port)
	if raw[4] != 0 {
		if _, _, ok = cutUTF(raw[5:]); !ok {
			return BlockManagerID{}, shortID()
		}
	}
	return id, nil
}

func shortID() error { return fmt.Errorf("%w: truncated BlockManagerId", ErrMalformed) }

// cutUTF takes what DataOutput.writeUTF wrote off the front.
func cutUTF(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return "", nil, false
	}
	s, ok = decodeUTF8(b[2 : 2+n])
	return s, b[2+n:], ok
}

func unexpected(v value, want string) error {
	return fmt.Errorf("%w: %s instead of %s", ErrUnexpected, nameOf(v), want)
}

// nameOf says what a value is, never what it holds.
func nameOf(v value) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case *object:
		return v.class.name
	case *array:
		return v.class.name
	case *enum:
		return v.class.name
	case *class:
		return "class " + v.name
	default:
		return fmt.Sprintf("%T", v)
	}
}
