//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestPeerFaults harms a peer in the middle of a rescue in one way after the other. As long as another one has room,
// nothing is recomputed, and no peer is left with an index whose data is not there.
func TestPeerFaults(t *testing.T) {
	r := startRelay(t, lab.Job{Maps: 120, KiBPerMap: 256, EmptyEvery: 10})
	t.Run("stopped", r.peerStopped)
	t.Run("proxied", r.peersProxied)
	t.Run("killed", r.peerKilled)
	// What the killed peer had acknowledged was recovered by the driver, which from then on ignores that it moves.
	// So this one holds only because the agent announces such outputs once more.
	t.Run("full", r.peerFull)
}

func (r *relay) peerStopped(t *testing.T) {
	peers := r.join(t, lab.NodeOptions{Cores: 2})
	victim := peers.Executors()[0]
	a := r.agent(t, oneByOne)
	a.Announce(2 * time.Minute)
	r.untilSaved(t, a, 10, peers)
	must(t, syscall.Kill(victim.PID, syscall.SIGSTOP))
	rep := rescued(t, a)
	r.wholeSaved(t, rep)
	after, err := replay(a)
	must(t, err)
	if left := savedAt(after, victim.ID); len(left) > 0 {
		t.Errorf("%d outputs lie at a peer that has stopped, and nowhere else", len(left))
	}
	received(t, peers)
	must(t, syscall.Kill(victim.PID, syscall.SIGKILL)) // it stays silent for ever
	r.pass(t, peers)
	t.Logf("%d outputs were copied again; the rescue took %v", count(steps(t, a), "unsaved"), rep.Ended.Sub(rep.Began))
}

func (r *relay) peerKilled(t *testing.T) {
	peers := r.join(t, lab.NodeOptions{Cores: 2})
	victim := peers.Executors()[0]
	a := r.agent(t, oneByOne)
	a.Announce(2 * time.Minute)
	before := savedAt(r.untilSaved(t, a, 10, peers), victim.ID)
	must(t, syscall.Kill(victim.PID, syscall.SIGKILL))
	rep := rescued(t, a)
	r.wholeSaved(t, rep)
	after, err := replay(a)
	must(t, err)
	if left := savedAt(after, victim.ID); len(left) > 0 {
		t.Errorf("%d outputs count as saved at a peer that is dead", len(left))
	}
	for _, m := range before {
		if !slices.ContainsFunc(steps(t, a), func(s step) bool { return s.Type == "unsaved" && s.Map == m }) {
			t.Errorf("map %d was acknowledged by the dead peer and not copied again", m)
		}
	}
	received(t, peers)
	r.pass(t, peers)
	t.Logf("%d outputs were copied again; the rescue took %v", len(before), rep.Ended.Sub(rep.Began))
}

// detour dials other addresses than asked for.
type detour map[string]string

func (d detour) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if by, ok := d[addr]; ok {
		addr = by
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// peersProxied reaches four peers through proxies. One cuts each connection after some data, in the middle of a block;
// two others swallow all data, or reset every connection, from the moment when some outputs are saved.
func (r *relay) peersProxied(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	peers := r.join(t, lab.NodeOptions{Cores: 4})
	server, err := r.StartToxiproxy(ctx)
	must(t, err)
	list, err := r.app.ExecutorsOn(ctx, peers.Address)
	must(t, err)
	var proxies []*lab.Proxy
	way := detour{}
	for _, e := range list {
		p, err := server.Proxy(ctx, "executor-"+e.ID, "127.0.0.1", e.HostPort)
		must(t, err)
		must(t, p.Add(ctx, lab.Toxic{Name: "slow", Type: "bandwidth", Stream: "upstream", Attributes: map[string]int{"rate": 8000}}))
		way[e.HostPort] = p.Listen
		proxies = append(proxies, p)
	}
	must(t, proxies[0].Add(ctx, lab.Toxic{Name: "cut", Type: "limit_data", Stream: "upstream", Attributes: map[string]int{"bytes": 900_000}}))
	harm := sync.OnceFunc(func() {
		must(t, proxies[1].Add(ctx, lab.Toxic{Name: "stall", Type: "timeout", Stream: "upstream", Attributes: map[string]int{"timeout": 0}}))
		must(t, proxies[2].Add(ctx, lab.Toxic{Name: "reset", Type: "reset_peer", Stream: "downstream", Attributes: map[string]int{"timeout": 0}}))
	})

	cfg, err := config.Parse("test", fmt.Appendf(nil, "node: {name: %q, addresses: [%q]}\nstate: %s\nproviders: {aws: {enabled: false}}\n%s",
		r.holder.Address, r.holder.Address, filepath.Join(r.Dir(), "proxied"), oneByOne))
	must(t, err)
	core, logs := observer.New(zap.DebugLevel)
	a, err := agent.New(cfg, agent.Deps{Log: zap.New(core), Registry: prometheus.NewRegistry(), Dialer: way})
	must(t, err)
	rep, err := a.Rescue(ctx, agent.Request{Deadline: time.Now().Add(2 * time.Minute), Progress: func(p agent.Progress) {
		if p.Saved.Outputs > 10 {
			harm()
		}
	}})
	must(t, err)
	r.wholeSaved(t, rep)
	retries := map[string]int{}
	for _, entry := range logs.FilterMessage("retry").All() {
		retries[entry.ContextMap()["to"].(string)]++
	}
	for _, e := range list[:3] {
		if n := retries[fmt.Sprintf("executor %s (%s)", e.ID, e.HostPort)]; n == 0 {
			t.Errorf("nothing failed at executor %s: %v", e.ID, retries)
		}
	}
	for _, d := range rep.Applications[0].Destinations {
		if strings.Contains(d.Target, list[1].HostPort) || strings.Contains(d.Target, list[2].HostPort) {
			t.Errorf("%d outputs lie at %s, which can't be reached", d.Outputs, d.Target)
		}
	}
	received(t, peers)
	r.pass(t, peers)
	t.Logf("retries %v; saved %+v; the rescue took %v", retries, rep.Applications[0].Destinations, rep.Ended.Sub(rep.Began))
}

// peerFull has a peer whose disk takes only some of the outputs.
func (r *relay) peerFull(t *testing.T) {
	small := r.join(t, lab.NodeOptions{DiskMB: 2})
	roomy := r.join(t, lab.NodeOptions{Cores: 2})
	a := r.agent(t, "")
	a.Announce(2 * time.Minute)
	rep := rescued(t, a)
	r.wholeSaved(t, rep)
	if n := len(received(t, small)); n == 0 || n > r.maps {
		t.Errorf("%d blocks lie on the small disk, want some", n)
	}
	received(t, roomy)
	if log := lab.Tail(a.Log, 1000); !strings.Contains(log, "No space left on device") {
		t.Error("the disk was never full")
	}
	r.pass(t, roomy)
	t.Logf("saved %+v; the rescue took %v", rep.Applications[0].Destinations, rep.Ended.Sub(rep.Began))
}
