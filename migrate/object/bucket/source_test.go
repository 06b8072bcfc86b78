package bucket

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// short says that it has more than it has.
type short struct {
	*bytes.Reader
	size int64
}

func (s short) Size() int64 { return s.size }

func TestDigest(t *testing.T) {
	large := make([]byte, 3*bufferSize+5)
	for i := range large {
		large[i] = byte(i >> 10)
	}
	var (
		buffers Buffers
		bad     *BodyError
	)
	w := Watch(t.Context(), Settings{})
	defer w.Stop()
	for _, size := range []int{0, 1, bufferSize, bufferSize + 1, len(large) - 2} {
		sum, want := crc32.NewIEEE(), large[2:2+size]
		content, err := w.Body(bytes.NewReader(large)).Digest(sum, 2, int64(size), &buffers)
		if err != nil || sum.Sum32() != crc32.ChecksumIEEE(want) || (content != nil) != (size <= bufferSize) || content != nil && !bytes.Equal(content, want) {
			t.Errorf("%d bytes: %d returned, %v", size, len(content), err)
		}
	}
	for _, size := range []int{10, len(large)} {
		cut := short{bytes.NewReader(large[:size]), int64(size) + 2}
		if _, err := w.Body(cut).Digest(io.Discard, 0, cut.size, &buffers); !errors.As(err, &bad) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes, cut off: %v", size, err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Watch(over, Settings{}).Body(cut).Digest(io.Discard, 0, int64(size), &buffers); !errors.Is(err, context.Canceled) || errors.As(err, &bad) {
			t.Errorf("%d bytes, context over: %v", size, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	soon := time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
	for value, want := range map[string][2]time.Duration{
		"": {0, 0}, "7": {7 * time.Second, 7 * time.Second}, "-3": {0, 0}, "soon": {0, 0}, "999999999": {time.Hour, time.Hour},
		soon: {50 * time.Second, time.Minute}, "Thu, 01 Jan 1970 00:00:00 GMT": {0, 0},
	} {
		if got := RetryAfter(http.Header{"Retry-After": {value}}); got < want[0] || got > want[1] {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestCheckEndpoint(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"https://storage.example.com": true, "http://127.0.0.1:9000/account": true, "": false, "127.0.0.1:9000": false,
		"ftp://host": false, "https://": false, "https://user:secret@host": false, "https://host?sig=secret": false, "http://ho st": false,
	} {
		_, err := CheckEndpoint(endpoint)
		if (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

func TestPlain(t *testing.T) {
	err := Plain(&url.Error{Op: "Put", URL: "https://host/?sig=secret", Err: io.ErrUnexpectedEOF})
	if !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestDownload(t *testing.T) {
	body := func(s string, left int64) *Download {
		return &Download{
			Watch: Watch(t.Context(), Settings{}), Body: io.NopCloser(strings.NewReader(s)), Left: left,
			Fail: func(err error) error { return &Error{Op: "get", Err: err} },
		}
	}
	for _, test := range []struct {
		content string
		left    int64
		want    string
		ok      bool
	}{{"abc", 3, "abc", true}, {"abcdef", 3, "abc", true}, {"ab", 3, "ab", false}, {"", 0, "", true}} {
		d := body(test.content, test.left)
		got, err := io.ReadAll(d)
		var e *Error
		if string(got) != test.want || (err == nil) != test.ok || err != nil && !errors.As(err, &e) {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
		d.Close()
	}
}
