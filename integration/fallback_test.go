//go:build integration

package integration

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// place is where an application reads copies from, and how it and an agent are told.
type place struct {
	conf  map[string]string
	agent lab.AgentOptions
	dir   string // where its objects lie on this machine
}

// inS3 is a bucket of a server of its own. The agent has credentials of its own, as on a real node.
func inS3(t *testing.T, c *lab.Cluster) place {
	t.Helper()
	v, err := c.Servers().Versity(deadline(t, 10*time.Minute)) // the first time it is built
	must(t, err)
	return place{
		conf: v.SparkConf("copies"), dir: filepath.Join(v.Folder, v.Bucket, "copies"),
		agent: lab.AgentOptions{Binary: binary(t), Env: []string{"AWS_ACCESS_KEY_ID=" + v.Key, "AWS_SECRET_ACCESS_KEY=" + v.Secret}},
	}
}

// inFolder is a folder that all nodes share.
func inFolder(t *testing.T, c *lab.Cluster) place {
	t.Helper()
	dir := filepath.Join(c.Dir(), "shared")
	must(t, os.Mkdir(dir, 0o755))
	return place{
		conf: map[string]string{"spark.storage.decommission.fallbackStorage.path": "file://" + dir + "/"}, dir: dir,
		agent: lab.AgentOptions{Binary: binary(t)},
	}
}

// with adds settings to those of the place.
func (p place) with(more map[string]string) map[string]string {
	conf := maps.Clone(p.conf)
	maps.Copy(conf, more)
	return conf
}

// startAgent starts an agent that knows the place, with more configuration.
func (p place) startAgent(t *testing.T, c *lab.Cluster, n *lab.Node, config string) *lab.Agent {
	t.Helper()
	o := p.agent
	o.Config = config
	a, err := c.StartAgent(deadline(t, time.Minute), n, o)
	must(t, err)
	return a
}

// objects counts the outputs of one shuffle in the place, by their index.
func (p place) objects(t *testing.T, app *lab.App, shuffle int) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.dir, app.ID, strconv.Itoa(shuffle), "*", "*.index"))
	must(t, err)
	return len(found)
}

// inObjects counts the outputs that a report says are saved in object storage.
func inObjects(rep *report.Report) int {
	n := 0
	for _, a := range rep.Applications {
		for _, d := range a.Destinations {
			if strings.Contains(d.Target, ":/") {
				n += d.Outputs
			}
		}
	}
	return n
}

// TestOnlyExecutor takes the node of an application's only executor: there is no peer, and a new executor on a new node
// reads everything from the fallback storage.
func TestOnlyExecutor(t *testing.T) {
	for _, tt := range []struct {
		version string
		place   func(*testing.T, *lab.Cluster) place
	}{{"3.5.9", inS3}, {"4.3.0", inS3}, {"4.1.4", inFolder}} {
		t.Run(tt.version, func(t *testing.T) {
			c := clusterWith(t, lab.Options{Spark: tt.version, S3A: tt.version != "4.1.4"})
			p := tt.place(t, c)
			first := node(t, c, lab.NodeOptions{Address: "127.0.0.2", Conf: decommission})
			// One data file goes in several parts.
			job := lab.Job{Maps: 12, KiBPerMap: 256, MsPerMap: 100, EmptyEvery: 5, BigMiB: 24}
			app := submit(t, c, lab.AppOptions{Job: job, Conf: p.conf}, 1)
			round(t, app)
			a := p.startAgent(t, c, first, "")
			a.Announce(time.Minute)
			rep := rescued(t, a)
			used, err := lab.UsageOf(a.PID())
			must(t, err)
			if used.PeakRSS > maxAgentMemory {
				t.Errorf("the agent had %d MiB in memory, want %d at most", used.PeakRSS/mib, maxAgentMemory/mib)
			}
			must(t, first.Kill())
			allSaved(t, rep)
			if n := inObjects(rep); n != job.Maps || p.objects(t, app, 0) != job.Maps {
				t.Errorf("%d outputs reported in object storage, %d lie there; want %d", n, p.objects(t, app, 0), job.Maps)
			}
			second := node(t, c, lab.NodeOptions{Address: "127.0.0.3", Conf: decommission})
			again := round(t, app)
			if again.MapTasks != 0 || again.Counted != 0 {
				t.Errorf("%d map tasks ran again, want 0", again.MapTasks)
			}
			t.Logf("Spark %s: the rescue took %v with %.1f MiB of memory, the round from object storage %v",
				tt.version, rep.Ended.Sub(rep.Began), float64(used.PeakRSS)/mib, again.Took)
			onlyExecutorAmongMaps(t, c, p, app, second, job.Maps)
		})
	}
}

// onlyExecutorAmongMaps does the same in the middle of a map stage.
func onlyExecutorAmongMaps(t *testing.T, c *lab.Cluster, p place, app *lab.App, doomed *lab.Node, maps int) {
	ctx := deadline(t, 2*time.Minute)
	must(t, app.Fresh(ctx))
	a := p.startAgent(t, c, doomed, "")
	running, err := app.StartRound(ctx)
	must(t, err)
	_, err = app.WaitStage(ctx, "some maps have run", func(s lab.Stage) bool {
		return s.IsMap() && s.Status == "ACTIVE" && s.CompleteTasks >= 4
	})
	must(t, err)
	a.Announce(time.Minute)
	rep := rescued(t, a)
	must(t, doomed.Kill())
	allSaved(t, rep)
	node(t, c, lab.NodeOptions{Address: "127.0.0.4"})
	got, err := running.Wait(ctx)
	must(t, err)
	if !got.Exact || got.MapTasks != maps || got.Counted != maps {
		t.Errorf("exact %v, %d map tasks ran, counted %d; want %d", got.Exact, got.MapTasks, got.Counted, maps)
	}
	if n := inObjects(rep); n < 4 || n >= maps {
		t.Errorf("%d outputs went to object storage, want some of %d", n, maps)
	}
}

// scaling lets the application have as many executors as it has work for, and keep those whose shuffle data is needed.
func scaling(executors, idle string) map[string]string {
	return map[string]string{
		"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.shuffleTracking.enabled": "true",
		"spark.dynamicAllocation.minExecutors": "0", "spark.dynamicAllocation.initialExecutors": executors,
		"spark.dynamicAllocation.maxExecutors": "3", "spark.dynamicAllocation.executorIdleTimeout": idle,
	}
}

// TestScaleToZero takes all nodes of an application at once, each by its own agent. Later it gets new ones.
func TestScaleToZero(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	c := clusterWith(t, lab.Options{Spark: sparkVersion(), S3A: true})
	p := inS3(t, c)
	nodes := together(t, c, lab.NodeOptions{Address: "127.0.0.2", Conf: decommission}, lab.NodeOptions{Address: "127.0.0.3", Conf: decommission})
	job := lab.Job{Maps: 16, KiBPerMap: 256, MsPerMap: 200}
	app, err := c.Submit(ctx, lab.AppOptions{Job: job, Conf: p.with(scaling("2", "1m"))})
	must(t, err)
	must(t, app.WaitExecutors(ctx, 2))
	round(t, app)
	for shuffle, order := range []string{"[objects, peers]", "[peers, objects]"} {
		t.Run(order, func(t *testing.T) {
			reports := rescueAll(t, c, p, nodes, "destinations: "+order+"\n")
			objects := 0
			for i, rep := range reports {
				allSaved(t, rep)
				objects += inObjects(rep)
				must(t, nodes[i].Kill())
			}
			must(t, lab.Until(ctx, "no executor is left", func(ctx context.Context) (bool, error) {
				left, err := app.Executors(ctx, false)
				return err == nil && len(left) == 0, nil
			}))
			nodes = together(t, c, lab.NodeOptions{Address: "127.0.0.4", Conf: decommission}, lab.NodeOptions{Address: "127.0.0.5", Conf: decommission})
			again := round(t, app)
			if again.MapTasks != 0 || again.Counted != 0 {
				t.Errorf("%d map tasks ran again, want 0", again.MapTasks)
			}
			if objects < job.Maps || p.objects(t, app, shuffle) != job.Maps {
				t.Errorf("%d outputs reported in object storage, %d lie there; want %d", objects, p.objects(t, app, shuffle), job.Maps)
			}
			must(t, app.Fresh(ctx))
			round(t, app)
		})
	}
}

// rescueAll announces the end of several nodes at once, and waits for all rescues.
func rescueAll(t *testing.T, c *lab.Cluster, p place, nodes []*lab.Node, config string) []*report.Report {
	t.Helper()
	agents := make([]*lab.Agent, len(nodes))
	for i, n := range nodes {
		agents[i] = p.startAgent(t, c, n, config)
	}
	for _, a := range agents {
		a.Announce(time.Minute)
	}
	reports := make([]*report.Report, len(nodes))
	var all sync.WaitGroup
	for i, a := range agents {
		all.Go(func() {
			rep, err := a.Report(deadline(t, 2*time.Minute))
			if err != nil {
				t.Error(err)
			}
			reports[i] = rep
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return reports
}
