package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lifeboat/lifeboat/migrate/socket"
)

// read hands out answers until the connection ends. It is the only reader, and the stall watchdog.
func (c *Conn) read() {
	defer close(c.readerDone)
	r := bufio.NewReaderSize(watched{c}, 16<<10)
	var err error
	for err == nil {
		var t FrameType
		var message []byte
		if t, message, err = ReadFrame(r, c.opts.MaxReply+8+4); err == nil {
			err = c.deliver(t, message)
		}
	}
	c.fail(readError(err))
}

// deliver gives an answer to the request that awaits it. One that nobody awaits is dropped.
func (c *Conn) deliver(t FrameType, message []byte) error {
	var id int64
	var a answer
	switch t {
	case TypeRPCResponse:
		var m RPCResponse
		if err := m.Decode(message); err != nil {
			return err
		}
		id, a.payload = m.ID, m.Body
	case TypeRPCFailure:
		var m RPCFailure
		if err := m.Decode(message); err != nil {
			return err
		}
		id, a.err = m.ID, &RemoteError{Text: m.Text}
	case TypeRPCRequest, TypeOneWay:
		return nil // a driver may talk back over the same connection; a client has nothing to say to it
	default:
		return fmt.Errorf("%w: answer of type %d", ErrProtocol, t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if due, ok := c.pending[id]; ok {
		delete(c.pending, id)
		due <- a
	}
	return nil
}

// readError says why reading ended.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("closed by the other side: %w", err)
	}
	return err
}

// watched reads from the connection and looks for a stall whenever its read deadline passes.
type watched struct{ c *Conn }

func (w watched) Read(p []byte) (int, error) {
	for {
		n, err := w.c.nc.Read(p)
		if n > 0 {
			w.c.touch()
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if err := w.c.watch(); err != nil {
			return 0, err
		}
	}
}

// watch says if the connection has stalled, and sets the time of the next look. Bytes that leave this machine's
// buffers move, too: a whole block can wait there, and on a slow network for longer than Stall.
func (c *Conn) watch() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	left := socket.Unsent(c.raw)
	if left < c.left {
		c.touch()
	}
	c.left = left
	idle := time.Since(c.epoch) - time.Duration(c.progress.Load())
	if len(c.pending) == 0 {
		idle = 0
	}
	if idle >= c.opts.Stall {
		return fmt.Errorf("%w: nothing moved for %v, %d answers due", ErrStalled, idle.Round(time.Millisecond), len(c.pending))
	}
	return c.nc.SetReadDeadline(time.Now().Add(min(c.opts.Stall-idle, c.opts.Stall/looks)))
}

// looks is how often in the time of a stall the buffers are looked at.
const looks = 4

// breakOff ends writing. Answers that are already on their way may still arrive, then the connection ends:
// an executor that refuses an upload says why and closes at once, so that writing fails before its
// word is read.
func (c *Conn) breakOff(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
		_ = c.nc.SetReadDeadline(time.Now().Add(drainTime)) // fails only on a closed connection
	}
}
