package lab

import (
	_ "embed" // the driver program
	"encoding/json"
)

//go:embed job.py
var driverProgram string

// JobKind says what an application does in a round.
type JobKind string

const (
	// RDD partitions seeded random records by reducer, then reduces all of them to a checksum. Rounds
	// after the first find the map outputs, or have to run maps again.
	RDD JobKind = "rdd"
	// SQL joins and aggregates DataFrames with adaptive execution; rounds after the first run only the
	// final stage.
	SQL JobKind = "sql"
)

// Job is the work of an application. The sizes are those of its shuffle data before compression; the
// data is random (RDD), so that compression changes nothing.
type Job struct {
	Kind      JobKind
	Maps      int // map tasks; 0: 8
	Reduces   int // reduce tasks; 0: 4
	KiBPerMap int // 0: 64
	// MsPerMap is how long a map task sleeps before it begins, so that a notice can come in mid-stage.
	MsPerMap int
	// SlowEvery: every so many maps one sleeps ten times as long, and is worth so much more; 0: none. RDD only.
	SlowEvery int
	// MsPerReduce is how long a reduce task sleeps in all, spread over its records, in the first round on a
	// dataset; later rounds are as quick as they can be.
	MsPerReduce int
	EmptyEvery  int // RDD: every so many maps one writes nothing at all; 0: none
	BigMiB      int // RDD: the first map writes so much in place of KiBPerMap; 0: it doesn't
	Seed        int // the same seed makes the same bytes
}

func (j Job) json() (string, error) {
	if j.Kind == "" {
		j.Kind = RDD
	}
	raw, err := json.Marshal(map[string]any{
		"kind": j.Kind, "maps": orElse(j.Maps, 8), "reduces": orElse(j.Reduces, 4),
		"kibPerMap": orElse(j.KiBPerMap, 64), "msPerMap": j.MsPerMap, "slowEvery": j.SlowEvery, "msPerReduce": j.MsPerReduce,
		"emptyEvery": j.EmptyEvery, "bigMiB": j.BigMiB, "seed": j.Seed,
	})
	return string(raw), err
}

func orElse(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
