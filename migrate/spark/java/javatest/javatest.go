// Package javatest writes the answers of a Spark driver as Java object streams, with contents that a test
// chooses. It writes no more than package java reads: what drivers really write is in java's testdata.
package javatest

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// Codes of java.io.ObjectStreamConstants.
const (
	null      = 0x70
	classDesc = 0x72
	object    = 0x73
	str       = 0x74
	array     = 0x75
	block     = 0x77
	end       = 0x78

	serializable   = 0x02
	externalizable = 0x04 | 0x08 // with block data
)

const (
	sequence = "scala.collection.mutable.ArraySeq$ofRef"
	config   = "org.apache.spark.scheduler.cluster.CoarseGrainedClusterMessages$SparkAppConfig"
	manager  = "org.apache.spark.storage.BlockManagerId"
)

// Boolean is the answer to ExecutorDecommissioning.
func Boolean(v bool) []byte {
	s := begin()
	s.object("java.lang.Boolean", serializable, field{code: 'Z', name: "value"})
	if v {
		return append(s.b, 1)
	}
	return append(s.b, 0)
}

// Peers is the answer to GetPeers.
func Peers(ids ...java.BlockManagerID) []byte {
	s := begin()
	s.sequence(len(ids), func(i int) {
		id := ids[i]
		var b stream
		b.utf(id.Executor)
		b.utf(id.Host)
		b.u32(id.Port)
		b.b = append(b.b, 0) // no topology
		s.object(manager, externalizable)
		s.b = append(append(append(s.b, block, byte(len(b.b))), b.b...), end)
	})
	return s.b
}

// AppConfig is the answer to RetrieveSparkAppConfig.
func AppConfig(properties map[string]string) []byte {
	s := begin()
	s.object(config, serializable, field{'L', "sparkProperties", "Lscala/collection/Seq;"})
	keys := slices.Sorted(maps.Keys(properties))
	s.sequence(len(keys), func(i int) {
		s.object("scala.Tuple2", serializable, field{'L', "_1", "Ljava/lang/Object;"}, field{'L', "_2", "Ljava/lang/Object;"})
		s.string(keys[i])
		s.string(properties[keys[i]])
	})
	return s.b
}

// stream is one object stream. It never refers back: every class is described again.
type stream struct{ b []byte }

type field struct {
	code       byte
	name, kind string
}

func begin() *stream { return &stream{[]byte{0xAC, 0xED, 0, 5}} }

func (s *stream) u16(v int) { s.b = binary.BigEndian.AppendUint16(s.b, uint16(v)) }
func (s *stream) u32(v int) { s.b = binary.BigEndian.AppendUint32(s.b, uint32(v)) }

func (s *stream) utf(text string) {
	s.u16(len(text))
	s.b = append(s.b, text...)
}

func (s *stream) string(text string) {
	s.b = append(s.b, str)
	s.utf(text)
}

func (s *stream) class(name string, flags byte, fields ...field) {
	s.b = append(s.b, classDesc)
	s.utf(name)
	s.b = append(binary.BigEndian.AppendUint64(s.b, 1), flags)
	s.u16(len(fields))
	for _, f := range fields {
		s.b = append(s.b, f.code)
		s.utf(f.name)
		if f.kind != "" {
			s.string(f.kind)
		}
	}
	s.b = append(s.b, end, null)
}

func (s *stream) object(class string, flags byte, fields ...field) {
	s.b = append(s.b, object)
	s.class(class, flags, fields...)
}

// sequence is a Scala Seq of n elements.
func (s *stream) sequence(n int, element func(i int)) {
	s.object(sequence, serializable, field{'[', "array", "[Ljava/lang/Object;"})
	s.b = append(s.b, array)
	s.class("[Ljava.lang.Object;", serializable)
	s.u32(n)
	for i := range n {
		element(i)
	}
}
