package java

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

func stream(parts ...[]byte) []byte {
	return append([]byte{0xAC, 0xED, 0, 5}, bytes.Join(parts, nil)...)
}

func utf(s string) []byte { return appendUTF(nil, s) }

// objectArrayOf starts an Object[] of n elements.
func objectArrayOf(n uint32) []byte {
	b := append([]byte{tcArray, tcClassDesc}, utf(objectArray)...)
	b = append(b, make([]byte, 8)...)
	b = append(b, flagSerializable, 0, 0, tcEndBlockData, tcNull)
	return binary.BigEndian.AppendUint32(b, n)
}

func TestLimits(t *testing.T) {
	nested := bytes.Repeat(objectArrayOf(1), maxDepth+1)
	manyStrings := bytes.Repeat([]byte{tcString, 0, 0}, maxHandles+1)
	oneByteFields := func() []byte {
		b := append([]byte{tcObject, tcClassDesc}, utf("C")...)
		b = append(b, make([]byte, 8)...)
		b = append(b, flagSerializable, 0xFF, 0xFF)
		b = append(b, bytes.Repeat([]byte{'Z', 0, 0}, 0xFFFF)...)
		b = append(b, tcEndBlockData, tcNull)
		b = append(b, make([]byte, 0xFFFF)...)
		again := append([]byte{tcObject, tcReference, 0, 0x7E, 0, 2}, make([]byte, 0xFFFF)...)
		return append(b, bytes.Repeat(again, 20)...)
	}()
	selfSuper := append([]byte{tcObject, tcClassDesc}, utf("C")...)
	selfSuper = append(selfSuper, make([]byte, 8)...)
	selfSuper = append(selfSuper, flagSerializable, 0, 0, tcEndBlockData, tcReference, 0, 0x7E, 0, 0)

	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"too long":           {make([]byte, maxStream+1), ErrTooLarge},
		"too deep":           {stream(nested, []byte{tcNull}), ErrTooLarge},
		"too many handles":   {stream(objectArrayOf(maxHandles+1), manyStrings), ErrTooLarge},
		"too many values":    {stream(objectArrayOf(21), oneByteFields), ErrTooLarge},
		"class above itself": {stream(selfSuper), ErrTooLarge},
		"huge array":         {stream(objectArrayOf(1<<31), []byte{tcNull}), ErrMalformed},
		"unknown handle":     {stream([]byte{tcReference, 0, 0x7E, 0, 0}), ErrMalformed},
		"low handle":         {stream([]byte{tcReference, 0, 0, 0, 0}), ErrMalformed},
		"huge long string":   {stream([]byte{tcLongString, 0xFF, 0, 0, 0, 0, 0, 0, 0}), ErrMalformed},
		"bad string":         {stream([]byte{tcString, 0, 1, 0xFF}), ErrMalformed},
		"no header":          {[]byte("hello, world"), ErrMalformed},
		"empty":              {nil, ErrMalformed},
	} {
		if _, err := parse(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRareContent(t *testing.T) {
	enumDesc := append([]byte{tcClassDesc}, utf("E")...)
	enumDesc = append(enumDesc, make([]byte, 8)...)
	enumDesc = append(enumDesc, flagSerializable, 0, 0, tcEndBlockData, tcNull)
	proxy := append([]byte{tcObject, tcProxyClassDesc, 0, 0, 0, 2}, utf("A")...)
	proxy = append(append(proxy, utf("B")...), tcEndBlockData, tcNull)
	longs := append([]byte{tcArray, tcClassDesc}, utf("[J")...)
	longs = append(longs, make([]byte, 8)...)
	longs = append(longs, flagSerializable, 0, 0, tcEndBlockData, tcNull, 0, 0, 0, 2)
	longs = append(longs, make([]byte, 16)...)

	v, err := parse(stream(objectArrayOf(4),
		[]byte{tcEnum}, enumDesc, []byte{tcString}, utf("DISK"),
		proxy, longs, []byte{tcReset}, []byte{tcLongString, 0, 0, 0, 0, 0, 0, 0, 1, 'x'}))
	if err != nil {
		t.Fatal(err)
	}
	e := v.(*array).elements
	if c, ok := e[0].(*enum); !ok || c.name != "DISK" || c.class.name != "E" {
		t.Errorf("enum: %#v", e[0])
	}
	if o, ok := e[1].(*object); !ok || o.class.name != "proxy(A,B)" {
		t.Errorf("proxy: %#v", e[1])
	}
	if a, ok := e[2].(*array); !ok || a.elements != nil {
		t.Errorf("primitive array: %#v", e[2])
	}
	if e[3] != "x" {
		t.Errorf("string after reset: %#v", e[3])
	}
}

func TestBlockManagerContent(t *testing.T) {
	good := BlockManagerID{"1", "h", 7337}
	plain := good.external()
	withRack := slices.Concat(plain[:len(plain)-1], []byte{1})
	for name, c := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"plain":             {plain, true},
		"topology":          {slices.Concat(withRack, utf("/rack")), true},
		"topology missing":  {withRack, false},
		"port 0":            {BlockManagerID{"1", "h", 0}.external(), false},
		"port too high":     {BlockManagerID{"1", "h", 70_000}.external(), false},
		"cut in the port":   {plain[:8], false},
		"no host":           {utf("1"), false},
		"nothing":           {nil, false},
		"length over bytes": {[]byte{0xFF, 0xFF, 'x'}, false},
	} {
		id, err := parseBlockManager(c.raw)
		if c.ok && (err != nil || id != good) || !c.ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, id, err)
		}
	}
}

func TestModifiedUTF8(t *testing.T) {
	for _, s := range []string{"", "abc", "\x00", "üß", "\u20AC", "\U0001F6A4", strings.Repeat("a\x00", 9)} {
		got, ok := decodeUTF8(modifiedUTF8(s))
		if !ok || got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	if b := modifiedUTF8("\x00\U0001F6A4"); !bytes.Equal(b, []byte{0xC0, 0x80, 0xED, 0xA0, 0xBD, 0xED, 0xBA, 0xA4}) {
		t.Errorf("%x", b)
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range builds {
		for _, name := range []string{"true", "peers-buffer-3", "peers-list-3", "peers-vector-3", "peers-array-3", "appconfig", "rpcfailure", "broken", "upload"} {
			f.Add(golden(f, b.dir, name))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, errBool := DecodeBoolean(data)
		_, errPeers := DecodePeers(data)
		_, errConfig := DecodeAppConfig(data)
		for _, err := range []error{errBool, errPeers, errConfig} {
			var failure *Failure
			if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) &&
				!errors.Is(err, ErrUnexpected) && !errors.As(err, &failure) {
				t.Errorf("untyped error %v", err)
			}
		}
	})
}
