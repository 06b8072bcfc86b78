// Package wire is a client of Apache Spark's transport protocol: frames, remote procedure calls and
// streamed uploads, as block managers and the driver speak them. In a rescue it is the way over which
// every block reaches a peer and every word reaches the driver; what is said in Java object streams
// is the business of package java.
//
// All integers are big-endian. The facts about the protocol are those of Spark 3.4 to 4.3
// (org.apache.spark.network.protocol, org.apache.spark.network.shuffle.protocol).
package wire
