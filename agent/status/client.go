package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	fetchTimeout = 3 * time.Second
	maxStatus    = 16 << 20
)

// ErrNoServer says that the configuration gives the agent no address to listen on.
var ErrNoServer = errors.New("the agent has no address to listen on (listen)")

// Fetch asks the agent that listens on addr, as the configuration's listen names it, how it is.
func Fetch(ctx context.Context, addr string) (*Status, error) {
	if addr == "" {
		return nil, ErrNoServer
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("status of the agent: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // it listens on all addresses
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/status", nil)
	if err != nil {
		return nil, fmt.Errorf("status of the agent: %w", err)
	}
	// The agent is on this machine: no proxy, and nothing to be sent on to.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("status of the agent: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status of the agent: %s answers %s: something else listens there", addr, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxStatus))
	if err != nil {
		return nil, fmt.Errorf("status of the agent: %w", err)
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil || s.Started.IsZero() {
		return nil, fmt.Errorf("status of the agent: %s answers something else: something else listens there", addr)
	}
	return &s, nil
}
