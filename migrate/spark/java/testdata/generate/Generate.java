import java.io.ByteArrayOutputStream;
import java.io.ObjectOutputStream;
import java.lang.reflect.Constructor;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkException;
import org.apache.spark.resource.ResourceProfile$;
import org.apache.spark.storage.BlockManagerId;
import org.apache.spark.storage.ShuffleDataBlockId;
import org.apache.spark.storage.StorageLevel;
import scala.Option;
import scala.Tuple2;
import scala.collection.immutable.List;
import scala.collection.immutable.Nil$;
import scala.collection.immutable.Vector;
import scala.collection.mutable.ArrayBuffer;

/**
 * Writes the golden object streams of this package with Spark's own classes. See golden.sh.
 * Names that differ between Scala 2.12 and 2.13 are found by reflection, so that one source serves all.
 */
public class Generate {
  static final String STORAGE = "org.apache.spark.storage.BlockManagerMessages$";
  static final String CLUSTER = "org.apache.spark.scheduler.cluster.CoarseGrainedClusterMessages$";
  static Path out;

  public static void main(String[] args) throws Exception {
    out = Path.of(args[0]);
    Files.createDirectories(out);
    requests();
    peers();
    appConfig();
    failures();
  }

  static void requests() throws Exception {
    Object upload;
    try {
      upload = create("org.apache.spark.network.netty.BlockReplicationMetadata",
          StorageLevel.DISK_ONLY(), null, Option.empty(), false);
    } catch (ClassNotFoundException before43) {
      upload = new Tuple2<>(StorageLevel.DISK_ONLY(), null);
    }
    write("upload", upload);
    write("probe", new Object[] {upload});
    write("decommission", create(CLUSTER + "ExecutorDecommissioning", "17"));
    write("getpeers", create(STORAGE + "GetPeers", id("17", "10.0.0.7", 40123)));
    write("updateblock", update(id("fallback", "remote", 7337)));
    write("retrieve", create(CLUSTER + "RetrieveSparkAppConfig", 3));
    write("true", Boolean.TRUE);
    write("false", Boolean.FALSE);
  }

  /** Since 4.3 it also has an optional checksum. */
  static Object update(BlockManagerId at) throws Exception {
    Object block = new ShuffleDataBlockId(3, 4_000_000_000L, 0);
    try {
      return create(STORAGE + "UpdateBlockInfo", at, block, StorageLevel.DISK_ONLY(), 0L, 5_000_000_000L, Option.empty());
    } catch (NoSuchMethodException before43) {
      return create(STORAGE + "UpdateBlockInfo", at, block, StorageLevel.DISK_ONLY(), 0L, 5_000_000_000L);
    }
  }

  static void peers() throws Exception {
    Object[] ids = {id("1", "10.0.0.1", 40001),
        BlockManagerId.apply("2", "node-2.example.com", 40002, Option.apply("/rack1")),
        id("3", "[fd00::3]", 40003)};
    ArrayBuffer<Object> buffer = new ArrayBuffer<>();
    List<Object> list = nil();
    Vector<Object> vector = vector();
    write("peers-buffer-0", buffer);
    write("peers-list-0", list);
    write("peers-vector-0", vector);
    for (Object id : ids) append(buffer, id);
    write("peers-buffer-3", buffer);
    write("peers-list-3", toList(buffer));
    write("peers-vector-3", seq(buffer, "toVector"));
    write("peers-seq-3", seq(buffer, "toSeq"));
    write("peers-array-3", wrap(ids));
  }

  static void appConfig() throws Exception {
    Object[] properties = {new Tuple2<>("spark.app.id", "app-1"),
        new Tuple2<>("spark.app.name", "Größe \ud83d\udea4 \0"), new Tuple2<>("spark.empty", "")};
    Object key = Option.apply("0123456789abcdef".getBytes("UTF-8"));
    Object profile = ResourceProfile$.MODULE$.getOrCreateDefaultProfile(new SparkConf(false));
    Class<?> c = Class.forName(CLUSTER + "SparkAppConfig");
    boolean logLevel = c.getConstructors()[0].getParameterCount() == 5;
    Object props = wrap(properties);
    write("appconfig", logLevel
        ? create(c.getName(), props, key, Option.empty(), profile, Option.empty())
        : create(c.getName(), props, key, Option.empty(), profile));
  }

  static void failures() throws Exception {
    StackTraceElement[] none = {new StackTraceElement("a.B", "c", "B.scala", 1)};
    Throwable e = new SparkException("Could not find BlockManagerMaster.");
    e.setStackTrace(none);
    write("exception", e);
    write("rpcfailure", create("org.apache.spark.rpc.netty.RpcFailure", e));
    write("broken", new Object[] {"before", new Thread("not serializable")});
  }

  static BlockManagerId id(String executor, String host, int port) {
    return BlockManagerId.apply(executor, host, port, Option.empty());
  }

  @SuppressWarnings("unchecked")
  static List<Object> nil() { return (List<Object>) (Object) Nil$.MODULE$; }

  @SuppressWarnings("unchecked")
  static Vector<Object> vector() throws Exception {
    Object module = Class.forName("scala.collection.immutable.Vector$").getField("MODULE$").get(null);
    return (Vector<Object>) module.getClass().getMethod("empty").invoke(module);
  }

  static void append(ArrayBuffer<Object> buffer, Object id) throws Exception {
    String[] names = {"addOne", "$plus$eq"};
    for (String name : names) {
      try {
        ArrayBuffer.class.getMethod(name, Object.class).invoke(buffer, id);
        return;
      } catch (NoSuchMethodException other) {
        continue;
      }
    }
    throw new NoSuchMethodException("append");
  }

  static Object toList(ArrayBuffer<Object> buffer) throws Exception { return seq(buffer, "toList"); }

  static Object seq(ArrayBuffer<Object> buffer, String method) throws Exception {
    return ArrayBuffer.class.getMethod(method).invoke(buffer);
  }

  /** What the compiler makes of an array where a Seq is wanted: WrappedArray in 2.12, ArraySeq in 2.13. */
  static Object wrap(Object[] elements) throws Exception {
    try {
      Object module = Class.forName("scala.collection.immutable.ArraySeq$").getField("MODULE$").get(null);
      return module.getClass().getMethod("unsafeWrapArray", Object.class).invoke(module, (Object) elements);
    } catch (ClassNotFoundException scala212) {
      Object module = Class.forName("scala.Predef$").getField("MODULE$").get(null);
      return module.getClass().getMethod("wrapRefArray", Object[].class).invoke(module, (Object) elements);
    }
  }

  static Object create(String name, Object... args) throws Exception {
    for (Constructor<?> c : Class.forName(name).getDeclaredConstructors()) {
      if (c.getParameterCount() == args.length) {
        c.setAccessible(true);
        return c.newInstance(args);
      }
    }
    throw new NoSuchMethodException(name);
  }

  static void write(String name, Object o) throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ObjectOutputStream stream = new ObjectOutputStream(bytes)) {
      stream.writeObject(o);
    } catch (java.io.NotSerializableException intended) {
      if (!name.equals("broken")) throw intended;
    }
    Files.write(out.resolve(name + ".bin"), bytes.toByteArray());
  }
}
