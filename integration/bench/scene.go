package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/peer"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// cores are those of each executor: what production executors have at least.
const cores = 4

// Addresses that no other lab uses: an agent of another one would take this node for its own.
const doomedAddress = "127.0.9.2"

var peerAddresses = []string{"127.0.9.3", "127.0.9.4"}

// scene is an application all of whose map outputs lie on one executor, with two more to take them.
type scene struct {
	*lab.Cluster
	bench  *bench
	doomed *lab.Node
	peers  []*lab.Node
	app    *lab.App
	victim *executor.Process
	names  []string // of the shuffle files that the victim holds
	bytes  int64
}

// decommission are the settings under which Spark moves shuffle data by itself; all else is default.
var decommission = map[string]string{
	"spark.decommission.enabled":                       "true",
	"spark.storage.decommission.enabled":               "true",
	"spark.storage.decommission.shuffleBlocks.enabled": "true",
	"spark.executor.extraJavaOptions":                  "-Xshare:auto", // in place of the lab's, which start fast and compute slowly
	"spark.driver.extraJavaOptions":                    "-Xshare:auto",
}

// open runs the maps while the doomed node is the only one, then adds the peers.
func (b *bench) open(ctx context.Context, wk work) (*scene, error) {
	var log io.Writer
	if b.verbose {
		log = os.Stderr
	}
	c, err := lab.Start(ctx, lab.Options{Spark: b.spark, Log: log})
	if err != nil {
		return nil, err
	}
	if b.keep {
		c.KeepFiles()
		fmt.Fprintln(b.w, "files are kept in", c.Dir())
	}
	s := &scene{Cluster: c, bench: b}
	s.doomed, err = c.AddNode(ctx, lab.NodeOptions{
		Address: doomedAddress, Cores: cores, Conf: map[string]string{"spark.decommission.enabled": "true"},
	})
	if err != nil {
		return s, err
	}
	s.app, err = c.Submit(ctx, lab.AppOptions{
		ExecutorCores: cores, ExecutorMemoryMB: 1024, Conf: decommission,
		Job: lab.Job{Maps: wk.maps, Reduces: 4, KiBPerMap: wk.kib},
	})
	if err != nil {
		return s, err
	}
	if err := s.runMaps(ctx, wk); err != nil {
		return s, err
	}
	if err := s.addPeers(ctx); err != nil {
		return s, err
	}
	if b.cold {
		return s, nil
	}
	return s, s.warm(ctx)
}

func (s *scene) runMaps(ctx context.Context, wk work) error {
	if err := s.app.WaitExecutors(ctx, 1); err != nil {
		return err
	}
	first, err := s.app.Round(ctx)
	if err != nil {
		return err
	}
	if !first.Exact || first.MapTasks != wk.maps {
		return fmt.Errorf("the first round is wrong: %+v", first)
	}
	held, err := shuffleFiles(s.doomed.LocalDirs())
	if err != nil {
		return err
	}
	for _, f := range held {
		s.names = append(s.names, f.name)
		s.bytes += f.bytes
	}
	if len(s.names) != 2*wk.maps {
		return fmt.Errorf("the executor holds %d shuffle files, want %d", len(s.names), 2*wk.maps)
	}
	s.victim, err = onlyExecutor(s.doomed)
	return err
}

// onlyExecutor is the process of a node's one executor. The caller closes it.
func onlyExecutor(n *lab.Node) (*executor.Process, error) {
	executors := n.Executors()
	if len(executors) != 1 {
		return nil, fmt.Errorf("%d executors on the doomed node, want 1", len(executors))
	}
	start, err := executor.StartTime("/proc", executors[0].PID)
	if err != nil {
		return nil, err
	}
	return executor.Open(executors[0].PID, start)
}

func (s *scene) addPeers(ctx context.Context) error {
	var starts errgroup.Group
	s.peers = make([]*lab.Node, 2)
	for i, address := range peerAddresses {
		starts.Go(func() (err error) {
			s.peers[i], err = s.AddNode(ctx, lab.NodeOptions{Address: address, Cores: cores})
			return err
		})
	}
	if err := starts.Wait(); err != nil {
		return err
	}
	return s.app.WaitExecutors(ctx, 1+len(s.peers))
}

// warmUps are how many outputs each peer receives before the clock runs. So many because Java compiles what
// runs thousands of times: the first 1,000 take ten times the CPU of those after 8,000, and whoever came first
// would pay for most of it.
const warmUps = 8000

// warm sends outputs of no shuffle to the peers, so that their code for receiving, and the driver's for
// hearing of it, is compiled for whoever comes then.
func (s *scene) warm(ctx context.Context) error {
	dialect, _, ok := java.ForVersion(s.Spark, scalaOf(s.Spark))
	if !ok {
		return fmt.Errorf("no dialect for Spark %s", s.Spark)
	}
	executors, err := s.app.Executors(ctx, false)
	if err != nil {
		return err
	}
	var all errgroup.Group
	for _, e := range executors {
		if e.Host() == doomedAddress {
			continue
		}
		all.Go(func() error {
			p := peer.New(peer.Options{
				Target: migrate.Target{Executor: e.ID, Host: e.Host(), Port: e.Port()}, App: s.app.ID, Dialect: dialect,
				Dialer: dialer, Connections: cores,
			})
			defer p.Close()
			return warmPeer(ctx, p, s.app.ID)
		})
	}
	return all.Wait()
}

// scalaOf is the version of Scala that PyPI's Spark is built with.
func scalaOf(spark string) string {
	if strings.HasPrefix(spark, "3.") {
		return "2.12"
	}
	return "2.13"
}

// warmShuffle is an id that the application never reaches.
const warmShuffle = 1 << 20

func warmPeer(ctx context.Context, p *peer.Peer, app string) error {
	var puts errgroup.Group
	puts.SetLimit(2 * cores)
	for i := range warmUps {
		puts.Go(func() error {
			_, err := p.Put(ctx, &migrate.Output{
				ID: migrate.OutputID{App: app, Shuffle: warmShuffle, Map: int64(i)}, Index: blob(40), Data: blob(16 << 10),
			})
			return err
		})
	}
	return puts.Wait()
}
