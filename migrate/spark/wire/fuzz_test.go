package wire

import (
	"bytes"
	"encoding/hex"
	"testing"
)

const fuzzMax = 1 << 20

func FuzzReadFrame(f *testing.F) {
	f.Add(RPCResponse{ID: 1, Body: []byte("x")}.Append(nil))
	f.Add(UploadStream{ID: 1, Meta: []byte("m"), Length: 9}.Append(nil))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		typ, message, err := ReadFrame(bytes.NewReader(input), fuzzMax)
		if err != nil {
			return
		}
		if again := append(appendFrameHead(nil, typ, len(message)), message...); !bytes.HasPrefix(input, again) {
			t.Errorf("read type %d, %d bytes of %x", typ, len(message), input)
		}
	})
}

func FuzzRPC(f *testing.F) {
	f.Add(RPCRequest{ID: 1, Body: []byte("x")}.Append(nil)[frameHead:])
	f.Add(RPCFailure{ID: -1, Text: "java.io.IOException: \xff"}.Append(nil)[frameHead:])
	f.Fuzz(func(t *testing.T, message []byte) {
		var request RPCRequest
		var response RPCResponse
		var failure RPCFailure
		err := request.Decode(message)
		if (response.Decode(message) == nil) != (err == nil) || (failure.Decode(message) == nil) != (err == nil) {
			t.Error("the three decoders disagree")
		}
		if err == nil && !bytes.Equal(request.Append(nil)[frameHead:], message) {
			t.Errorf("decoded %+v from %x", request, message)
		}
	})
}

func FuzzUploadStream(f *testing.F) {
	f.Add(UploadStream{ID: 1, Meta: []byte("m"), Length: 9}.Append(nil)[frameHead:])
	f.Fuzz(func(t *testing.T, message []byte) {
		var m UploadStream
		if m.Decode(message) == nil && !bytes.Equal(m.Append(nil)[frameHead:], message) {
			t.Errorf("decoded %+v from %x", m, message)
		}
	})
}

func FuzzBlockMessages(f *testing.F) {
	f.Add(UploadBlockStream("shuffle_0_1_0.data", []byte("m")))
	f.Add(UploadBlock("app", "1", "b", []byte("m"), []byte("data")))
	f.Add(GetLocalDirs("app", "1", "2"))
	f.Fuzz(func(t *testing.T, message []byte) {
		var again []byte
		if block, metadata, err := DecodeUploadBlockStream(message); err == nil {
			again = UploadBlockStream(block, metadata)
		} else if m, err := DecodeUploadBlock(message); err == nil {
			again = UploadBlock(m.App, m.Executor, m.BlockID, m.Metadata, m.Block)
		} else if app, execs, err := DecodeGetLocalDirs(message); err == nil {
			again = GetLocalDirs(app, execs...)
		} else {
			return
		}
		if !bytes.Equal(again, message) {
			t.Errorf("%x became %x", message, again)
		}
	})
}

func FuzzLocalDirs(f *testing.F) {
	recorded, err := hex.DecodeString(realLocalDirs)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(recorded)
	f.Add(LocalDirs(Folders{"1", []string{"/a", "/b"}}, Folders{"2", nil}))
	f.Fuzz(func(t *testing.T, message []byte) {
		dirs, err := DecodeLocalDirs(message)
		total := 0
		for _, d := range dirs {
			total += len(d)
		}
		if err == nil && total > len(message)/4 {
			t.Errorf("%d folders in %d bytes", total, len(message))
		}
	})
}

func FuzzEndpointMessage(f *testing.F) {
	f.Add(EndpointMessage("driver", 7077, "CoarseGrainedScheduler", []byte("m")))
	f.Fuzz(func(t *testing.T, message []byte) {
		e, err := DecodeEndpointMessage(message)
		if err == nil && !bytes.Equal(EndpointMessage(e.Host, e.Port, e.Name, e.Payload), message) {
			t.Errorf("decoded %+v from %x", e, message)
		}
	})
}
