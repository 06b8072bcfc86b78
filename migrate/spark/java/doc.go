// Package java writes and reads the few Java object streams (Java Object Serialization, protocol
// version 5) that a process outside the JVM needs to speak with Spark: the metadata of a block upload,
// four messages to the driver, and their answers. In a rescue it stands below migrate/peer and
// migrate/spark/driver, which put these streams into the frames of migrate/spark/wire.
//
// A Java stream names every class with its serialVersionUID, and Scala classes that declare none get
// one computed from their members: it differs between Scala versions and sometimes between Spark
// versions. A Dialect is one such set of numbers; ForVersion is the table of those that were checked,
// and Learn corrects one from the refusals of a real peer.
package java
