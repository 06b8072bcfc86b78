package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/migrate/spark/wire/wiretest"
)

// file is a body that can be sent with sendfile.
type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

// newFile makes a file of n random bytes. Its size may be claimed to be another.
func newFile(t testing.TB, n int, claim int64) (file, []byte) {
	t.Helper()
	content := randomBytes(n)
	path := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return file{f, claim}, content
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b) // never fails
	return b
}

// badBody fails to read at an offset.
type badBody struct {
	size, failAt int64
	err          error
}

func (b badBody) Size() int64 { return b.size }

func (b badBody) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.failAt {
		return 0, b.err
	}
	return len(p), nil
}

func dial(t testing.TB, s *wiretest.Server, o wire.Options) *wire.Conn {
	t.Helper()
	c, err := wire.Dial(t.Context(), &net.Dialer{}, s.Addr(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestUploadSendsEveryByte(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		s.Answer(r.ID, []byte("stored"))
	}})
	c := dial(t, s, wire.Options{})
	meta := wire.UploadBlockStream("shuffle_0_1_0.data", []byte("object"))
	for _, n := range []int{0, 1, 64 << 10, 64<<10 + 1, 1 << 20, 3<<20 + 17} {
		f, content := newFile(t, n, int64(n))
		bodies := map[string]wire.Body{"file": f, "memory": bytes.NewReader(content)}
		if n == 0 {
			bodies["nil"] = nil
		}
		for kind, body := range bodies {
			t.Run(fmt.Sprint(kind, n), func(t *testing.T) {
				answer, err := c.Upload(t.Context(), meta, body)
				if err != nil || string(answer) != "stored" {
					t.Fatalf("got %q, %v", answer, err)
				}
				all := s.Requests()
				got := all[len(all)-1]
				if !bytes.Equal(got.Data, content) || !bytes.Equal(got.Body, meta) {
					t.Errorf("%d bytes arrived, want %d", len(got.Data), n)
				}
			})
		}
		if at, err := f.Seek(0, io.SeekCurrent); at != 0 || err != nil {
			t.Errorf("the file's own offset moved to %d, %v", at, err)
		}
	}
}

func TestCallsAndUploadsAtOnce(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		if r.Type == wire.TypeRPCRequest {
			s.Answer(r.ID, r.Body)
			return
		}
		s.Answer(r.ID, r.Data)
	}})
	c := dial(t, s, wire.Options{})
	shared, content := newFile(t, 300<<10, 300<<10)
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			if i%2 == 0 {
				if got, err := c.Upload(t.Context(), nil, shared); err != nil || !bytes.Equal(got, content) {
					t.Errorf("upload %d: %d bytes, %v", i, len(got), err)
				}
				return
			}
			body := randomBytes(i * 10_000) // some over the size that is copied
			if got, err := c.Call(t.Context(), body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("call %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestAnswersFindTheirRequests(t *testing.T) {
	const n = 5
	var waiting []wiretest.Request
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		waiting = append(waiting, r)
		if len(waiting) < n {
			return
		}
		s.Answer(999, []byte("nobody asked"))
		_, _ = s.Write(wire.RPCRequest{ID: 1, Body: []byte("a driver may ask back")}.Append(nil))
		for i := n - 1; i >= 0; i-- { // the wrong way round
			s.Answer(waiting[i].ID, waiting[i].Body)
		}
	}})
	c := dial(t, s, wire.Options{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if got, err := c.Call(t.Context(), []byte{byte(i)}); err != nil || got[0] != byte(i) {
				t.Errorf("call %d: %v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestRemoteError(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		s.Fail(r.ID, "java.io.IOException: full\n\tat x")
	}})
	c := dial(t, s, wire.Options{})
	for range 2 { // the connection lives on
		_, err := c.Call(t.Context(), nil)
		var remote *wire.RemoteError
		if !errors.As(err, &remote) || remote.Class() != "java.io.IOException" {
			t.Fatalf("got %v", err)
		}
	}
}

// An executor that refuses an upload says why and closes, while the client is still writing.
func TestRefusalInTheMiddleOfABody(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{Peek: func(s *wiretest.Session, r wiretest.Request) bool {
		s.Fail(r.ID, "org.apache.spark.storage.BlockSavedOnDecommissionedBlockManagerException: no")
		s.Close()
		return false
	}})
	big, _ := newFile(t, 32<<20, 32<<20)
	for _, body := range []wire.Body{big, bytes.NewReader(make([]byte, 32<<20))} {
		c := dial(t, s, wire.Options{})
		_, err := c.Upload(t.Context(), nil, body)
		var remote *wire.RemoteError
		if !errors.As(err, &remote) || !strings.HasSuffix(remote.Text, ": no") {
			t.Fatalf("%T: got %v", body, err)
		}
		if c.Err() == nil {
			t.Error("the connection still takes requests")
		}
		<-c.Done()
	}
}

// Nobody may take an answer that comes before the body's end for an acknowledgement.
func TestAcknowledgedTooEarly(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{Peek: func(s *wiretest.Session, r wiretest.Request) bool {
		s.Answer(r.ID, nil)
		s.Stall()
		return false
	}})
	c := dial(t, s, wire.Options{})
	big, _ := newFile(t, 32<<20, 32<<20)
	// The socket takes no more; only the end of the connection wakes the writer.
	done := make(chan error, 1)
	go func() {
		_, err := c.Upload(t.Context(), nil, big)
		done <- err
	}()
	s.Await(t, func() bool { return len(s.Sessions()) == 1 })
	s.Sessions()[0].Close()
	if err := <-done; err == nil {
		t.Error("a body that was not sent counts as stored")
	}
}

func TestContextEndsWhileWaiting(t *testing.T) {
	release := make(chan struct{})
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		if string(r.Body) == "slow" {
			<-release
		}
		s.Answer(r.ID, r.Body)
	}})
	c := dial(t, s, wire.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the rescue is over")
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, []byte("slow"))
		done <- err
	}()
	s.Await(t, func() bool { return len(s.Requests()) == 1 })
	cancel(reason)
	if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	close(release) // the late answer is dropped
	if got, err := c.Call(t.Context(), []byte("next")); err != nil || string(got) != "next" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := c.Call(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a dead context: %v", err)
	}
}

func TestContextEndsInTheMiddleOfABody(t *testing.T) {
	begun := make(chan struct{})
	s := wiretest.NewServer(t, wiretest.Script{Peek: func(s *wiretest.Session, r wiretest.Request) bool {
		begun <- struct{}{}
		s.Stall()
		return false
	}})
	big, content := newFile(t, 64<<20, 64<<20)
	for kind, body := range map[string]wire.Body{"file": big, "memory": bytes.NewReader(content)} {
		t.Run(kind, func(t *testing.T) {
			c := dial(t, s, wire.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 2)
			go func() {
				_, err := c.Upload(ctx, nil, body)
				done <- err
			}()
			<-begun
			other := make(chan error, 1)
			go func() {
				_, err := c.Call(t.Context(), nil) // waits for its turn to write
				other <- err
			}()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if err := <-other; !errors.Is(err, wire.ErrAborted) || errors.Is(err, context.Canceled) {
				t.Errorf("the other request: %v", err)
			}
			<-c.Done()
		})
	}
}

func TestDeadlineWithCause(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(*wiretest.Session, wiretest.Request) {}})
	c := dial(t, s, wire.Options{})
	reason := errors.New("the node goes away")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, reason)
	defer cancel()
	_, err := c.Upload(ctx, nil, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	_, err = wire.Dial(ctx, &net.Dialer{}, s.Addr(), wire.Options{})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, reason) {
		t.Errorf("dial: got %v", err)
	}
}

func TestBodyErrors(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{})
	broken := errors.New("broken disk")
	short, _ := newFile(t, 2<<20, 3<<20)
	small, _ := newFile(t, 10, 20)
	empty, _ := newFile(t, 0, 100<<10)
	closed, _ := newFile(t, 1<<20, 1<<20)
	closed.Close()
	tests := []struct {
		name   string
		body   wire.Body
		want   error
		offset int64
		lives  bool
	}{
		{"small file too short", small, io.ErrUnexpectedEOF, 10, true},
		{"small body unreadable", badBody{100, 0, broken}, broken, 0, true},
		{"negative size", badBody{-1, 0, broken}, nil, 0, true},
		{"large file too short", short, io.ErrUnexpectedEOF, 2 << 20, false},
		{"large file empty", empty, io.ErrUnexpectedEOF, 0, false},
		{"large body unreadable", badBody{1 << 20, 512 << 10, broken}, broken, 512 << 10, false},
		{"closed file", closed, os.ErrClosed, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, s, wire.Options{})
			_, err := c.Upload(t.Context(), nil, test.body)
			var bad *wire.BodyError
			if !errors.As(err, &bad) || test.want != nil && !errors.Is(err, test.want) || bad.Offset != test.offset {
				t.Fatalf("got %v", err)
			}
			if lives := c.Err() == nil; lives != test.lives {
				t.Errorf("connection: %v", c.Err())
			}
			if !test.lives && !errors.Is(c.Err(), wire.ErrAborted) {
				t.Errorf("connection: %v", c.Err())
			}
		})
	}
}

func TestCloseEndsEverything(t *testing.T) {
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(*wiretest.Session, wiretest.Request) {}})
	c := dial(t, s, wire.Options{})
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() {
			_, err := c.Call(t.Context(), nil)
			errs <- err
		}()
	}
	s.Await(t, func() bool { return len(s.Requests()) == cap(errs) })
	c.Close()
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, wire.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := c.Call(t.Context(), nil); !errors.Is(err, wire.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	c.Close()
}

func TestOtherSideEnds(t *testing.T) {
	tests := map[string]struct {
		handle func(*wiretest.Session, wiretest.Request)
		want   error
	}{
		"closes":            {func(s *wiretest.Session, r wiretest.Request) { s.Close() }, io.EOF},
		"truncates":         {func(s *wiretest.Session, r wiretest.Request) { s.Truncate(r.ID, []byte("abc"), 15) }, io.ErrUnexpectedEOF},
		"resets":            {func(s *wiretest.Session, r wiretest.Request) { s.Reset() }, nil},
		"sends rubbish":     {func(s *wiretest.Session, r wiretest.Request) { _, _ = s.Write([]byte("HTTP/1.1 400")) }, wire.ErrProtocol},
		"sends an upload":   {func(s *wiretest.Session, r wiretest.Request) { _, _ = s.Write(wire.UploadStream{}.Append(nil)) }, wire.ErrProtocol},
		"answers too much":  {func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, make([]byte, 101)) }, wire.ErrProtocol},
		"breaks an answer":  {func(s *wiretest.Session, r wiretest.Request) { _, _ = s.Write(brokenAnswer(4)) }, wire.ErrProtocol},
		"breaks a failure":  {func(s *wiretest.Session, r wiretest.Request) { _, _ = s.Write(brokenAnswer(5)) }, wire.ErrProtocol},
		"answers when full": {func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, make([]byte, 100)) }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := wiretest.NewServer(t, wiretest.Script{Handle: test.handle})
			c := dial(t, s, wire.Options{MaxReply: 100})
			_, err := c.Call(t.Context(), nil)
			if name == "answers when full" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v", err)
			}
			<-c.Done()
			if _, err := c.Call(t.Context(), nil); err == nil {
				t.Error("a dead connection took a request")
			}
		})
	}
}

// brokenAnswer is an answer whose inner length does not fit its frame.
func brokenAnswer(typ byte) []byte {
	b := wire.RPCResponse{ID: 1, Body: []byte("abc")}.Append(nil)
	b[8], b[20] = typ, 9
	return b
}

func BenchmarkUpload16KiB(b *testing.B) {
	s := wiretest.NewServer(b, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, nil) }})
	c := dial(b, s, wire.Options{})
	f, _ := newFile(b, 16<<10, 16<<10)
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Upload(b.Context(), nil, f); err != nil {
				b.Error(err)
			}
		}
	})
}
