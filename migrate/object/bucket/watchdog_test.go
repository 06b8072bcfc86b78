package bucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

var errClient = errors.New("what a client says")

func TestWatchdogStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(t.Context(), Settings{Stall: time.Second, Timeout: time.Minute})
		defer w.Stop()
		body, begin := w.Body(bytes.NewReader(make([]byte, 100))), time.Now()
		for i := range 10 {
			<-time.After(900 * time.Millisecond)
			if _, err := body.ReadAt(make([]byte, 10), int64(10*i)); err != nil {
				t.Fatal(err)
			}
		}
		<-w.Context().Done()
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("ended after %v", took)
		}
		err := w.Explain(errClient)
		if !errors.Is(err, ErrStalled) || errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

// TestWatchdogRests: who reads slowly because he passes it on slowly waits for nobody.
func TestWatchdogRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(t.Context(), Settings{Stall: time.Second, Timeout: time.Minute})
		defer w.Stop()
		for range 5 {
			w.Rest()
			<-time.After(time.Minute)
			w.Wake()
			<-time.After(900 * time.Millisecond)
		}
		if err := w.Context().Err(); err != nil {
			t.Errorf("ended while nobody waited: %v", w.Explain(errClient))
		}
		<-w.Context().Done()
		if err := w.Explain(errClient); !errors.Is(err, ErrStalled) {
			t.Errorf("%v", err)
		}
	})
}

func TestWatchdogTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(t.Context(), Settings{Stall: time.Minute, Timeout: time.Second})
		defer w.Stop()
		<-w.Context().Done()
		if err := w.Explain(errClient); !errors.Is(err, ErrTooSlow) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// limited is a body under a limit of bandwidth.
type limited struct{ *bytes.Reader }

func (l limited) ReadAt(p []byte, off int64) (int, error) {
	<-time.After(20 * time.Second)
	return l.Reader.ReadAt(p, off)
}

// TestWatchdogLimitedBody: the time that a body takes is not the storage's.
func TestWatchdogLimitedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(t.Context(), Settings{Stall: time.Hour, Timeout: time.Minute})
		defer w.Stop()
		body, begin := w.Body(limited{bytes.NewReader(make([]byte, 100))}), time.Now()
		for i := range 10 {
			if _, err := body.ReadAt(make([]byte, 10), int64(10*i)); err != nil {
				t.Fatalf("read %d: %v", i, w.Explain(err))
			}
		}
		<-w.Context().Done()
		if took := time.Since(begin); took != 200*time.Second+time.Minute || !errors.Is(w.Explain(errClient), ErrTooSlow) {
			t.Errorf("ended after %v: %v", took, w.Explain(errClient))
		}
	})
}

func TestWatchdogExplains(t *testing.T) {
	w := Watch(t.Context(), Settings{})
	if w.Explain(nil) != nil || !errors.Is(w.Explain(errClient), errClient) {
		t.Error("an error of the client is its own")
	}
	w.Stop()
	if !errors.Is(w.Explain(errClient), errClient) {
		t.Error("the end of the request explains nothing")
	}
	cause := errors.New("the node goes")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, cause)
	defer cancel()
	w = Watch(ctx, Settings{})
	defer w.Stop()
	if err := w.Explain(errClient); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

// TestWatchdogSlowNetwork: what drains from the socket's buffer is progress, long after the last read of the body.
func TestWatchdogSlowNetwork(t *testing.T) {
	const size, perSecond = 2 << 20, 1 << 20
	served := make(chan int64, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n int64
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			m, err := io.CopyN(io.Discard, r.Body, perSecond/20)
			if n += m; err != nil {
				break
			}
		}
		served <- n
	}))
	server.Listener = smallBuffers{server.Listener}
	server.Start()
	defer server.Close()
	w := Watch(t.Context(), Settings{Stall: 700 * time.Millisecond})
	defer w.Stop()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPut, server.URL, w.Body(bytes.NewReader(make([]byte, size))).Section(0, size))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	client := &http.Client{Transport: &http.Transport{WriteBufferSize: size}} // the whole body leaves at once
	answer, err := client.Do(req)
	if err != nil {
		t.Fatalf("%v", w.Explain(err))
	}
	answer.Body.Close()
	if n := <-served; n != size {
		t.Errorf("%d bytes arrived", n)
	}
}

// smallBuffers are connections that take little before it is read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	return conn, err
}
