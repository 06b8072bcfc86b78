package shuffle

import (
	"math"
	"strconv"
	"strings"
)

// key names one map output within its application.
type key struct {
	shuffle int32
	mapID   int64
}

// kind tells the two files of a map output apart.
type kind uint8

const (
	indexFile kind = iota
	dataFile
)

// name is one file of a map output, as found in a folder. Flat, so that it takes 16 bytes.
type name struct {
	mapID   int64
	shuffle int32
	kind    kind
}

func (n name) key() key { return key{n.shuffle, n.mapID} }

func (n name) String() string {
	suffix := ".index"
	if n.kind == dataFile {
		suffix = ".data"
	}
	return "shuffle_" + strconv.Itoa(int(n.shuffle)) + "_" + strconv.FormatInt(n.mapID, 10) + "_0" + suffix
}

// parseName accepts exactly the names that Spark gives (ShuffleIndexBlockId, ShuffleDataBlockId with
// IndexShuffleBlockResolver.NOOP_REDUCE_ID 0): every accepted name is what name.String makes of it.
// Temporary files (<final>.<uuid>), checksums and the files of push-based merge don't fit.
func parseName(text string) (name, bool) {
	rest, ok := strings.CutPrefix(text, "shuffle_")
	if !ok {
		return name{}, false
	}
	var n name
	if rest, ok = strings.CutSuffix(rest, "_0.index"); ok {
		n.kind = indexFile
	} else if rest, ok = strings.CutSuffix(rest, "_0.data"); ok {
		n.kind = dataFile
	} else {
		return name{}, false
	}
	shuffle, mapID, ok := strings.Cut(rest, "_")
	if !ok {
		return name{}, false
	}
	s, ok := parseNumber(shuffle, math.MaxInt32)
	if !ok {
		return name{}, false
	}
	if n.mapID, ok = parseNumber(mapID, math.MaxInt64); !ok {
		return name{}, false
	}
	n.shuffle = int32(s)
	return n, true
}

// parseNumber reads a number as Java prints one that is not negative: no sign, no leading zero.
func parseNumber(text string, highest uint64) (int64, bool) {
	if text == "" || text[0] < '0' || text[0] > '9' || (text[0] == '0' && len(text) > 1) {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > highest {
		return 0, false
	}
	return int64(n), true
}

// isManagerName is true for blockmgr-<uuid> (DiskBlockManager.createLocalDirs).
func isManagerName(text string) bool {
	return strings.HasPrefix(text, "blockmgr-") && len(text) > len("blockmgr-")
}

// isBucketName is true for the sub-folders of a blockmgr folder: "%02x" of a number below
// spark.diskStore.subDirectories (DiskBlockManager.getFile), 64 unless somebody changed it.
func isBucketName(text string) bool {
	return len(text) >= 2 && len(text) <= 4 && strings.Trim(text, "0123456789abcdef") == "" && (len(text) == 2 || text[0] != '0')
}
