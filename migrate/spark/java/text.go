package java

import (
	"encoding/binary"
	"unicode/utf16"
)

// appendUTF appends what DataOutput.writeUTF writes. Its length field has 16 bits; no name that Spark
// gives comes near, so a longer one can only be wrong and is cut: Spark then does not know it.
func appendUTF(buf []byte, s string) []byte {
	b := modifiedUTF8(s)
	if len(b) > 0xFFFF {
		b = modifiedUTF8(s[:0xFFFF/6])
	}
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(b)))
	return append(buf, b...)
}

// modifiedUTF8 is Java's encoding of strings: UTF-16 units, each in 1 to 3 bytes, and 0 in two.
func modifiedUTF8(s string) []byte {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r >= 0x10000 {
			hi, lo := utf16.EncodeRune(r)
			out = appendUnit(appendUnit(out, hi), lo)
			continue
		}
		out = appendUnit(out, r)
	}
	return out
}

func appendUnit(out []byte, u rune) []byte {
	switch {
	case u >= 1 && u <= 0x7F:
		return append(out, byte(u))
	case u <= 0x7FF:
		return append(out, 0xC0|byte(u>>6), 0x80|byte(u&0x3F))
	default:
		return append(out, 0xE0|byte(u>>12), 0x80|byte(u>>6&0x3F), 0x80|byte(u&0x3F))
	}
}

// decodeUTF8 reads Java's encoding of strings.
func decodeUTF8(b []byte) (string, bool) {
	if isASCII(b) {
		return string(b), true
	}
	units := make([]uint16, 0, len(b))
	for len(b) > 0 {
		u, n := decodeUnit(b)
		if n == 0 {
			return "", false
		}
		units = append(units, u)
		b = b[n:]
	}
	return string(utf16.Decode(units)), true
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// decodeUnit reads one UTF-16 unit; n is 0 when b does not start with one.
func decodeUnit(b []byte) (u uint16, n int) {
	switch {
	case b[0] < 0x80:
		return uint16(b[0]), 1
	case b[0]&0xE0 == 0xC0 && len(b) >= 2 && continues(b[1]):
		return uint16(b[0]&0x1F)<<6 | uint16(b[1]&0x3F), 2
	case b[0]&0xF0 == 0xE0 && len(b) >= 3 && continues(b[1]) && continues(b[2]):
		return uint16(b[0]&0x0F)<<12 | uint16(b[1]&0x3F)<<6 | uint16(b[2]&0x3F), 3
	default:
		return 0, 0
	}
}

func continues(b byte) bool { return b&0xC0 == 0x80 }
