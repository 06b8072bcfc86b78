package org.apache.spark

/** LabDrain waits until all listeners have seen what has happened; only Spark's own packages may ask for that. */
object LabDrain {
  def apply(sc: SparkContext): Unit = sc.listenerBus.waitUntilEmpty(30000)
}
