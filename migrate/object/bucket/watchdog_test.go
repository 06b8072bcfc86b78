package bucket

import (
	"bytes"
	"context"
	"errors"
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
