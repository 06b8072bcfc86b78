package driver

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Names of the driver's RPC endpoints (CoarseGrainedSchedulerBackend.ENDPOINT_NAME and
// BlockManagerMaster.DRIVER_ENDPOINT_NAME, Spark 3.4 to 4.3).
const (
	schedulerEndpoint = "CoarseGrainedScheduler"
	blocksEndpoint    = "BlockManagerMaster"
)

// Address takes host and port out of a driver URL as executors get it with --driver-url:
// spark://CoarseGrainedScheduler@host:port. An IPv6 address comes back without its brackets.
func Address(driverURL string) (host string, port int, err error) {
	fail := func(why string) (string, int, error) {
		return "", 0, fmt.Errorf("driver URL %q: %s", driverURL, why)
	}
	rest, ok := strings.CutPrefix(driverURL, "spark://"+schedulerEndpoint+"@")
	if !ok {
		return fail("does not begin with spark://" + schedulerEndpoint + "@")
	}
	host, port, err = splitAddress(rest)
	switch {
	case err != nil:
		return fail(err.Error())
	case strings.ContainsAny(host, "/@ "):
		return fail("no host")
	}
	return host, port, nil
}

// splitAddress takes host:port apart.
func splitAddress(address string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(digits)
	switch {
	case host == "":
		return "", 0, errors.New("no host")
	case err != nil || port < 1 || port > 65535:
		return "", 0, errors.New("no port")
	}
	return host, port, nil
}

// bracketed is the host as it stands in URLs and in Spark's own addresses.
func bracketed(host string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
}
