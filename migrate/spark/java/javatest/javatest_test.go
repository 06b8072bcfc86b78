package javatest

import (
	"reflect"
	"testing"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

func TestPackageJavaReadsWhatIsWritten(t *testing.T) {
	for _, want := range []bool{true, false} {
		if got, err := java.DecodeBoolean(Boolean(want)); err != nil || got != want {
			t.Errorf("boolean %v: %v, %v", want, got, err)
		}
	}
	for _, want := range [][]java.BlockManagerID{nil, {{Executor: "1", Host: "a", Port: 65535}}, {{Executor: "1", Host: "a", Port: 1}, {Executor: "2", Host: "[::1]", Port: 2}}} {
		if got, err := java.DecodePeers(Peers(want...)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("peers %v: %v, %v", want, got, err)
		}
	}
	for _, want := range []map[string]string{{}, {"spark.app.id": "app-1", "spark.x": ""}} {
		if got, err := java.DecodeAppConfig(AppConfig(want)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("properties %v: %v, %v", want, got, err)
		}
	}
}
