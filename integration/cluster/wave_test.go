//go:build integration

package cluster

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// wave announces the end of both nodes, once the job has a shuffle on both: that of node-b first, which has the driver, and that of
// node-a when between returns. It returns node-a's report.
func (e *emptying) wave(within time.Duration, between func()) *report.Report {
	e.t.Helper()
	ctx := e.t.Context()
	e.settle()
	_, err := e.Fresh(ctx)
	must(e.t, err)
	before := e.reports()
	begin := time.Now()
	e.t.Cleanup(func() {
		for _, n := range shared.Nodes() {
			n.Metadata.Withdraw()
			giveBack(e.t, n.Name)
		}
	})
	shared.Metadata(other).Announce(within)
	between()
	shared.Metadata(emptied).Announce(within)
	gap := time.Since(begin)
	e.t.Logf("both notices came within %v", gap.Round(time.Microsecond))
	if gap > time.Second {
		e.t.Errorf("there were %v between the notices: not what is called a wave", gap)
	}
	r, err := shared.Report(ctx, emptied, e.Job, before...)
	must(e.t, err)
	found, saved, lost := r.Total()
	e.t.Logf("report %s: %s, found %d, saved %d, lost %d, %+v", r.ID, r.Outcome, found.Outputs, saved.Outputs, lost.Outputs, r.Applications[0].Destinations)
	if found.Outputs == 0 || saved.Outputs > 0 {
		e.t.Errorf("%d outputs were found, and %d saved", found.Outputs, saved.Outputs)
	}
	for _, d := range r.Applications[0].Destinations {
		if !strings.HasPrefix(d.Target, "s3a://") {
			e.t.Errorf("%d outputs went to %s", d.Outputs, d.Target)
		}
	}
	return r
}

// marked returns when everybody can see that node-b goes.
func (e *emptying) marked() {
	e.t.Helper()
	must(e.t, lab.Until(e.t.Context(), "node-b is marked", func(ctx context.Context) (bool, error) {
		var n struct {
			Metadata struct{ Annotations map[string]string }
		}
		err := shared.Do(ctx, "GET", "/api/v1/nodes/"+other, nil, &n)
		return n.Metadata.Annotations[kube.OwnMark] != "", err
	}))
}

// atOnce is nothing between the notices: each agent begins without knowing of the other node's.
func atOnce() {}

// relay makes a server of this machine reachable on a node.
func relay(t *testing.T, node, address, server string) {
	t.Helper()
	l, err := shared.Node(node).Listen(address)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", server)
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
}

// TestWave takes both nodes within a second: nothing goes from one to the other.
func TestWave(t *testing.T) {
	servers := lab.NewServers(t.TempDir(), os.Stderr)
	t.Cleanup(servers.Close)
	s3, err := servers.Versity(t.Context())
	must(t, err)
	e := newEmptying(t, JobOptions{Name: "wave", MapTime: 100 * time.Millisecond, Conf: map[string]string{
		"spark.hadoop.fs.s3a.access.key": s3.Key, "spark.hadoop.fs.s3a.secret.key": s3.Secret,
	}})
	e.within("nothing is left", func(t *testing.T) {
		r := e.wave(15*time.Second, e.marked)
		a := r.Applications[0]
		if r.Outcome != report.None || a.Lost.Outputs != a.Found.Outputs || !strings.Contains(a.Error, "the nodes of all others go too") {
			t.Errorf("outcome %s, lost %d of %d: %s", r.Outcome, a.Lost.Outputs, a.Found.Outputs, a.Error)
		}
		for _, x := range a.Executors {
			if x.Told || x.Ended {
				t.Errorf("executor %s was told or ended: %+v", x.ID, x)
			}
		}
		e.nothingLost() // all are still there
		e.reportsDriver()
	})
	for name, between := range map[string]func(){"a third place is left": e.marked, "a third place is left, both notices at once": atOnce} {
		e.within(name, func(t *testing.T) {
			const address = "127.0.0.1:9100"
			relay(t, emptied, address, strings.TrimPrefix(s3.Endpoint, "http://"))
			must(t, shared.InstallAgent(t.Context(), AgentOptions{
				Config: "objects: {path: 's3a://" + s3.Bucket + "/copies', endpoint: 'http://" + address + "', region: us-east-1, pathStyle: 'true', credentialsFromApplication: true}\n",
			}))
			r := e.wave(25*time.Second, between)
			if a := r.Applications[0]; a.Stored.Outputs != a.Found.Outputs {
				t.Errorf("%d of %d outputs are in object storage", a.Stored.Outputs, a.Found.Outputs)
			}
		})
	}
}

// reportsDriver looks for what node-b's agent says: the driver goes with it.
func (e *emptying) reportsDriver() {
	e.t.Helper()
	reports, err := shared.Reports(other)
	must(e.t, err)
	for _, r := range reports {
		if len(r.Applications) == 1 && r.Applications[0].ID == e.App && strings.Contains(r.Applications[0].Error, "the driver runs on this node") {
			return
		}
	}
	e.t.Errorf("node-b does not report that the driver goes with it: %+v", reports)
}
