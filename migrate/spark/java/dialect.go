package java

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Names of the classes that Lifeboat writes.
const (
	classTuple2       = "scala.Tuple2"
	classOption       = "scala.Option"
	classNone         = "scala.None$"
	classModuleProxy  = "scala.runtime.ModuleSerializationProxy"
	classStorageLevel = "org.apache.spark.storage.StorageLevel"
	classReplication  = "org.apache.spark.network.netty.BlockReplicationMetadata"
	classBlockManager = "org.apache.spark.storage.BlockManagerId"
	classGetPeers     = "org.apache.spark.storage.BlockManagerMessages$GetPeers"
	classUpdateBlock  = "org.apache.spark.storage.BlockManagerMessages$UpdateBlockInfo"
	classDecommission = "org.apache.spark.scheduler.cluster.CoarseGrainedClusterMessages$ExecutorDecommissioning"
	classRetrieveConf = "org.apache.spark.scheduler.cluster.CoarseGrainedClusterMessages$RetrieveSparkAppConfig"
)

// UIDs are the serialVersionUIDs of the classes that Lifeboat writes, as the JDK's serialver prints
// them for the jars of one Spark release.
type UIDs struct {
	Tuple2                   int64 // scala.Tuple2
	Option                   int64 // scala.Option
	None                     int64 // scala.None$
	ModuleSerializationProxy int64 // scala.runtime.ModuleSerializationProxy, Scala 2.13 only
	StorageLevel             int64 // o.a.s.storage.StorageLevel
	BlockReplicationMetadata int64 // o.a.s.network.netty.BlockReplicationMetadata, Spark 4.3 and later
	BlockManagerID           int64 // o.a.s.storage.BlockManagerId
	GetPeers                 int64 // o.a.s.storage.BlockManagerMessages$GetPeers
	UpdateBlockInfo          int64 // o.a.s.storage.BlockManagerMessages$UpdateBlockInfo
	ExecutorDecommissioning  int64 // o.a.s.scheduler.cluster.CoarseGrainedClusterMessages$ExecutorDecommissioning
	RetrieveSparkAppConfig   int64 // o.a.s.scheduler.cluster.CoarseGrainedClusterMessages$RetrieveSparkAppConfig
}

// of finds the number of a class by its Java name; nil for a class that Lifeboat does not write.
func (u *UIDs) of(class string) *int64 {
	switch class {
	case classTuple2:
		return &u.Tuple2
	case classOption:
		return &u.Option
	case classNone:
		return &u.None
	case classModuleProxy:
		return &u.ModuleSerializationProxy
	case classStorageLevel:
		return &u.StorageLevel
	case classReplication:
		return &u.BlockReplicationMetadata
	case classBlockManager:
		return &u.BlockManagerID
	case classGetPeers:
		return &u.GetPeers
	case classUpdateBlock:
		return &u.UpdateBlockInfo
	case classDecommission:
		return &u.ExecutorDecommissioning
	case classRetrieveConf:
		return &u.RetrieveSparkAppConfig
	default:
		return nil
	}
}

// Dialect is what Lifeboat must know of one Spark build to write objects that it accepts. It is a
// plain value: it can be compared, copied and kept as JSON.
type Dialect struct {
	// Name says where it comes from, as "spark-4.3-scala-2.13"; Learn adds "+learned".
	Name string
	UIDs UIDs
	// UploadClass is the Java name of the object that describes an uploaded block: scala.Tuple2 up
	// to Spark 4.2, org.apache.spark.network.netty.BlockReplicationMetadata from 4.3.
	UploadClass string
}

// scala212 and scala213 are the numbers that every checked release with that Scala version has in
// common (serialver on spark-core 3.4.0 to 4.3.0). The numbers of classes that a release does not
// have are those of the first that has them, as a start for Learn.
func scala212() UIDs {
	return UIDs{
		Tuple2:                   3356420310891166197,
		Option:                   -114498752079829388,
		None:                     5066590221178148012,
		ModuleSerializationProxy: 1,
		StorageLevel:             7060134950895969638,
		BlockReplicationMetadata: -4363918672411843878,
		BlockManagerID:           8760323731857918296,
		GetPeers:                 8044101130603527006,
		UpdateBlockInfo:          5878863788996774500,
		ExecutorDecommissioning:  6042608291543788237,
		RetrieveSparkAppConfig:   -6712847925685497919,
	}
}

func scala213() UIDs {
	u := scala212()
	u.Tuple2 = 142951686315914362
	u.GetPeers = -4873462415686987346
	u.UpdateBlockInfo = 4235792380757994230
	u.ExecutorDecommissioning = -8342031572377803257
	u.RetrieveSparkAppConfig = 7017594059367549417
	return u
}

// scala213From43 differs by the checksum that Spark 4.3 added to UpdateBlockInfo.
func scala213From43() UIDs {
	u := scala213()
	u.UpdateBlockInfo = 3238602736275805220
	return u
}

// release is one checked release line of Spark.
type release struct {
	major, minor int
	scala        string
	uids         UIDs
	upload       string
}

// releases is the table of what was checked, oldest first.
func releases() []release {
	return []release{
		{3, 4, "2.12", scala212(), classTuple2},
		{3, 4, "2.13", scala213(), classTuple2},
		{3, 5, "2.12", scala212(), classTuple2},
		{3, 5, "2.13", scala213(), classTuple2},
		{4, 0, "2.13", scala213(), classTuple2},
		{4, 1, "2.13", scala213(), classTuple2},
		{4, 2, "2.13", scala213(), classTuple2},
		{4, 3, "2.13", scala213From43(), classReplication},
	}
}

func (r release) dialect() Dialect {
	return Dialect{
		Name:        fmt.Sprintf("spark-%d.%d-scala-%s", r.major, r.minor, r.scala),
		UIDs:        r.uids,
		UploadClass: r.upload,
	}
}

// atMost reports whether the release line is not newer than major.minor.
func (r release) atMost(major, minor int) bool {
	return r.major < major || r.major == major && r.minor <= minor
}

var versionPattern = regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})(\.\d{1,4})?(.*)$`)

// ForVersion finds the dialect of a Spark version ("4.3.0", or a vendor's "3.5.1-amzn-0") with its
// Scala version ("2.12", "2.13.16"; "" when unknown, which from Spark 4.0 can only be 2.13).
//
// exact is true when this release line of Apache Spark was checked; otherwise the dialect is the
// nearest (the same line, else the newest older one; the newest of all for an unknown version) and
// the caller should probe before it relies on it. ok is false for a Spark older than 3.4, which is
// not supported.
func ForVersion(spark, scala string) (d Dialect, exact, ok bool) {
	m := versionPattern.FindStringSubmatch(spark)
	if m == nil {
		return nearest(1<<16, 0, scalaBinary(scala)).dialect(), false, true
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < 3 || major == 3 && minor < 4 {
		return Dialect{}, false, false
	}
	binary := scalaBinary(scala)
	known := binary != ""
	if major >= 4 {
		known = scala == "" || binary == "2.13"
		binary = "2.13"
	} else if !known {
		binary = "2.12"
	}
	r := nearest(major, minor, binary)
	exact = known && r.major == major && r.minor == minor && m[3] != "" && m[4] == ""
	return r.dialect(), exact, true
}

// scalaBinary cuts a Scala version to the part that decides about compatibility; "" for any other
// than the two that Spark was built with.
func scalaBinary(scala string) string {
	for _, b := range []string{"2.12", "2.13"} {
		if scala == b || strings.HasPrefix(scala, b+".") {
			return b
		}
	}
	return ""
}

// nearest is the newest release line that is not newer than major.minor and was built with that
// Scala version; without one of that Scala version, the newest of any.
func nearest(major, minor int, scala string) release {
	var best, other release
	for _, r := range releases() {
		if !r.atMost(major, minor) {
			continue
		}
		other = r
		if r.scala == scala {
			best = r
		}
	}
	if best.major == 0 {
		return other
	}
	return best
}
