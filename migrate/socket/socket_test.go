package socket

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

func TestUnsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw := Raw(conn)
	if raw == nil {
		t.Fatal("no socket under a TCP connection")
	}
	if n := Unsent(raw); n != 0 {
		t.Errorf("%d bytes before anything was written", n)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := conn.Write(make([]byte, 64<<20)); err == nil {
		t.Fatal("nobody reads, and all was written")
	}
	if n := Unsent(raw); n == 0 {
		t.Error("nothing waits, although nobody reads")
	}
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for Unsent(raw) > 0 {
		select {
		case <-ctx.Done():
			t.Fatal("it is read, and still waits")
		case <-tick.C:
		}
	}
	conn.Close()
	if n := Unsent(raw); n != 0 {
		t.Errorf("%d bytes of a closed connection", n)
	}
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	if Raw(client) != nil || Unsent(nil) != 0 {
		t.Error("a pipe has no socket")
	}
}
