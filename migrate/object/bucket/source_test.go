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

func TestSource(t *testing.T) {
	content := []byte("0123456789")
	w := Watch(t.Context(), Settings{})
	defer w.Stop()
	sum := crc32.NewIEEE()
	if err := w.Body(bytes.NewReader(content)).Hash(sum, 2, 8, make([]byte, 3)); err != nil || sum.Sum32() != crc32.ChecksumIEEE(content[2:]) {
		t.Errorf("hash of a part: %v", err)
	}
	buf := make([]byte, 8)
	var bad *BodyError
	if err := w.Body(short{bytes.NewReader(content), 12}).Hash(io.Discard, 0, 12, buf); !errors.As(err, &bad) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(over, Settings{}).Body(bytes.NewReader(content)).Hash(io.Discard, 0, 10, buf); !errors.Is(err, context.Canceled) || errors.As(err, &bad) {
		t.Errorf("context over: %v", err)
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
