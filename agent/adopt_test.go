package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/journal"
	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// estate is an executor in whose local dirs a dead one has left outputs.
type estate struct {
	*stage
	app        *sparkApp
	dead, heir *sparkExecutor
	peer       *sparkExecutor
}

func newEstate(t *testing.T, outputs int) *estate {
	t.Helper()
	s := newStage(t)
	app := s.app("app-1")
	e := &estate{stage: s, app: app, dead: app.peer("4", home), heir: app.peer("5", home), peer: app.peer("9", "node-b")}
	e.dead.unknown = true
	e.heir.backend = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
	must(t, os.MkdirAll(filepath.Join(s.files, e.heir.folder()), 0o755))
	e.heir.start(plain)
	e.dead.commits(1, outputs, 100)
	e.dead.age(time.Hour)
	return e
}

func (e *estate) adopt(change ...func(*AdoptRequest)) (*report.Report, error) {
	e.t.Helper()
	r := AdoptRequest{App: "app-1", Executor: "5", Deadline: time.Now().Add(10 * time.Second)}
	for _, c := range change {
		c(&r)
	}
	return e.agent().Adopt(e.t.Context(), r)
}

// linked are the names that the heir has beside its own.
func (e *estate) linked() []string {
	paths, _ := filepath.Glob(filepath.Join(e.files, e.heir.folder(), "*", "shuffle_*"))
	for i, p := range paths {
		paths[i] = filepath.Base(p)
	}
	return paths
}

func TestAdoptLinks(t *testing.T) {
	e := newEstate(t, 3)
	e.dead.commit(0, 4, 0)
	e.dead.age(time.Hour)
	rep, err := e.adopt()
	must(t, err)
	saved(t, rep, 4)
	if got := e.linked(); len(got) != 7 {
		t.Errorf("the executor has %v", got)
	}
	if e.heir.holds()+e.peer.holds() != 0 {
		t.Error("something was uploaded")
	}
	for _, name := range []string{"shuffle_0_1_0", "shuffle_0_2_0", "shuffle_0_3_0"} {
		e.inOrder("announced "+name+".data", "announced "+name+".index")
	}
	e.await("announced shuffle_0_4_0.index")
	e.never("announced shuffle_0_4_0.data", "told", "ended")
	if rep.Applications[0].Recompute.Known {
		t.Error("costs are known that nobody has told")
	}
	if list, err := report.List(AdoptionState(e.cfg.State), 0); err != nil || len(list) != 1 {
		t.Errorf("%d reports, %v", len(list), err)
	}
	rep, err = e.adopt() // as after a restart
	must(t, err)
	saved(t, rep, 4)
}

func TestAdoptUploads(t *testing.T) {
	e := newEstate(t, 3)
	e.cfg.Kubernetes.Volumes.Adopt = config.AdoptUpload
	rep, err := e.adopt()
	must(t, err)
	saved(t, rep, 3)
	if e.heir.holds() != 3 || e.peer.holds() != 0 || len(e.linked()) != 0 {
		t.Errorf("%d and %d uploaded, linked %v", e.heir.holds(), e.peer.holds(), e.linked())
	}
}

// TestAdoptUploadsWhereNothingCanBeLinked, and says why.
func TestAdoptUploadsWhereNothingCanBeLinked(t *testing.T) {
	e := newEstate(t, 3)
	e.app.props["spark.diskStore.subDirectories"] = "many"
	rep, err := e.adopt()
	must(t, err)
	saved(t, rep, 3)
	if e.heir.holds() != 3 || len(e.linked()) != 0 || !strings.Contains(strings.Join(rep.Applications[0].Notes, " "), "were uploaded") {
		t.Errorf("%d uploaded, linked %v, notes %q", e.heir.holds(), e.linked(), rep.Applications[0].Notes)
	}
}

// TestAdoptLeavesTheLivingAlone: what an executor calls its own is not touched, and while one that shares the dirs does not say
// what is its own, nothing is.
func TestAdoptLeavesTheLivingAlone(t *testing.T) {
	e := newEstate(t, 2)
	other := e.app.member("6", plain)
	other.commits(10, 3, 100)
	e.heir.commits(20, 3, 100)
	rep, err := e.adopt()
	must(t, err)
	saved(t, rep, 2)
	e.never("announced shuffle_0_1"+"0", "announced shuffle_0_2"+"0")
	other.set(func(x *sparkExecutor) { x.silent = true })
	e.dead.commit(0, 3, 100)
	if _, err := e.adopt(); !errors.Is(err, errSilent) {
		t.Errorf("adopted though an executor did not say what is its own: %v", err)
	}
	e.never("announced shuffle_0_3_")
}

// TestAdoptNeedsTheDriver: an executor that the driver does not count on takes nothing.
func TestAdoptNeedsTheDriver(t *testing.T) {
	for name, spoil := range map[string]func(*sparkExecutor){
		"not registered": func(x *sparkExecutor) { x.unknown = true },
		"leaving":        func(x *sparkExecutor) { x.marked = true },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEstate(t, 2)
			e.heir.set(spoil)
			rep, err := e.adopt(func(r *AdoptRequest) { r.Deadline = time.Now().Add(2 * time.Second) })
			must(t, err)
			if rep.Outcome != report.None || !strings.Contains(rep.Applications[0].Error, "does not list the executor") {
				t.Errorf("outcome %s: %s", rep.Outcome, rep.Applications[0].Error)
			}
			e.never("announced")
			if got := e.linked(); len(got) > 0 {
				t.Errorf("it has %v", got)
			}
		})
	}
}

// TestAdoptAlone: the only executor that there is has nobody to say that it lives, but the REST server does.
func TestAdoptAlone(t *testing.T) {
	e := newEstate(t, 2)
	e.peer.set(func(x *sparkExecutor) { x.unknown = true })
	rep, err := e.adopt()
	must(t, err)
	saved(t, rep, 2)
}

func TestAdoptSkipsWhatIsBroken(t *testing.T) {
	e := newEstate(t, 2)
	index := filepath.Join(e.files, e.dead.folder(), "0c", "shuffle_0_2_0.index")
	must(t, os.WriteFile(index, []byte("half"), 0o644))
	rep, err := e.adopt()
	must(t, err)
	saved(t, rep, 1)
	if len(rep.Skipped) != 1 || !strings.Contains(rep.Skipped[0].Reason, "index file has 4 bytes") {
		t.Errorf("skipped: %+v", rep.Skipped)
	}
	for _, suffix := range []string{"index", "data"} {
		must(t, os.Remove(filepath.Join(e.files, e.dead.folder(), "0c", "shuffle_0_1_0."+suffix)))
	}
	if _, err := e.adopt(); !errors.Is(err, ErrNothingLeft) || !strings.Contains(err.Error(), "index file has 4 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := e.adopt(func(r *AdoptRequest) { r.Executor = "77" }); !errors.Is(err, ErrNoExecutor) {
		t.Errorf("got %v", err)
	}
}

func TestAdoptDryRun(t *testing.T) {
	e := newEstate(t, 2)
	rep, err := e.adopt(func(r *AdoptRequest) { r.DryRun = true })
	must(t, err)
	if found, _, _ := rep.Total(); found.Outputs != 2 {
		t.Errorf("found %d", found.Outputs)
	}
	e.never("announced")
	if got := e.linked(); len(got) > 0 {
		t.Errorf("the executor has %v", got)
	}
}

func TestRecovers(t *testing.T) {
	const reuse, plugin = "spark.kubernetes.driver.reusePersistentVolumeClaim", "spark.shuffle.sort.io.plugin.class"
	const theirs = "org.apache.spark.shuffle.KubernetesLocalDiskShuffleDataIO"
	for _, c := range []struct {
		props map[string]string
		want  bool
	}{
		{map[string]string{reuse: "true", plugin: theirs}, true},
		{map[string]string{reuse: "false", plugin: theirs}, false},
		{map[string]string{reuse: "true"}, false},
		{map[string]string{plugin: theirs}, false},
	} {
		if got := recovers(c.props); got != c.want {
			t.Errorf("%v: %v", c.props, got)
		}
	}
}

func TestDirsOn(t *testing.T) {
	claims := []kube.ClaimMount{{Claim: "a", Path: "/data/x/y"}, {Claim: "b", Path: "/vol/"}}
	got := dirsOn([]string{"/data/x/y", "/data/x/yz", "/vol/1/2", "/tmp", "/data/x"}, claims)
	if want := []string{"/data/x/y", "/vol/1/2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestRescueEndsAdoptions: what would have to leave at once is not adopted.
func TestRescueEndsAdoptions(t *testing.T) {
	d := newAdopter(&Agent{})
	cancelled := make(chan struct{})
	end, ok := d.begin(func() { close(cancelled) })
	if !ok {
		t.Fatal("not begun")
	}
	d.rescuing(true)
	<-cancelled
	end()
	if _, ok := d.begin(func() {}); ok {
		t.Error("begun while the node is rescued")
	}
	d.rescuing(false)
	if _, ok := d.begin(func() {}); !ok {
		t.Error("not begun afterwards")
	}
}

// onVolume gives the heir a pod whose claim is mounted at a path, and returns an agent that knows of it.
func (e *estate) onVolume(path string) (*apiServer, *Agent) {
	k, a := e.kubernetes(podOf(e.heir, []doc{{"name": "v", "persistentVolumeClaim": doc{"claimName": "local-1"}}}, []doc{{"name": "v", "mountPath": path}}))
	k.put("pods", doc{"metadata": doc{"name": "driver", "namespace": "spark", "uid": "driver-uid"}, "status": doc{}})
	return k, a
}

// adoptions are the reports, the newest first.
func (e *estate) adoptions() []*report.Report {
	list, err := report.List(AdoptionState(e.cfg.State), 0)
	must(e.t, err)
	return list
}

// TestAgentAdopts: what lies on a claim is adopted by the agent itself, once, and told.
func TestAgentAdopts(t *testing.T) {
	e := newEstate(t, 3)
	k, a := e.onVolume("/local/app-1")
	d := e.run(a)
	e.until("adopted", func() bool { return len(e.adoptions()) == 1 })
	rep := e.adoptions()[0]
	saved(t, rep, 3)
	if notes := rep.Applications[0].Notes; len(notes) != 1 || !strings.Contains(notes[0], "spark/app-1-exec-5, from claim local-1") {
		t.Errorf("notes: %q", notes)
	}
	want := []string{"SparkOutputsAdopted Pod/app-1-exec-5", "SparkOutputsAdopted Pod/driver"}
	e.until("it is told", func() bool { return slices.Equal(k.told(), want) })
	if text := k.says(t, want[0]); !strings.Contains(text, "3 map outputs") || !strings.Contains(text, rep.ID) {
		t.Errorf("told: %q", text)
	}
	d.stop()
	<-d.done
}

// TestAgentAdoptsClaimsOnly: other volumes, and none where that is switched off.
func TestAgentAdoptsClaimsOnly(t *testing.T) {
	for name, c := range map[string]struct {
		path, mode string
	}{
		"another path": {"/deps", config.AdoptLink}, "switched off": {"/local/app-1", config.AdoptOff},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEstate(t, 3)
			e.cfg.Kubernetes.Volumes.Adopt = c.mode
			_, a := e.onVolume(c.path)
			d := e.run(a)
			e.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
			e.until("the executor is seen", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.seen) == 1 })
			d.stop()
			<-d.done
			if len(e.adoptions()) > 0 || len(e.linked()) > 0 {
				t.Errorf("adopted: %v", e.linked())
			}
		})
	}
}

// TestAgentPutsBack: with Spark's own recovery on, what that takes away is there again.
func TestAgentPutsBack(t *testing.T) {
	e := newEstate(t, 3)
	e.app.props["spark.kubernetes.driver.reusePersistentVolumeClaim"] = "true"
	e.app.props["spark.shuffle.sort.io.plugin.class"] = "org.apache.spark.shuffle.KubernetesLocalDiskShuffleDataIO"
	_, a := e.onVolume("/local/app-1")
	d := e.run(a)
	e.until("adopted", func() bool { return len(e.adoptions()) == 1 && len(e.linked()) == 6 })
	paths, err := filepath.Glob(filepath.Join(e.files, e.heir.folder(), "*", "shuffle_*"))
	must(t, err)
	for _, path := range paths {
		must(t, os.Remove(path))
	}
	e.until("all is put back", func() bool { return len(e.linked()) == 6 })
	d.stop()
	<-d.done
}

// TestAgentExpects: a pod with a claim is looked out for until its executor is seen and all is known of it.
func TestAgentExpects(t *testing.T) {
	e := newEstate(t, 1)
	_, a := e.onVolume("/local/app-1")
	d := e.run(a)
	e.until("the pod is known", func() bool { return len(a.kube.Executors()) == 1 })
	for name, c := range map[string]struct {
		list []executor.Executor
		want bool
	}{
		"not seen":        {nil, true},
		"without version": {[]executor.Executor{{App: "app-1", ID: "5"}}, true},
		"known":           {[]executor.Executor{{App: "app-1", ID: "5", Spark: "3.5.9"}}, false},
		"another one":     {[]executor.Executor{{App: "app-1", ID: "6", Spark: "3.5.9"}}, true},
	} {
		if got := d.adopter.expects(c.list); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	d.stop()
	<-d.done
}

// TestAllFoldersOfAStateFolderAreKnown: one that was opened to others is closed again, not refused for what the agent itself
// has put there.
func TestAllFoldersOfAStateFolderAreKnown(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for _, folder := range []string{AdoptionState(state), SalvageState(state), journal.Folder(state, "20261121-101502-7f3a")} {
		must(t, os.MkdirAll(folder, 0o700))
	}
	must(t, os.WriteFile(filepath.Join(state, kubernetes.BookFile), []byte("{}"), 0o600))
	must(t, os.Chmod(state, 0o755))
	_, err := journal.Open(state, zap.NewNop())
	must(t, err)
}
