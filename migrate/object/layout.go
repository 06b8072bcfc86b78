package object

import (
	"fmt"
	"strconv"
	"unicode/utf16"

	"github.com/lifeboat/lifeboat/migrate"
)

// Key is where Spark 3.3 and later looks for a block of a shuffle below its fallback path:
// <app>/<shuffle>/<hash>/<name> (o.a.s.storage.FallbackStorage.copy and read). name is the block's, as
// shuffle_0_7_0.index.
func Key(app string, shuffle int, name string) string {
	return fmt.Sprintf("%s/%d/%d/%s", app, shuffle, nonNegativeHash(name), name)
}

// IndexKey is the Key of an output's index.
func IndexKey(id migrate.OutputID) string { return Key(id.App, id.Shuffle, id.IndexBlock()) }

// DataKey is the Key of an output's data.
func DataKey(id migrate.OutputID) string { return Key(id.App, id.Shuffle, id.DataBlock()) }

// AppPrefix is what the keys of an application begin with.
func AppPrefix(app string) string { return app + "/" }

// ShufflePrefix is what the keys of one shuffle begin with.
func ShufflePrefix(app string, shuffle int) string {
	return AppPrefix(app) + strconv.Itoa(shuffle) + "/"
}

// nonNegativeHash is o.a.s.network.util.JavaUtils.nonNegativeHash of a java.lang.String.
func nonNegativeHash(s string) int32 {
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
