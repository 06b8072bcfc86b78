package kube

import (
	"context"
	"errors"
	"net"

	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// Dial connects to an address as executors name it. Where the host is that of a driver whose pod is known, it is the
// pod's own address: executors name a service (in cluster mode before Spark 4.3, and where spark.driver.host is one), which
// nodes often can't resolve. A pod that does not answer leaves the name itself to be tried: a service may have other ports.
func (c *Client) Dial(ctx context.Context, next wire.Dialer, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	ip, known := c.driverIP(host)
	if err != nil || !known {
		return next.DialContext(ctx, network, address)
	}
	conn, err := next.DialContext(ctx, network, net.JoinHostPort(ip, port))
	if err == nil {
		return conn, nil
	}
	conn, named := next.DialContext(ctx, network, address)
	var unknown *net.DNSError
	switch {
	case named == nil:
		return conn, nil
	case errors.As(named, &unknown):
		return nil, err
	}
	return nil, named
}

// driverIP is the address of the only driver here that goes by a host name. An address has no other.
func (c *Client) driverIP(host string) (ip string, ok bool) {
	if c == nil || net.ParseIP(host) != nil {
		return "", false
	}
	for _, p := range c.o.Pods.Executors() {
		name, _, err := driver.Address(p.DriverURL)
		if err != nil || name != host {
			continue
		}
		at, _, known := c.DriverAddress(p)
		if !known || ok && at != ip {
			return "", false // short names mean different services in two namespaces
		}
		ip, ok = at, true
	}
	return ip, ok
}
