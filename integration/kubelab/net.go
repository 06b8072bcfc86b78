package kubelab

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Net is a network namespace that a file holds; "" is the one of this process. A namespace stays while its file is there,
// whoever has ended meanwhile.
type Net string

// NewNet makes a namespace and a file that holds it. It needs root.
func NewNet(file string) (Net, error) {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return "", err
	}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		own := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(own, file, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("hold the network namespace in %s: %w", file, err)
		}
		return nil
	})
	return Net(file), err
}

// Remove lets the namespace go once nobody is in it.
func (n Net) Remove() error {
	if err := unix.Unmount(string(n), unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount %s: %w", n, err)
	}
	if err := os.Remove(string(n)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// onThread runs f on an operating system thread of its own, which ends with it: its namespaces are nobody else's.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		result <- f()
	}()
	return <-result
}

// enter moves the calling thread, which must be locked, into the namespace.
func (n Net) enter() error {
	if n == "" {
		return nil
	}
	fd, err := unix.Open(string(n), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the network namespace %s: %w", n, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace %s: %w", n, err)
	}
	return nil
}

// Do runs f on a thread that is in the namespace: sockets that f opens by itself, without another goroutine, and programs that
// it starts are in there, and stay there.
func (n Net) Do(f func() error) error {
	if n == "" {
		return f()
	}
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// DialContext connects from within the namespace. The address must be an IP address: names would be asked for by other threads.
func (n Net) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	dialer := net.Dialer{Timeout: 10 * time.Second, FallbackDelay: -1}
	err = n.Do(func() error {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
