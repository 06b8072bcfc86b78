//go:build integration

package integration

import (
	"net/http"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// TestLab proves what the scenarios take for granted of the lab: each kind of job runs maps only when it
// has to, and proxies cut traffic.
func TestLab(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	c := cluster(t, sparkVersion())
	doomed := node(t, c, lab.NodeOptions{Address: "127.0.0.2"})
	node(t, c, lab.NodeOptions{Address: "127.0.0.3"})

	t.Run("proxy", func(t *testing.T) {
		server, err := c.StartToxiproxy(ctx)
		must(t, err)
		proxy, err := server.Proxy(ctx, "master", "127.0.0.1", c.WebUI[len("http://"):])
		must(t, err)
		get := func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxy.Listen+"/json/", nil)
			must(t, err)
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		must(t, get())
		must(t, proxy.Enable(ctx, false))
		if get() == nil {
			t.Error("a closed proxy lets a request through")
		}
	})

	sql, err := c.Submit(ctx, lab.AppOptions{Name: "sql", Cores: 2, Job: lab.Job{Kind: lab.SQL, Maps: 6, KiBPerMap: 512}})
	must(t, err)
	must(t, sql.WaitExecutors(ctx, 2))
	must(t, sql.Warm(ctx, 2))
	if first := round(t, sql); first.MapTasks == 0 {
		t.Error("the first SQL round ran no maps")
	}
	if again := round(t, sql); again.MapTasks != 0 {
		t.Errorf("the second SQL round ran %d maps, want 0", again.MapTasks)
	}
	must(t, sql.Stop(ctx))

	rdd, err := c.Submit(ctx, lab.AppOptions{Name: "rdd", Job: lab.Job{Maps: 6, KiBPerMap: 512, MsPerMap: 200}})
	must(t, err)
	must(t, rdd.WaitExecutors(ctx, 2))
	must(t, rdd.Warm(ctx, 2))
	t.Run("cached", func(t *testing.T) {
		for i, want := range []int{6, 0} {
			got, err := rdd.Cached(ctx)
			must(t, err)
			if got.Counted != want || !got.Exact {
				t.Errorf("reading %d computed %d partitions, exact %v; want %d", i+1, got.Counted, got.Exact, want)
			}
		}
	})
	running, err := rdd.StartRound(ctx)
	must(t, err)
	_, err = rdd.WaitStage(ctx, "two maps have run", func(s lab.Stage) bool { return s.IsMap() && s.CompleteTasks >= 2 })
	must(t, err)
	must(t, doomed.Kill())
	got, err := running.Wait(ctx)
	must(t, err)
	if !got.Exact || got.MapTasks <= 6 {
		t.Errorf("a node lost in the map stage: exact %v, %d maps ran, want more than 6", got.Exact, got.MapTasks)
	}
}
