package object

import (
	"fmt"
	"strconv"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// Key is where Spark 3.3 and later looks for a block of a shuffle below its fallback path:
// <app>/<shuffle>/<hash>/<name> (o.a.s.storage.FallbackStorage.copy and read). name is the block's, as
// shuffle_0_7_0.index.
func Key(app string, shuffle int, name string) string {
	return fmt.Sprintf("%s/%d/%d/%s", app, shuffle, java.NonNegativeHash(name), name)
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
