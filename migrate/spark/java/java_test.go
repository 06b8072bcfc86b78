package java

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden reads a stream that Spark's own classes wrote (testdata/generate).
func golden(t testing.TB, build, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", build, name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var builds = []struct{ dir, spark, scala string }{
	{"3.5.9-2.12", "3.5.9", "2.12"},
	{"4.1.4-2.13", "4.1.4", "2.13"},
	{"4.3.0-2.13", "4.3.0", "2.13"},
}

func TestMessagesAreWhatTheJVMWrites(t *testing.T) {
	for _, b := range builds {
		d, exact, ok := ForVersion(b.spark, b.scala)
		if !exact || !ok {
			t.Fatalf("ForVersion(%s): exact %v, ok %v", b.spark, exact, ok)
		}
		for name, got := range map[string][]byte{
			"upload":       d.UploadMetadata(),
			"probe":        d.ProbeMetadata(),
			"decommission": d.ExecutorDecommissioning("17"),
			"getpeers":     d.GetPeers(BlockManagerID{"17", "10.0.0.7", 40123}),
			"updateblock":  d.UpdateBlockInfo(FallbackBlockManager(), "shuffle_3_4000000000_0.data", 0, 5_000_000_000),
			"retrieve":     d.RetrieveSparkAppConfig(3),
		} {
			want := golden(t, b.dir, name)
			if name == "updateblock" && !strings.HasPrefix(b.spark, "4.3") {
				want = withoutChecksum(t, want)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s %s:\n got %x\nwant %x", b.dir, name, got, want)
			}
		}
	}
}

// withoutChecksum adds to the one block of an UpdateBlockInfo, as Spark before 4.3 writes it, the byte by which
// 4.3 says that there is no checksum: Lifeboat sends the same to all.
func withoutChecksum(t *testing.T, data []byte) []byte {
	t.Helper()
	i := 0
	for data[i] != tcBlockData || int(data[i+1]) != len(data)-i-3 {
		if i++; i == len(data)-1 {
			t.Fatalf("does not end in one block: %x", data)
		}
	}
	data[i+1]++
	return append(data[:len(data)-1], 0, tcEndBlockData)
}

func TestDecodePeers(t *testing.T) {
	three := []BlockManagerID{{"1", "10.0.0.1", 40001}, {"2", "node-2.example.com", 40002}, {"3", "[fd00::3]", 40003}}
	for _, b := range builds {
		files, _ := filepath.Glob(filepath.Join("testdata", b.dir, "peers-*.bin"))
		if len(files) != 8 {
			t.Fatalf("%s: %d golden files", b.dir, len(files))
		}
		for _, f := range files {
			name := strings.TrimSuffix(filepath.Base(f), ".bin")
			want := three
			if strings.HasSuffix(name, "-0") {
				want = nil
			}
			got, err := DecodePeers(golden(t, b.dir, name))
			if err != nil || !equal(got, want) {
				t.Errorf("%s %s: %v, %v", b.dir, name, got, err)
			}
		}
	}
}

func equal(a, b []BlockManagerID) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestDecodeBoolean(t *testing.T) {
	for _, b := range builds {
		for name, want := range map[string]bool{"true": true, "false": false} {
			if got, err := DecodeBoolean(golden(t, b.dir, name)); err != nil || got != want {
				t.Errorf("%s %s: %v, %v", b.dir, name, got, err)
			}
		}
	}
}

func TestDecodeAppConfig(t *testing.T) {
	for _, b := range builds {
		got, err := DecodeAppConfig(golden(t, b.dir, "appconfig"))
		if err != nil {
			t.Errorf("%s: %v", b.dir, err)
			continue
		}
		for key, want := range map[string]string{
			"spark.app.id": "app-1", "spark.app.name": "Größe \U0001F6A4 \x00", "spark.empty": "",
		} {
			if v, ok := got[key]; !ok || v != want {
				t.Errorf("%s %s: %q", b.dir, key, v)
			}
		}
		if len(got) != 3 {
			t.Errorf("%s: %d properties", b.dir, len(got))
		}
	}
}

// TestKeysAreNotKept looks for the I/O encryption key in the parsed answer.
func TestKeysAreNotKept(t *testing.T) {
	for _, b := range builds {
		v, err := parse(golden(t, b.dir, "appconfig"))
		if err != nil {
			t.Fatal(err)
		}
		key, _ := v.(*object).field("ioEncryptionKey")
		inner, _ := key.(*object).field("value")
		if inner == nil {
			inner, _ = key.(*object).field("x")
		}
		if a, ok := inner.(*array); !ok || a.class.name != "[B" || a.elements != nil {
			t.Errorf("%s: key parsed as %#v", b.dir, inner)
		}
	}
}

func TestFailures(t *testing.T) {
	for _, b := range builds {
		for name, class := range map[string]string{
			"exception":  "org.apache.spark.SparkException",
			"rpcfailure": "org.apache.spark.SparkException",
			"broken":     "java.io.NotSerializableException",
		} {
			_, err := DecodeBoolean(golden(t, b.dir, name))
			var f *Failure
			if !errors.As(err, &f) || f.Class != class || f.Message == "" {
				t.Errorf("%s %s: %v", b.dir, name, err)
			}
		}
	}
}

func TestUnexpectedObjects(t *testing.T) {
	for _, b := range builds {
		if _, err := DecodeBoolean(golden(t, b.dir, "appconfig")); !errors.Is(err, ErrUnexpected) {
			t.Errorf("boolean: %v", err)
		}
		if _, err := DecodePeers(golden(t, b.dir, "true")); !errors.Is(err, ErrUnexpected) {
			t.Errorf("peers: %v", err)
		}
		if _, err := DecodeAppConfig(golden(t, b.dir, "peers-list-3")); !errors.Is(err, ErrUnexpected) {
			t.Errorf("config: %v", err)
		}
	}
	null := []byte{0xAC, 0xED, 0, 5, tcNull}
	if _, err := DecodePeers(null); !errors.Is(err, ErrUnexpected) {
		t.Errorf("null: %v", err)
	}
}

// TestTruncated cuts every golden stream at every byte: never a panic, never an answer.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"peers-list-3", "appconfig", "true", "rpcfailure"} {
		data := golden(t, "4.3.0-2.13", name)
		for n := range data {
			if _, err := parse(data[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
		}
	}
}

func TestLongStrings(t *testing.T) {
	d, _, _ := ForVersion("4.3.0", "")
	long := strings.Repeat("ü", 40_000)
	v, err := parse(d.ExecutorDecommissioning(long))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := v.(*object).field("executorId"); got != long {
		t.Error("a long executor id did not survive")
	}
	v, err = parse(d.GetPeers(BlockManagerID{strings.Repeat("x", 3000), "h", 1}))
	if err != nil {
		t.Fatal(err)
	}
	id, _ := v.(*object).field("blockManagerId")
	if got, err := parseBlockManager(id.(*object).raw()); err != nil || len(got.Executor) != 3000 || got.Host != "h" {
		t.Errorf("block data over several blocks: %v", err)
	}
	if b := appendUTF(nil, strings.Repeat("ü", 40_000)); len(b) > 2+0xFFFF {
		t.Errorf("writeUTF of %d bytes", len(b))
	}
}
