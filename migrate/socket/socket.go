// Package socket looks at what is between this process and the other end of a connection.
package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Raw is the socket under a connection, also under TLS; nil where there is none.
func Raw(conn net.Conn) syscall.RawConn {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// Unsent is how many of the bytes that were written the other side's kernel has not acknowledged (tcp(7), SIOCOUTQ); 0
// where that can't be known. On a slow network megabytes can wait there while nothing else moves.
func Unsent(raw syscall.RawConn) int {
	n := 0
	if raw != nil {
		_ = raw.Control(func(fd uintptr) {
			if left, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
				n = left
			}
		})
	}
	return n
}
