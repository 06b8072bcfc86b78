package driver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// How FindREST searches: spark.ui.port is 4040, and a driver that finds it taken tries the next, up
// to spark.port.maxRetries (16) times. The very first REST request of a driver's life starts its JSON
// servlets: 1.1 s and more on an idle machine (3.5.9, 4.1.4, 4.3.0).
const (
	firstUIPort  = 4040
	uiPorts      = 16
	findParallel = 8
	findConnect  = 300 * time.Millisecond
	findAnswer   = 5 * time.Second
)

// FindREST looks on the driver's host for the port whose REST interface knows the application: the
// user interfaces of several applications share a host. Without ports it tries 4040 to 4055. Each port
// gets 300 ms to connect and 5 s to answer, eight at a time. The error wraps ErrNoREST when none is the
// right one, which says nothing about the driver.
func FindREST(ctx context.Context, d wire.Dialer, host, app string, ports []int) (*REST, error) {
	if len(ports) == 0 {
		ports = defaultPorts()
	}
	find, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, findParallel)
		found = make(chan int, len(ports))
	)
	for _, port := range ports {
		wg.Go(func() {
			select {
			case slots <- struct{}{}:
			case <-find.Done():
				return
			}
			defer func() { <-slots }()
			if serves(find, d, host, app, port) {
				found <- port
			}
		})
	}
	go func() {
		wg.Wait()
		close(found)
	}()
	port, ok := <-found
	cancel()
	wg.Wait()
	if ok {
		return newREST(d, host, port, app, restConnect, restTimeout), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("find REST of %s at %s: %w", app, host, classify(wire.ContextError(ctx)))
	}
	return nil, fmt.Errorf("%w: %s at %s, ports %v", ErrNoREST, app, host, ports)
}

func defaultPorts() []int {
	ports := make([]int, uiPorts)
	for i := range ports {
		ports[i] = firstUIPort + i
	}
	return ports
}

// serves asks one port whether it knows the application.
func serves(ctx context.Context, d wire.Dialer, host, app string, port int) bool {
	r := newREST(d, host, port, app, findConnect, findConnect+findAnswer)
	defer r.Close()
	var v struct {
		ID string `json:"id"`
	}
	return r.object(ctx, r.appPath(""), &v) == nil && v.ID == app
}
