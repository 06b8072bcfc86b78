package executor

import (
	"net/netip"
	"strings"
)

// addressSet holds the names and addresses of the node in one spelling each.
type addressSet map[string]bool

func newAddressSet(addresses []string) addressSet {
	set := make(addressSet, len(addresses))
	for _, a := range addresses {
		set[NormalAddress(a)] = true
	}
	return set
}

// has is true for the node's own addresses, for all when none were given, and for "": a process that
// was not told a host name uses one of the machine it runs on.
func (s addressSet) has(host string) bool {
	return len(s) == 0 || host == "" || s[NormalAddress(host)]
}

// NormalAddress makes names and addresses comparable: it brings IP addresses into their shortest form (brackets and the IPv4-in-IPv6 prefix
// dropped) and host names into lower case.
func NormalAddress(host string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
