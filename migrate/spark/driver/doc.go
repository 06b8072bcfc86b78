// Package driver asks and tells a Spark application's driver: over its RPC port the properties, the
// living peers and that an executor goes away; over its REST interface the executors and what tasks
// cost. In a rescue it comes first: it finds the destinations, and it tells the driver before the
// first byte is copied.
package driver
