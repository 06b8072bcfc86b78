package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/migrate/spark/wire/wiretest"
)

const stall = 10 * time.Second

// pipe is a connection without a network, whose time is the bubble's. That the bubble ends proves that
// nothing of the connection goes on running.
func pipe(t *testing.T, script wiretest.Script, wrap func(net.Conn) net.Conn) *wire.Conn {
	here, there := net.Pipe()
	go wiretest.Serve(there, script)
	if wrap != nil {
		here = wrap(here)
	}
	c := wire.NewConn(here, wire.Options{Stall: stall})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestStallReleasesEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipe(t, wiretest.Script{Handle: func(*wiretest.Session, wiretest.Request) {}}, nil)
		time.Sleep(3 * time.Hour) // being idle is no stall
		if c.Err() != nil {
			t.Fatal(c.Err())
		}
		begin := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := c.Call(t.Context(), nil); !errors.Is(err, wire.ErrStalled) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begin); took != stall {
			t.Errorf("took %v", took)
		}
	})
}

func TestStallInTheMiddleOfABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		defer close(over)
		c := pipe(t, wiretest.Script{Peek: func(s *wiretest.Session, r wiretest.Request) bool {
			<-over // reads no further
			return false
		}}, nil)
		begin := time.Now()
		var wg sync.WaitGroup
		for range 3 { // one is writing, the others wait for their turn
			wg.Go(func() {
				if _, err := c.Upload(t.Context(), nil, bytes.NewReader(make([]byte, 1<<20))); !errors.Is(err, wire.ErrStalled) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begin); took != stall {
			t.Errorf("took %v", took)
		}
	})
}

func TestSlowIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipe(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
			for _, b := range (wire.RPCResponse{ID: r.ID, Body: []byte("at last")}).Append(nil) {
				time.Sleep(stall - time.Second)
				_, _ = s.Write([]byte{b})
			}
		}}, nil)
		if got, err := c.Call(t.Context(), nil); err != nil || string(got) != "at last" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestBytesThatLeaveAreNoStall has a network so slow that a block takes many times as long as a stall to get out of the
// buffers of this machine, where it went at once. When it leads nowhere any more, that is a stall as any other.
func TestBytesThatLeaveAreNoStall(t *testing.T) {
	t.Parallel()
	const stall, size, piece = 2 * time.Second, 2 << 20, 64 << 10
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	frozen := make(chan struct{})
	t.Cleanup(func() { close(frozen) })
	go func() {
		for end := 2 * size; ; end = size / 2 { // the second connection gets half of the block through
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.(*net.TCPConn).SetReadBuffer(piece)
			go func() {
				defer nc.Close()
				wiretest.Serve(&trickle{Conn: nc, left: end, piece: piece, pause: stall / 20, frozen: frozen},
					wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, nil) }})
			}()
		}
	}()
	upload := func() (time.Duration, error) {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.(*net.TCPConn).SetWriteBuffer(2 * size)
		c := wire.NewConn(nc, wire.Options{Stall: stall})
		defer c.Close()
		begin := time.Now()
		_, err = c.Upload(t.Context(), nil, bytes.NewReader(make([]byte, size)))
		return time.Since(begin), err
	}
	if took, err := upload(); err != nil || took < stall {
		t.Errorf("slow: %v after %v, want it to take longer than a stall", err, took)
	}
	if took, err := upload(); !errors.Is(err, wire.ErrStalled) {
		t.Errorf("frozen: %v after %v", err, took)
	}
}

// trickle reads slowly, with a pause after each piece, and nothing at all after so many bytes.
type trickle struct {
	net.Conn
	left, piece, read int
	pause             time.Duration
	frozen            chan struct{}
}

func (c *trickle) Read(p []byte) (int, error) {
	if c.left <= 0 {
		<-c.frozen
	}
	if c.read >= c.piece {
		c.read = 0
		time.Sleep(c.pause)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.piece)])
	c.left -= n
	c.read += n
	return n, err
}

// A request that was given up no longer keeps the watchdog awake.
func TestForgottenRequestIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipe(t, wiretest.Script{Handle: func(*wiretest.Session, wiretest.Request) {}}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Call(ctx, nil); err == nil {
			t.Error("answered by nobody")
		}
		time.Sleep(time.Hour)
		if c.Err() != nil {
			t.Error(c.Err())
		}
	})
}

// Wherever a connection breaks, every request ends with an error, soon, and nothing is left behind.
func TestConnectionBreaksAnywhere(t *testing.T) {
	meta := wire.UploadBlockStream("shuffle_0_1_0.data", []byte("object"))
	sizes := []int{1000, 200 << 10}
	for _, size := range sizes {
		total := len(wire.UploadStream{Meta: meta}.Append(nil)) + size
		var limits [][2]int
		for n := 0; n < total; n += 1 + n/3 {
			limits = append(limits, [2]int{-1, n})
		}
		for n := range len(wire.RPCResponse{Body: []byte("ok")}.Append(nil)) {
			limits = append(limits, [2]int{n, -1})
		}
		for _, limit := range limits {
			t.Run(fmt.Sprintf("%d bytes, read %d, write %d", size, limit[0], limit[1]), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					begin := time.Now()
					c := pipe(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, []byte("ok")) }},
						func(nc net.Conn) net.Conn { return wiretest.NewFault(nc, limit[0], limit[1]) })
					var wg sync.WaitGroup
					for range 2 {
						wg.Go(func() {
							if _, err := c.Upload(t.Context(), meta, bytes.NewReader(make([]byte, size))); err == nil {
								t.Error("succeeded")
							}
						})
					}
					wg.Wait()
					<-c.Done()
					if took := time.Since(begin); took >= stall {
						t.Errorf("took %v", took)
					}
				})
			})
		}
	}
}

func TestAnswersInSmallPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipe(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, r.Data) }},
			func(nc net.Conn) net.Conn {
				f := wiretest.NewFault(nc, -1, -1)
				f.Step = 1
				return f
			})
		for _, n := range []int{0, 1, 200 << 10} {
			content := randomBytes(n)
			if got, err := c.Upload(t.Context(), nil, bytes.NewReader(content)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes: got %d, %v", n, len(got), err)
			}
		}
	})
}
