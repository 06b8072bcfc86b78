import java.net.InetSocketAddress
import java.util.Arrays
import java.util.Random
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicInteger

import scala.util.Try

import com.sun.net.httpserver.{HttpExchange, HttpHandler, HttpServer}
import io.fabric8.kubernetes.client.{Config, ConfigBuilder, KubernetesClientBuilder}
import org.apache.spark.{FetchFailed, HashPartitioner, SparkConf, SparkContext, Success}
import org.apache.spark.rdd.RDD
import org.apache.spark.scheduler._

/** ShuffleJob MAPS REDUCES KIB MILLISECONDS: a shuffle that is read again and again on request. The first round runs the map
 *  tasks, each of which waits so long and then makes so many KiB of random data; later rounds run one only for each output
 *  that is lost. It is asked over HTTP on port 8099: /round, /fresh (a round of a new shuffle), /state and /stop. With
 *  "once" after the numbers it runs one round, touches Spark's Kubernetes client and ends: what it loads is archived. */
object ShuffleJob {
  val maps, reduces, fetchFailures, otherFailures = new AtomicInteger
  val events = new StringBuilder // JSON objects: executors that came and went

  def main(args: Array[String]): Unit = {
    val Array(mapTasks, reduceTasks, kib, pause) = args.take(4).map(_.toInt)
    val sc = new SparkContext(new SparkConf())
    sc.addSparkListener(new Watcher)
    var data = shuffle(sc, mapTasks, reduceTasks, kib, pause)
    if (args.lastOption.contains("once")) {
      round(sc, data)
      val nowhere = new ConfigBuilder(Config.empty()).withMasterUrl("http://127.0.0.1:1").withRequestRetryBackoffLimit(0).build()
      Try(new KubernetesClientBuilder().withConfig(nowhere).build().pods().list())
      sc.stop()
      return
    }
    val server = HttpServer.create(new InetSocketAddress(8099), 0)
    server.setExecutor(Executors.newCachedThreadPool())
    def on(path: String)(answer: => String): Unit = server.createContext(path, new HttpHandler {
      def handle(e: HttpExchange): Unit = {
        val (code, body) =
          try { (200, answer.getBytes("UTF-8")) }
          catch { case t: Throwable => (500, t.toString.getBytes("UTF-8")) }
        e.sendResponseHeaders(code, body.length)
        e.getResponseBody.write(body)
        e.close()
      }
    })
    on("/round")(this.synchronized(round(sc, data)))
    on("/fresh")(this.synchronized {
      data = shuffle(sc, mapTasks, reduceTasks, kib, pause)
      round(sc, data)
    })
    on("/state")(events.synchronized(s"""{"application":"${sc.applicationId}","executors":${executors(sc)},"events":[$events]}"""))
    on("/stop") {
      new Thread(() => { sc.stop(); System.exit(0) }).start()
      "{}"
    }
    server.start()
    Thread.currentThread().join()
  }

  def executors(sc: SparkContext): Int = sc.statusTracker.getExecutorInfos.length - 1 // without the driver

  def shuffle(sc: SparkContext, mapTasks: Int, reduceTasks: Int, kib: Int, pause: Int): RDD[(Int, Array[Byte])] =
    sc.parallelize(0 until mapTasks, mapTasks).flatMap { i =>
      Thread.sleep(pause)
      val random = new Random(i)
      Iterator.fill(kib) {
        val block = new Array[Byte](1024)
        random.nextBytes(block)
        (random.nextInt(), block)
      }
    }.partitionBy(new HashPartitioner(reduceTasks))

  def round(sc: SparkContext, data: RDD[(Int, Array[Byte])]): String = {
    Seq(maps, reduces, fetchFailures, otherFailures).foreach(_.set(0))
    val begin = System.nanoTime()
    val sum = data.map(r => Arrays.hashCode(r._2).toLong).reduce(_ + _)
    val took = (System.nanoTime() - begin) / 1000000
    org.apache.spark.LabDrain(sc)
    s"""{"tookMs":$took,"mapTasks":$maps,"reduceTasks":$reduces,"fetchFailures":$fetchFailures,"failures":$otherFailures,"sum":$sum}"""
  }

  def note(what: String, executor: String, why: String): Unit = events.synchronized {
    if (events.nonEmpty) events.append(',')
    val text = why.replaceAll("[^ -~]", " ").replace("\\", "\\\\").replace("\"", "\\\"")
    events.append(s"""{"at":${System.currentTimeMillis()},"what":"$what","executor":"$executor","why":"$text"}""")
  }

  class Watcher extends SparkListener {
    override def onTaskEnd(e: SparkListenerTaskEnd): Unit = {
      (if (e.taskType == "ShuffleMapTask") maps else reduces).incrementAndGet()
      e.reason match {
        case Success =>
        case _: FetchFailed => fetchFailures.incrementAndGet()
        case _ => otherFailures.incrementAndGet()
      }
    }
    override def onExecutorAdded(e: SparkListenerExecutorAdded): Unit = note("added", e.executorId, e.executorInfo.executorHost)
    override def onExecutorRemoved(e: SparkListenerExecutorRemoved): Unit = note("removed", e.executorId, e.reason)
  }
}
