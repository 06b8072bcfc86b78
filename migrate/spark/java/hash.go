package java

import "unicode/utf16"

// NonNegativeHash is o.a.s.network.util.JavaUtils.nonNegativeHash of a java.lang.String: by it Spark finds the folder of a
// block, on disk (DiskBlockManager.getFile) and in its fallback storage (FallbackStorage), Spark 3.4 to 4.3.
func NonNegativeHash(s string) int32 {
	var h int32
	for _, unit := range utf16.Encode([]rune(s)) {
		h = 31*h + int32(unit)
	}
	switch {
	case h >= 0:
		return h
	case h == -h: // the smallest int has no opposite
		return 0
	default:
		return -h
	}
}
