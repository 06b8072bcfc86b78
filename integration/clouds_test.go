//go:build integration

package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/providers"
)

// TestClouds is the main job once for each cloud, with the time that it leaves: its own notice, in its own metadata, and
// a rescue after which no map task runs again. All in one cluster, where one node goes after the other.
func TestClouds(t *testing.T) {
	job := lab.Job{Maps: 24, Reduces: 4, KiBPerMap: 256, MsPerMap: 100, EmptyEvery: 5}
	f := launch(t, sparkVersion(), job, lab.AgentOptions{Cloud: lab.AWS})
	must(t, f.app.Warm(deadline(t, time.Minute), 4))
	for i, c := range []struct {
		cloud  lab.Cloud
		source string
	}{
		{lab.AWS, "aws-spot"}, {lab.GCP, "gcp-preempted"}, {lab.Azure, "azure-events"}, {lab.Alibaba, "alibaba-spot"}, {lab.Tencent, "tencent-spot"},
	} {
		if i > 0 {
			f.doom(t, fmt.Sprintf("127.0.0.%d", 4+i), lab.AgentOptions{Cloud: c.cloud})
			must(t, f.app.Fresh(deadline(t, time.Minute)))
		}
		t.Run(string(c.cloud), func(t *testing.T) { f.taken(t, c.cloud, c.source) })
	}
}

// taken takes the doomed node the way that its cloud does.
func (f *fleet) taken(t *testing.T, cloud lab.Cloud, source string) {
	leaving := f.doomed.Executors()
	round(t, f.app)
	here := len(tasksOf(t, f.app, leaving))
	announced := time.Now()
	f.agent.Announce(cloud.Lead())
	rep := rescued(t, f.agent)
	must(t, f.doomed.Kill())
	after := round(t, f.app)
	if after.MapTasks != 0 || after.Counted > 0 {
		t.Errorf("%d map tasks ran again, want 0", after.MapTasks)
	}
	allSaved(t, rep)
	if found, _, _ := rep.Total(); here == 0 || found.Outputs < here {
		t.Errorf("the node ran %d maps, %d were found; want some, and all", here, found.Outputs)
	}
	if rep.Notice.Source != source || rep.Notice.Kind != providers.Preemption {
		t.Errorf("notice %+v, want a preemption of %s", rep.Notice, source)
	}
	if lead := rep.Deadline.Sub(announced); lead < cloud.Lead()-2*time.Second || lead > cloud.Lead()+5*time.Second {
		t.Errorf("the deadline is %v after the notice, want %v", lead, cloud.Lead())
	}
	if rep.SecondsLeft <= 0 {
		t.Errorf("the rescue ended %.1f s after the deadline", -rep.SecondsLeft)
	}
	t.Logf("seen %v after it was announced; the rescue of %d outputs took %v of %v", rep.Notice.Seen.Sub(announced), here,
		rep.Ended.Sub(rep.Notice.Seen), cloud.Lead())
}
