package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// inlineBody is the largest body that is copied behind its head, to go out with it in one write.
	inlineBody = 64 << 10
	// copyChunk is what is written at once of a body that sendfile can't send. The stall watchdog sees
	// only whole chunks.
	copyChunk = 64 << 10
	// sendfileChunk bounds one sendfile call, which reads from the disk and can't be interrupted.
	sendfileChunk = 1 << 20
)

// framePool holds buffers for a frame with an inline body, or for one chunk.
type framePool struct{ pool sync.Pool }

func (p *framePool) get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, inlineBody+1<<10)
}

// put takes a buffer back, unless it has outgrown its use.
func (p *framePool) put(b []byte) {
	if cap(b) <= 2*inlineBody {
		p.pool.Put(&b)
	}
}

// errAnswered stops a body whose request was answered before its end: the other side has refused it.
var errAnswered = errors.New("answered in the middle of the body")

// write sends a frame and its streamed body. It reports false without an error when writing was cut
// off, so that only the other side can say what the request came to.
func (c *Conn) write(ctx context.Context, due <-chan answer, frame []byte, body Body) (whole bool, err error) {
	select {
	case c.writer <- struct{}{}:
		defer func() { <-c.writer }()
	case <-ctx.Done():
		return false, ContextError(ctx)
	case <-c.done:
		return false, c.Err()
	}
	if err := c.Err(); err != nil {
		return false, err
	}
	release := c.interruptWrites(ctx)
	if err = c.writeAll(frame); err == nil && body != nil {
		err = c.writeBody(due, body)
	}
	release()
	var bad *BodyError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &bad):
		c.fail(fmt.Errorf("%w: %s", ErrAborted, err.Error())) // the others must not take it for their own body
		return false, err
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		c.fail(ErrAborted)
		return false, ContextError(ctx)
	default:
		c.breakOff(err)
		return false, nil
	}
}

// interruptWrites makes writing fail when ctx ends. The returned function must be called after writing.
func (c *Conn) interruptWrites(ctx context.Context) (release func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.nc.SetWriteDeadline(time.Unix(1, 0)) // fails only on a closed connection
		close(fired)
	})
	return func() {
		if !stop() {
			<-fired
			_ = c.nc.SetWriteDeadline(time.Time{})
		}
	}
}

func (c *Conn) writeAll(b []byte) error {
	_, err := c.nc.Write(b)
	c.touch()
	return err
}

// writeBody sends a body piece by piece, with sendfile when both sides can.
func (c *Conn) writeBody(due <-chan answer, body Body) error {
	file := c.sendfileSource(body)
	buf := c.frames.get()[:copyChunk]
	defer c.frames.put(buf)
	for off, size := int64(0), body.Size(); off < size; {
		if len(due) > 0 {
			return errAnswered
		}
		if file != nil {
			n, err := c.sendfile(file, off, int(min(size-off, sendfileChunk)))
			off += int64(n)
			if errors.Is(err, errNoSendfile) {
				file = nil
			} else if err != nil {
				return err
			}
			continue
		}
		part := buf[:min(size-off, copyChunk)]
		if err := readBody(body, part, off); err != nil {
			return err
		}
		if err := c.writeAll(part); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}

// readBody fills b from a body at an offset.
func readBody(body Body, b []byte, off int64) error {
	n, err := body.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &BodyError{Offset: off + int64(n), Err: err}
}

// sendfileSource is the descriptor of a body that sendfile may read, or nil.
func (c *Conn) sendfileSource(body Body) syscall.RawConn {
	file, ok := body.(syscall.Conn)
	if !ok || c.raw == nil {
		return nil
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil // the copying path finds out what is wrong with the file
	}
	return raw
}

// errNoSendfile asks for the copying path: this file or file system has no sendfile, or reading fails
// in a way that only reading can tell.
var errNoSendfile = errors.New("sendfile not possible")

// sendfile sends up to n bytes from an offset of a file. The file's own offset is neither used nor moved: many
// uploads may share one descriptor.
func (c *Conn) sendfile(file syscall.RawConn, off int64, n int) (int, error) {
	var sent int
	var sendErr error
	err := c.raw.Write(func(socket uintptr) bool {
		controlErr := file.Control(func(fd uintptr) {
			for {
				sent, sendErr = unix.Sendfile(int(socket), int(fd), &off, n)
				if sendErr != unix.EINTR {
					return
				}
			}
		})
		if controlErr != nil {
			sendErr = errNoSendfile
		}
		return sendErr != unix.EAGAIN // false: wait until the socket takes more
	})
	switch {
	case err != nil:
		return 0, err
	case sendErr == nil && sent == 0:
		return 0, &BodyError{Offset: off, Err: io.ErrUnexpectedEOF}
	case sendErr == nil:
		c.touch()
		return sent, nil
	case isNetworkError(sendErr):
		return 0, os.NewSyscallError("sendfile", sendErr)
	default:
		return 0, errNoSendfile
	}
}

// isNetworkError tells errors of the socket from those of the file.
func isNetworkError(err error) bool {
	for _, e := range []error{unix.EPIPE, unix.ECONNRESET, unix.ECONNABORTED, unix.ENOTCONN, unix.ETIMEDOUT,
		unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.ENETRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
