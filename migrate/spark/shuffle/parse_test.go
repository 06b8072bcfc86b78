package shuffle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

func TestParseName(t *testing.T) {
	for text, want := range map[string]name{
		"shuffle_0_0_0.index":                            {0, 0, indexFile},
		"shuffle_3_17_0.data":                            {17, 3, dataFile},
		"shuffle_2147483647_9223372036854775807_0.index": {1<<63 - 1, 1<<31 - 1, indexFile},
	} {
		if got, ok := parseName(text); !ok || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	for _, bad := range []string{
		"", "shuffle_", "shuffle_1_2_0", "shuffle_1_2_0.", "shuffle_1_2_1.index", "shuffle_1_2_00.index", "shuffle_1_0.index",
		"shuffle__2_0.data", "shuffle_1__0.data", "shuffle_01_2_0.data", "shuffle_1_02_0.data", "shuffle_+1_2_0.data", "shuffle_-1_2_0.data",
		"shuffle_2147483648_2_0.data", "shuffle_1_9223372036854775808_0.data", "shuffle_1_99999999999999999999_0.data",
		"shuffle_1_2_0.index.6b1f0c1e-0000-0000-0000-000000000000", "shuffle_1_2_0.checksum.ADLER32", "shuffle_1_2_3_0.data",
		"shuffleMerged_app_1_0_2.data", "shufflePush_1_2_0_3", "shuffle_1_2_0.data\n", "SHUFFLE_1_2_0.data", "shuffle_1_٢_0.data", "shuffle_1_2_0.data/..",
	} {
		if got, ok := parseName(bad); ok {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestFolderNames(t *testing.T) {
	for text, want := range map[string]bool{"00": true, "3f": true, "ff": true, "100": true, "0": false, "3F": false, "012": false, "..": false, "10000": false, "": false} {
		if isBucketName(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	if isManagerName("blockmgr-") || isManagerName("spark-1") || !isManagerName("blockmgr-1") {
		t.Error("blockmgr names")
	}
}

func TestVerifyIndex(t *testing.T) {
	long := index(make([]int64, 20000)...)
	binary.BigEndian.PutUint64(long[len(long)-8:], 5)
	broken := bytes.Clone(long)
	binary.BigEndian.PutUint64(broken[indexBuffer-8:], 3)
	for _, c := range []struct {
		name string
		b    []byte
		last int64
		ok   bool
	}{
		{"one partition", index(0, 7), 7, true},
		{"only the zero", index(0), 0, true},
		{"empty partitions", index(0, 0, 3, 3, 9), 9, true},
		{"longer than the buffer", long, 5, true},
		{"empty", nil, 0, false},
		{"not whole longs", make([]byte, 12), 0, false},
		{"first not 0", index(1, 2), 0, false},
		{"down", index(0, 5, 4), 0, false},
		{"negative", index(0, -1), 0, false},
		{"down at the edge of the buffer", broken, 0, false},
	} {
		last, err := verifyIndex(bytes.NewReader(c.b), int64(len(c.b)), make([]byte, indexBuffer))
		if (err == nil) != c.ok || last != c.last {
			t.Errorf("%s: %d, %v", c.name, last, err)
		}
	}
	var bad badIndex
	if _, err := verifyIndex(nil, maxIndex+8, nil); !errors.As(err, &bad) {
		t.Errorf("over the cap: %v", err)
	}
	if _, err := verifyIndex(bytes.NewReader(index(0)), 16, make([]byte, 64)); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("shorter than its size: %v", err)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("shuffle_0_1_0.index")
	f.Add("shuffle_2147483647_9223372036854775807_0.data")
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := parseName(text); ok && n.String() != text {
			t.Errorf("%q became %q", text, n)
		}
	})
}

func FuzzVerifyIndex(f *testing.F) {
	f.Add(index(0, 1, 2), int64(2))
	f.Add(index(0), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, dataSize int64) {
		last, err := verifyIndex(bytes.NewReader(b), int64(len(b)), make([]byte, 16))
		naive := len(b) >= 8 && len(b)%8 == 0
		var previous int64
		for i := 0; naive && i < len(b); i += 8 {
			offset := int64(binary.BigEndian.Uint64(b[i:]))
			naive = offset >= previous && (i > 0 || offset == 0)
			previous = offset
		}
		if naive != (err == nil) || (naive && last != previous) {
			t.Fatalf("%x: %d, %v; want valid %v, last %d", b, last, err, naive, previous)
		}
		if err != nil {
			return
		}
		// Whatever is chosen is complete.
		i := []candidate{{at: &bucket{}, last: last}}
		d := []candidate{{at: &bucket{}}}
		d[0].stat.Size = dataSize
		if chosen, _ := choose(i, d); (chosen != nil) != (dataSize == last) {
			t.Fatalf("index says %d, data has %d: chosen %v", last, dataSize, chosen != nil)
		}
	})
}
