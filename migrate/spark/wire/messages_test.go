package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// The expected bytes follow the encoders of Spark 4.3.0 (network-common and network-shuffle jars).
func TestEncodings(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"RpcRequest", RPCRequest{ID: 7, Body: []byte("ab")}.Append(nil),
			"0000000000000017 03 0000000000000007 00000002 6162"},
		{"RpcResponse", RPCResponse{ID: 7}.Append(nil),
			"0000000000000015 04 0000000000000007 00000000"},
		{"RpcFailure", RPCFailure{ID: 1, Text: "x"}.Append(nil),
			"0000000000000016 05 0000000000000001 00000001 78"},
		{"UploadStream", UploadStream{ID: 2, Meta: []byte{6}, Length: 258}.Append(nil),
			"000000000000001e 0a 0000000000000002 00000001 06 0000000000000102"},
		{"UploadBlockStream", UploadBlockStream("s", []byte{0xac}),
			"06 00000001 73 00000001 ac"},
		{"UploadBlock", UploadBlock("a", "e", "b", []byte{0xac}, nil),
			"01 00000001 61 00000001 65 00000001 62 00000001 ac 00000000"},
		{"GetLocalDirs", GetLocalDirs("a", "1", "23"),
			"0a 00000001 61 00000002 00000001 31 00000002 3233"},
		{"LocalDirs", LocalDirs(Folders{"1", []string{"/d"}}, Folders{"2", nil}),
			"0b 00000002 00000001 31 00000001 32 00000002 00000001 00000000 00000001 00000002 2f64"},
		{"EndpointMessage", EndpointMessage("h", 258, "E", []byte{0xac, 0xed}),
			"00 01 0001 68 00000102 0001 45 aced"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, want := hex.EncodeToString(test.got), strings.ReplaceAll(test.want, " ", ""); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// realLocalDirs is what executor 1 of a Spark 4.3.0 application answered when asked for itself.
const realLocalDirs = "0b0000000100000001310000000100000001000000010000009b2f746d702f77697265737061726b2f6c6f63616c2f737061726b2d62343838623565652d343665392d346461662d616631382d3334616264396130363138342f6578656375746f722d37343638383638332d333364632d343531342d626333652d3664653133623535376364392f626c6f636b6d67722d36623639323336622d353239372d343035312d396533652d643663643935613631303039"

func TestDecodeLocalDirsOfSpark(t *testing.T) {
	message, err := hex.DecodeString(realLocalDirs)
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := DecodeLocalDirs(message)
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) != 1 || len(dirs["1"]) != 1 || !strings.Contains(dirs["1"][0], "/blockmgr-6b69236b-") {
		t.Errorf("got %v", dirs)
	}
	if again := LocalDirs(Folders{"1", dirs["1"]}); !bytes.Equal(again, message) {
		t.Errorf("encoded again: %x", again)
	}
}

func TestDecodeLocalDirs(t *testing.T) {
	got, err := DecodeLocalDirs(LocalDirs(Folders{"1", []string{"/a", "/b"}}, Folders{"2", []string{"/c"}}))
	if want := map[string][]string{"1": {"/a", "/b"}, "2": {"/c"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	bad := map[string]string{
		"empty":             "",
		"another message":   "0a 00000000 00000000 00000000",
		"huge array":        "0b 7fffffff",
		"negative array":    "0b ffffffff",
		"counts missing":    "0b 00000001 00000001 31 00000000 00000000",
		"negative count":    "0b 00000001 00000001 31 00000001 ffffffff 00000000",
		"count too large":   "0b 00000001 00000001 31 00000001 00000002 00000001 00000000",
		"folder unclaimed":  "0b 00000001 00000001 31 00000001 00000000 00000001 00000000",
		"trailing byte":     "0b 00000000 00000000 00000000 00",
		"string cut":        "0b 00000001 00000009 31",
		"string of -1":      "0b 00000001 ffffffff",
		"only a type":       "0b",
		"count of half int": "0b 0000",
	}
	for name, text := range bad {
		message, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if dirs, err := DecodeLocalDirs(message); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: got %v, %v", name, dirs, err)
		}
	}
}

func TestReadFrame(t *testing.T) {
	whole := RPCResponse{ID: 3, Body: []byte("body")}.Append(nil)
	tests := []struct {
		name  string
		input []byte
		max   int
		err   error
	}{
		{"whole", whole, 16, nil},
		{"nothing", nil, 16, io.EOF},
		{"cut in head", whole[:5], 16, io.ErrUnexpectedEOF},
		{"cut before message", whole[:9], 16, io.ErrUnexpectedEOF},
		{"cut in message", whole[:20], 16, io.ErrUnexpectedEOF},
		{"one byte over the cap", whole, 15, ErrProtocol},
		{"length below its head", []byte{0, 0, 0, 0, 0, 0, 0, 8, 4}, 16, ErrProtocol},
		{"length over int64", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 4}, 16, ErrProtocol},
		{"HTTP", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 1 << 20, ErrProtocol},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			typ, message, err := ReadFrame(bytes.NewReader(test.input), test.max)
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			if err == nil && (typ != TypeRPCResponse || !bytes.Equal(message, whole[9:])) {
				t.Errorf("got type %d and %x", typ, message)
			}
		})
	}
}

func TestRemoteErrorClass(t *testing.T) {
	tests := []struct{ text, class, message string }{
		{"java.io.IOException: No space left on device\n\tat x.Y.z(Y.java:1)", "java.io.IOException", "remote: java.io.IOException: No space left on device"},
		{"java.lang.NullPointerException\n\tat x", "java.lang.NullPointerException", "remote: java.lang.NullPointerException"},
		{"a.B$C: x", "a.B$C", "remote: a.B$C: x"},
		{"java.io.IOException: stream\n\tat x\nCaused by: a.B: c\n\tat y\nCaused by: java.io.IOException: No space left on device\n\t... 9 more",
			"java.io.IOException", "remote: java.io.IOException: stream (java.io.IOException: No space left on device)"},
		{"no exception here", "", "remote: no exception here"},
		{"", "", "remote: "},
	}
	for _, test := range tests {
		e := &RemoteError{Text: test.text}
		if e.Class() != test.class || e.Error() != test.message {
			t.Errorf("%q: got class %q, message %q", test.text, e.Class(), e.Error())
		}
	}
}

func TestFailureTextIsCut(t *testing.T) {
	frame := RPCFailure{ID: 1, Text: strings.Repeat("x", maxFailureText) + "tail"}.Append(nil)
	var m RPCFailure
	if err := m.Decode(frame[frameHead:]); err != nil || len(m.Text) != maxFailureText {
		t.Errorf("kept %d bytes, %v", len(m.Text), err)
	}
}
