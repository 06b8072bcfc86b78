package java

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Caps on what one stream may ask for. The largest answer, the properties of an application, has some
// thousand objects; GetPeers has one per executor.
const (
	maxStream  = 16 << 20 // bytes
	maxHandles = 1 << 18  // objects, strings and classes that can be referred to
	maxValues  = 1 << 20  // field values, array elements and annotations
	maxDepth   = 200      // objects within objects, superclasses above a class
)

// ErrMalformed is wrapped by errors about bytes that are no valid object stream.
var ErrMalformed = errors.New("malformed Java object stream")

// ErrTooLarge is wrapped by errors about a stream that is longer, deeper or richer in objects than
// any answer of Spark's can be.
var ErrTooLarge = errors.New("Java object stream exceeds a limit")

// value is one parsed thing: nil, bool, int64 (byte, short, int, long, char), float64 (float,
// double), string, *object, *array, *enum, *class, or blockData within annotations.
type value any

// blockData is raw bytes that a class wrote by itself.
type blockData []byte

// class is a class descriptor.
type class struct {
	name   string
	uid    int64
	flags  byte
	fields []field
	super  *class
}

// object is an instance: the field values of all its classes, the superclass first, and what the
// classes wrote by themselves.
type object struct {
	class  *class
	fields []member
	data   []value // annotations (writeObject, writeExternal), in the order of the stream
}

type member struct {
	name  string
	value value
}

// array is an array of objects. The content of primitive arrays is skipped, not kept: the only ones
// that Spark sends are keys and credentials.
type array struct {
	class    *class
	elements []value
}

type enum struct {
	class *class
	name  string
}

// field finds a field by name; the most derived class wins.
func (o *object) field(name string) (value, bool) {
	for i := len(o.fields) - 1; i >= 0; i-- {
		if o.fields[i].name == name {
			return o.fields[i].value, true
		}
	}
	return nil, false
}

// raw is the block data among the annotations, joined.
func (o *object) raw() []byte {
	var out []byte
	for _, v := range o.data {
		if b, ok := v.(blockData); ok {
			out = append(out, b...)
		}
	}
	return out
}

// parser reads one object stream. Its methods panic with failure, which parse turns into an error:
// the grammar is deeply recursive, and a decoder without error plumbing is easier to check.
type parser struct {
	data    []byte
	pos     int
	depth   int
	values  int // read so far
	objects int // handles given so far, also those that a reset has taken back
	handles []value
}

type failure struct{ err error }

// parse reads the first object of a stream. What follows it is ignored, as readObject does.
func parse(data []byte) (v value, err error) {
	if len(data) > maxStream {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(failure)
			if !ok {
				panic(r)
			}
			v, err = nil, f.err
		}
	}()
	p := &parser{data: data}
	if p.u16() != streamMagic || p.u16() != streamVersion {
		p.fail("no stream header")
	}
	return p.content(), nil
}

func (p *parser) fail(format string, args ...any) {
	panic(failure{fmt.Errorf("%w: %s at byte %d", ErrMalformed, fmt.Sprintf(format, args...), p.pos)})
}

func (p *parser) tooLarge(what string) {
	panic(failure{fmt.Errorf("%w: %s at byte %d", ErrTooLarge, what, p.pos)})
}

// take returns the next n bytes of the input itself, not a copy.
func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.data)-p.pos) {
		p.fail("%d bytes announced, %d left", n, len(p.data)-p.pos)
	}
	b := p.data[p.pos : p.pos+int(n)]
	p.pos += int(n)
	return b
}

func (p *parser) u8() byte    { return p.take(1)[0] }
func (p *parser) u16() uint16 { return binary.BigEndian.Uint16(p.take(2)) }
func (p *parser) u32() uint32 { return binary.BigEndian.Uint32(p.take(4)) }
func (p *parser) u64() uint64 { return binary.BigEndian.Uint64(p.take(8)) }

func (p *parser) utf() string { return p.text(uint64(p.u16())) }

func (p *parser) text(n uint64) string {
	s, ok := decodeUTF8(p.take(n))
	if !ok {
		p.fail("bad string")
	}
	return s
}

// assign gives v the next handle.
func (p *parser) assign(v value) {
	if p.objects++; p.objects > maxHandles {
		p.tooLarge("number of objects")
	}
	p.handles = append(p.handles, v)
}

func (p *parser) reference() value {
	h := p.u32()
	if h < firstHandle || uint64(h-firstHandle) >= uint64(len(p.handles)) {
		p.fail("unknown handle %#x", h)
	}
	return p.handles[h-firstHandle]
}

// count counts one value: an object of many one-byte fields takes far more room here than in a stream.
func (p *parser) count() {
	if p.values++; p.values > maxValues {
		p.tooLarge("number of values")
	}
}

// enter counts the nesting; the caller defers leave.
func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.tooLarge("depth")
	}
}

func (p *parser) leave() { p.depth-- }

// content reads one object, whatever it is.
func (p *parser) content() value {
	p.enter()
	defer p.leave()
	for {
		switch code := p.u8(); code {
		case tcReset:
			p.handles = p.handles[:0]
		case tcException:
			p.exception()
		default:
			return p.object(code)
		}
	}
}

func (p *parser) object(code byte) value {
	switch code {
	case tcNull:
		return nil
	case tcReference:
		return p.reference()
	case tcObject:
		return p.instance()
	case tcString:
		v := p.utf()
		p.assign(v)
		return v
	case tcLongString:
		v := p.text(p.u64())
		p.assign(v)
		return v
	case tcArray:
		return p.array()
	case tcClass:
		c := p.classDesc()
		p.assign(c)
		return c
	case tcClassDesc, tcProxyClassDesc:
		return p.newClass(code)
	case tcEnum:
		return p.enum()
	default:
		p.fail("unexpected type code %#x", code)
		return nil
	}
}

// exception reads the Throwable that stopped the writer in the middle, and fails with it.
func (p *parser) exception() {
	p.handles = p.handles[:0]
	v := p.content()
	f, ok := asFailure(v)
	if !ok {
		p.fail("TC_EXCEPTION without a Throwable")
	}
	panic(failure{f})
}

// classDesc reads a class descriptor where only one of those may stand; nil for null.
func (p *parser) classDesc() *class {
	p.enter()
	defer p.leave()
	switch code := p.u8(); code {
	case tcNull:
		return nil
	case tcReference:
		c, ok := p.reference().(*class)
		if !ok {
			p.fail("reference to no class")
		}
		return c
	case tcClassDesc, tcProxyClassDesc:
		return p.newClass(code)
	default:
		p.fail("type code %#x instead of a class", code)
		return nil
	}
}

// needClass is classDesc for the places where null makes no sense.
func (p *parser) needClass() *class {
	c := p.classDesc()
	if c == nil {
		p.fail("no class")
	}
	return c
}

func (p *parser) newClass(code byte) *class {
	c := &class{}
	if code == tcProxyClassDesc {
		p.assign(c)
		c.flags = flagSerializable
		c.name = p.interfaces()
	} else {
		c.name = p.utf()
		c.uid = int64(p.u64())
		p.assign(c)
		c.flags = p.u8()
		c.fields = p.fields()
	}
	p.annotations()
	c.super = p.classDesc()
	return c
}

// interfaces reads the interface names of a dynamic proxy, joined to a name for it.
func (p *parser) interfaces() string {
	n := p.u32()
	if uint64(n)*2 > uint64(len(p.data)-p.pos) {
		p.fail("%d interfaces", n)
	}
	names := make([]string, n)
	for i := range names {
		names[i] = p.utf()
	}
	return "proxy(" + strings.Join(names, ",") + ")"
}

func (p *parser) fields() []field {
	n := int(p.u16())
	if n*3 > len(p.data)-p.pos {
		p.fail("%d fields", n)
	}
	fields := make([]field, n)
	for i := range fields {
		fields[i].code = p.u8()
		fields[i].name = p.utf()
		if fields[i].code == 'L' || fields[i].code == '[' {
			s, ok := p.content().(string)
			if !ok {
				p.fail("field type is no string")
			}
			fields[i].class = s
		}
	}
	return fields
}

func (p *parser) instance() value {
	c := p.needClass()
	o := &object{class: c}
	p.assign(o)
	if c.flags&flagExternalizable != 0 {
		if c.flags&flagBlockData == 0 {
			p.fail("%s is externalizable without block data", c.name)
		}
		o.data = p.annotations()
		return o
	}
	for _, part := range p.lineage(c) {
		if part.flags&flagSerializable == 0 {
			continue
		}
		for _, f := range part.fields {
			o.fields = append(o.fields, member{f.name, p.fieldValue(f.code)})
		}
		if part.flags&flagWriteMethod != 0 {
			o.data = append(o.data, p.annotations()...)
		}
	}
	return o
}

// lineage is a class and its superclasses, the topmost first. Back references could chain them without
// end, or close a circle.
func (p *parser) lineage(c *class) []*class {
	var up []*class
	for ; c != nil; c = c.super {
		if up = append(up, c); len(up) > maxDepth {
			p.tooLarge("number of superclasses")
		}
	}
	slices.Reverse(up)
	return up
}

// annotations reads what a class wrote by itself, up to its end mark.
func (p *parser) annotations() []value {
	p.enter()
	defer p.leave()
	var out []value
	for {
		p.count()
		switch code := p.u8(); code {
		case tcEndBlockData:
			return out
		case tcBlockData:
			out = append(out, blockData(p.take(uint64(p.u8()))))
		case tcBlockDataLong:
			out = append(out, blockData(p.take(uint64(p.u32()))))
		case tcReset:
			p.handles = p.handles[:0]
		case tcException:
			p.exception()
		default:
			out = append(out, p.object(code))
		}
	}
}

func (p *parser) fieldValue(code byte) value {
	p.count()
	switch code {
	case 'Z':
		return p.u8() != 0
	case 'B':
		return int64(int8(p.u8()))
	case 'C':
		return int64(p.u16())
	case 'S':
		return int64(int16(p.u16()))
	case 'I':
		return int64(int32(p.u32()))
	case 'J':
		return int64(p.u64())
	case 'F':
		return float64(math.Float32frombits(p.u32()))
	case 'D':
		return math.Float64frombits(p.u64())
	case 'L', '[':
		return p.content()
	default:
		p.fail("unknown field type %q", code)
		return nil
	}
}

// sizeOf is the length in bytes of one element of a primitive array; 0 for objects.
func sizeOf(code byte) uint64 {
	switch code {
	case 'Z', 'B':
		return 1
	case 'C', 'S':
		return 2
	case 'I', 'F':
		return 4
	case 'J', 'D':
		return 8
	default:
		return 0
	}
}

func (p *parser) array() value {
	c := p.needClass()
	a := &array{class: c}
	p.assign(a)
	n := uint64(p.u32())
	if len(c.name) < 2 || c.name[0] != '[' {
		p.fail("array of class %q", c.name)
	}
	if size := sizeOf(c.name[1]); size > 0 {
		p.take(n * size)
		return a
	}
	if n > uint64(len(p.data)-p.pos) {
		p.fail("array of %d", n)
	}
	a.elements = make([]value, 0, min(n, 1024))
	for range n {
		p.count()
		a.elements = append(a.elements, p.content())
	}
	return a
}

func (p *parser) enum() value {
	e := &enum{class: p.needClass()}
	p.assign(e)
	name, ok := p.content().(string)
	if !ok {
		p.fail("enum constant without a name")
	}
	e.name = name
	return e
}
