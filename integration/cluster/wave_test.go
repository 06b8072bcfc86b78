//go:build integration

package cluster

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// wave announces the end of both nodes, once the job has a shuffle on both: that of node-b first, which has the driver, and that of
// node-a when between returns. It returns what node-a's agent reports of the job, and when the wave began.
func (e *emptying) wave(within time.Duration, between func()) (a *report.Application, begin time.Time) {
	e.t.Helper()
	ctx := e.t.Context()
	e.settle()
	_, err := e.Fresh(ctx)
	must(e.t, err)
	before := e.reports()
	begin = time.Now()
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
	if gap > 3*time.Second {
		e.t.Errorf("there were %v between the notices: not what is called a wave", gap)
	}
	r, err := shared.Report(ctx, emptied, []*Job{e.Job}, before...)
	must(e.t, err)
	a = e.In(r)
	e.t.Logf("report %s: %s, found %d, saved %d, stored %d, lost %d, %+v", r.ID, a.Outcome, a.Found.Outputs, a.Saved.Outputs, a.Stored.Outputs,
		a.Lost.Outputs, a.Destinations)
	return a, begin
}

// toExecutors is how many outputs went to other executors.
func toExecutors(a *report.Application) (n int) {
	for _, d := range a.Destinations {
		if !strings.HasPrefix(d.Target, "s3a://") {
			n += d.Outputs
		}
	}
	return n
}

// marked returns when everybody can see that node-b goes.
func (e *emptying) marked() {
	e.t.Helper()
	must(e.t, lab.Until(e.t.Context(), "node-b is marked", func(ctx context.Context) (bool, error) {
		mark, err := markOf(ctx, other)
		return mark != "", err
	}))
}

// allStored: nothing went to the node that goes too.
func (e *emptying) allStored(a *report.Application, _ time.Time) {
	e.t.Helper()
	if n := toExecutors(a); a.Stored.Outputs != a.Found.Outputs || n > 0 {
		e.t.Errorf("%d of %d outputs are in object storage, and %d went to executors", a.Stored.Outputs, a.Found.Outputs, n)
	}
}

const (
	// answered is how long an agent counts on what it was told of another node.
	answered = 3 * time.Second
	// seenBy is how long the API server may take to show a mark to those that ask it.
	seenBy = time.Second
)

// noneLost: what went to the node that goes too was sent by an agent that had asked for that node's state before the mark stood there.
func (e *emptying) noneLost(a *report.Application, begin time.Time) {
	e.t.Helper()
	if a.Saved.Outputs+a.Stored.Outputs != a.Found.Outputs {
		e.t.Errorf("%d outputs were found, %d saved and %d stored", a.Found.Outputs, a.Saved.Outputs, a.Stored.Outputs)
	}
	asked, marked := firstOf(e.t, emptied, "get", begin.Add(-answered)), firstOf(e.t, other, "patch", begin)
	e.t.Logf("%d outputs went to node-b; node-a's agent asked for it at %v, and it was marked at %v", toExecutors(a), asked, marked)
	if toExecutors(a) > 0 && (asked.IsZero() || marked.IsZero() || asked.After(marked.Add(seenBy))) {
		e.t.Error("they went there although node-a's agent could know that node-b goes")
	}
}

// firstOf is when the agent of a node first did something to node-b's object with success; zero: never since then.
func firstOf(t *testing.T, node, verb string, since time.Time) (first time.Time) {
	t.Helper()
	must(t, shared.EachRequest(func(r Request) {
		path, _, _ := strings.Cut(r.URI, "?")
		if r.User == agentUser && r.Node == node && r.Verb == verb && path == kube.NodePath(other) && r.Code == http.StatusOK &&
			r.At.After(since) && (first.IsZero() || r.At.Before(first)) {
			first = r.At
		}
	}))
	return first
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

// TestWave takes both nodes within moments: nothing goes from one to the other, unless nobody could know of that one's notice yet.
func TestWave(t *testing.T) {
	servers := lab.NewServers(t.TempDir(), os.Stderr)
	t.Cleanup(servers.Close)
	s3, err := servers.Versity(t.Context())
	must(t, err)
	e := newEmptying(t, JobOptions{Name: "wave", Conf: map[string]string{
		"spark.hadoop.fs.s3a.access.key": s3.Key, "spark.hadoop.fs.s3a.secret.key": s3.Secret,
	}})
	e.within("nothing is left", func(t *testing.T) {
		a, _ := e.wave(15*time.Second, e.marked)
		if a.Outcome != report.None || a.Lost.Outputs != a.Found.Outputs || !strings.Contains(a.Error, "the nodes of all others go too") {
			t.Errorf("outcome %s, lost %d of %d: %s", a.Outcome, a.Lost.Outputs, a.Found.Outputs, a.Error)
		}
		for _, x := range a.Executors {
			if x.Told || x.Ended {
				t.Errorf("executor %s was told or ended: %+v", x.ID, x)
			}
		}
		e.nothingLost() // all are still there
		e.reportsDriver()
	})
	for _, w := range []struct {
		name    string
		between func()
		check   func(a *report.Application, begin time.Time)
	}{
		{"a third place is left", e.marked, e.allStored},
		{"a third place is left, both notices at once", atOnce, e.noneLost},
	} {
		e.within(w.name, func(t *testing.T) {
			const address = "127.0.0.1:9100"
			relay(t, emptied, address, strings.TrimPrefix(s3.Endpoint, "http://"))
			must(t, shared.InstallAgent(t.Context(), AgentOptions{
				Config: "objects: {path: 's3a://" + s3.Bucket + "/copies', endpoint: 'http://" + address + "', region: us-east-1, pathStyle: 'true', credentialsFromApplication: true}\n",
			}))
			w.check(e.wave(25*time.Second, w.between))
		})
	}
}

// reportsDriver looks for what node-b's agent says: the driver goes with it.
func (e *emptying) reportsDriver() {
	e.t.Helper()
	reports, err := shared.Reports(other)
	must(e.t, err)
	for _, r := range reports {
		if a := e.In(r); a != nil && strings.Contains(a.Error, "the driver runs on this node") {
			return
		}
	}
	e.t.Errorf("node-b does not report that the driver goes with it: %+v", reports)
}
