package java

import "encoding/binary"

// Type codes and class flags of a Java object stream (java.io.ObjectStreamConstants).
const (
	streamMagic   = 0xACED
	streamVersion = 5
	firstHandle   = 0x7E0000

	tcNull           = 0x70
	tcReference      = 0x71
	tcClassDesc      = 0x72
	tcObject         = 0x73
	tcString         = 0x74
	tcArray          = 0x75
	tcClass          = 0x76
	tcBlockData      = 0x77
	tcEndBlockData   = 0x78
	tcReset          = 0x79
	tcBlockDataLong  = 0x7A
	tcException      = 0x7B
	tcLongString     = 0x7C
	tcProxyClassDesc = 0x7D
	tcEnum           = 0x7E

	flagWriteMethod    = 0x01
	flagSerializable   = 0x02
	flagExternalizable = 0x04
	flagBlockData      = 0x08
)

// javaBlock is the size of ObjectOutputStream's block data buffer: it never writes a longer block.
const javaBlock = 1024

// classDesc describes a class as it goes into a stream.
type classDesc struct {
	name   string
	uid    int64
	flags  byte
	fields []field
	super  *classDesc
}

// field is one serialized field; class is the JVM signature for code 'L' and '['.
type field struct {
	code  byte
	name  string
	class string
}

// writer builds one object stream. It numbers the handles as ObjectOutputStream does, so that what
// it writes is the same byte for byte.
type writer struct {
	buf     []byte
	next    uint32            // handles assigned so far
	classes map[string]uint32 // class descriptors by name
	types   map[string]uint32 // type strings by value: the JVM interns them
}

func newWriter() *writer {
	w := &writer{classes: map[string]uint32{}, types: map[string]uint32{}}
	w.u16(streamMagic)
	w.u16(streamVersion)
	return w
}

func (w *writer) u8(v byte)    { w.buf = append(w.buf, v) }
func (w *writer) u16(v uint16) { w.buf = binary.BigEndian.AppendUint16(w.buf, v) }
func (w *writer) u32(v uint32) { w.buf = binary.BigEndian.AppendUint32(w.buf, v) }
func (w *writer) u64(v uint64) { w.buf = binary.BigEndian.AppendUint64(w.buf, v) }
func (w *writer) null()        { w.u8(tcNull) }

func (w *writer) handle() uint32 {
	w.next++
	return firstHandle + w.next - 1
}

func (w *writer) reference(handle uint32) {
	w.u8(tcReference)
	w.u32(handle)
}

// object starts an object: its class, after which the caller writes the field values.
func (w *writer) object(d *classDesc) {
	w.u8(tcObject)
	w.class(d)
	w.handle()
}

// array starts an Object[] of n elements, which the caller writes.
func (w *writer) array(n int) {
	w.u8(tcArray)
	w.class(&classDesc{name: "[Ljava.lang.Object;", uid: -8012369246846506644, flags: flagSerializable})
	w.handle()
	w.u32(uint32(n))
}

func (w *writer) class(d *classDesc) {
	if d == nil {
		w.null()
		return
	}
	if h, ok := w.classes[d.name]; ok {
		w.reference(h)
		return
	}
	w.u8(tcClassDesc)
	w.utf(d.name)
	w.u64(uint64(d.uid))
	w.classes[d.name] = w.handle()
	w.u8(d.flags)
	w.u16(uint16(len(d.fields)))
	for _, f := range d.fields {
		w.u8(f.code)
		w.utf(f.name)
		if f.code == 'L' || f.code == '[' {
			w.typeString(f.class)
		}
	}
	w.u8(tcEndBlockData)
	w.class(d.super)
}

func (w *writer) typeString(s string) {
	if h, ok := w.types[s]; ok {
		w.reference(h)
		return
	}
	w.types[s] = w.string(s)
}

// string writes a String object.
func (w *writer) string(s string) uint32 {
	b := modifiedUTF8(s)
	if len(b) > 0xFFFF {
		w.u8(tcLongString)
		h := w.handle()
		w.u64(uint64(len(b)))
		w.buf = append(w.buf, b...)
		return h
	}
	w.u8(tcString)
	h := w.handle()
	w.u16(uint16(len(b)))
	w.buf = append(w.buf, b...)
	return h
}

func (w *writer) utf(s string) { w.buf = appendUTF(w.buf, s) }

// external writes an Externalizable object: its bytes in blocks, then the end mark.
func (w *writer) external(d *classDesc, content []byte) {
	w.object(d)
	for len(content) > 0 {
		n := min(len(content), javaBlock)
		if n <= 0xFF {
			w.u8(tcBlockData)
			w.u8(byte(n))
		} else {
			w.u8(tcBlockDataLong)
			w.u32(uint32(n))
		}
		w.buf = append(w.buf, content[:n]...)
		content = content[n:]
	}
	w.u8(tcEndBlockData)
}
