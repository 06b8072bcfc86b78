package agent

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object"
)

// fallback gives an application a fallback path in a folder, and returns that.
func (a *sparkApp) fallback() string {
	a.t.Helper()
	dir := a.t.TempDir()
	a.props[fallbackKey] = "file://" + dir + "/"
	return dir
}

// stores counts the outputs in a folder, by their index; each must have its data.
func stores(t *testing.T, dir, app string) int {
	t.Helper()
	indexes, err := filepath.Glob(filepath.Join(dir, app, "*", "*", "*.index"))
	must(t, err)
	for _, path := range indexes {
		id := migrate.OutputID{App: app}
		name := filepath.Base(path)
		data := strings.TrimSuffix(name, "index") + "data"
		if _, err := os.Stat(filepath.Join(dir, object.Key(id.App, 0, data))); err != nil {
			t.Errorf("%s without its data: %v", name, err)
		}
	}
	return len(indexes)
}

func destinations(rep *report.Report) (peers, objects int) {
	for _, a := range rep.Applications {
		for _, d := range a.Destinations {
			if strings.HasPrefix(d.Target, "executor ") {
				peers += d.Outputs
			} else {
				objects += d.Outputs
			}
		}
	}
	return peers, objects
}

func TestOnlyObjectStorage(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	dir := app.fallback()
	x := app.member("1", plain)
	x.commits(0, 20, 1000)
	x.set(func(x *sparkExecutor) { x.tasks = 1 })
	done := make(chan *report.Report)
	go func() { done <- s.rescue(40 * time.Second) }()
	s.awaitN("announced", 2*20)
	x.set(func(x *sparkExecutor) { x.tasks = 0 })
	rep := <-done
	saved(t, rep, 20)
	if n := stores(t, dir, app.id); n != 20 {
		t.Errorf("%d outputs are stored, want 20", n)
	}
	if peers, objects := destinations(rep); peers != 0 || objects != 20 {
		t.Errorf("%d outputs at peers, %d in object storage", peers, objects)
	}
	s.inOrder("told 1", "announced")
	s.inOrder("announced", "ended 1")
	if a, b := len(s.seen("announced")), 2*2*20; a != b { // data and index, and again because they were fresh
		t.Errorf("%d blocks were announced, want %d", a, b)
	}
	if catalog, _ := filepath.Glob(filepath.Join(dir, ".lifeboat", app.id, home, "*")); len(catalog) < 2 {
		t.Errorf("the catalog holds %q, want a manifest and a settlement", catalog)
	}
}

func TestPeersBeforeObjectStorage(t *testing.T) {
	for _, first := range []string{config.DestinationPeers, config.DestinationObjects} {
		t.Run(first, func(t *testing.T) {
			s := newStage(t)
			if first == config.DestinationObjects {
				s.cfg.Destinations = []string{config.DestinationObjects, config.DestinationPeers}
			}
			app := s.app("app-1")
			dir := app.fallback()
			app.member("1", plain).commits(0, 20, 1000)
			peer := app.peer("2", "node-b")
			rep := s.rescue(20 * time.Second)
			saved(t, rep, 20)
			want := 20
			if first == config.DestinationObjects {
				want = 0
			}
			if got := peer.holds(); got != want {
				t.Errorf("%d outputs at the peer, want %d", got, want)
			}
			if got := stores(t, dir, app.id); got != 20-want {
				t.Errorf("%d outputs in object storage, want %d", got, 20-want)
			}
		})
	}
}

func TestPeerRefusesAndObjectStorageTakes(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	dir := app.fallback()
	app.member("1", plain).commits(0, 20, 1000)
	app.peer("2", "node-b").set(func(x *sparkExecutor) { x.refuse = "java.io.IOException: No space left on device" })
	rep := s.rescue(20 * time.Second)
	saved(t, rep, 20)
	if n := stores(t, dir, app.id); n != 20 {
		t.Errorf("%d outputs are stored, want 20", n)
	}
}

func TestSwitchedOffDestinations(t *testing.T) {
	for _, only := range []string{config.DestinationPeers, config.DestinationObjects} {
		t.Run(only, func(t *testing.T) {
			s := newStage(t)
			s.cfg.Destinations = []string{only}
			app := s.app("app-1")
			dir := app.fallback()
			app.member("1", plain).commits(0, 5, 1000)
			peer := app.peer("2", "node-b")
			rep := s.rescue(20 * time.Second)
			saved(t, rep, 5)
			if n := stores(t, dir, app.id) + peer.holds(); n != 5 {
				t.Errorf("%d outputs are stored, want 5 in one place", n)
			}
			if (peer.holds() > 0) != (only == config.DestinationPeers) {
				t.Errorf("%d outputs at the peer", peer.holds())
			}
		})
	}
}

// TestUselessObjectStorage is worth the same as none.
func TestUselessObjectStorage(t *testing.T) {
	const nowhere = "file:///proc/none/copies/"
	t.Run("with a peer", func(t *testing.T) {
		s := newStage(t)
		app := s.app("app-1")
		app.props[fallbackKey] = nowhere
		app.member("1", plain).commits(0, 5, 1000)
		peer := app.peer("2", "node-b")
		rep := s.rescue(20 * time.Second)
		saved(t, rep, 5)
		if notes := strings.Join(rep.Applications[0].Notes, ""); !strings.Contains(notes, "/proc/none") {
			t.Errorf("notes %q, want the storage named", notes)
		}
		if peer.holds() != 5 {
			t.Errorf("%d outputs at the peer, want 5", peer.holds())
		}
	})
	t.Run("without", func(t *testing.T) {
		s := newStage(t)
		app := s.app("app-1")
		app.props[fallbackKey] = nowhere
		app.member("1", plain).commits(0, 5, 1000)
		rep := s.rescue(4 * time.Second)
		if rep.Outcome != report.None || !strings.Contains(rep.Applications[0].Error, "/proc/none") {
			t.Errorf("outcome %s: %s", rep.Outcome, rep.Applications[0].Error)
		}
		s.never("told", "ended", "announced")
	})
}

// TestStoredWhereNobodyLooks: an application that names no fallback path does not look there.
func TestStoredWhereNobodyLooks(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	s.cfg.Objects.Path = "file://" + dir
	app := s.app("app-1")
	app.member("1", plain).commits(0, 5, 1000)
	rep := s.rescue(6 * time.Second)
	if n := stores(t, dir, app.id); n != 5 {
		t.Errorf("%d outputs are stored, want 5", n)
	}
	part := rep.Applications[0]
	if rep.Outcome != report.Stored || part.Stored.Outputs != 5 || part.Saved.Outputs != 0 || part.Lost.Outputs != 0 {
		t.Errorf("outcome %s: %+v", rep.Outcome, part)
	}
	if x := part.Executors[0]; !x.Told || !x.Ended || x.EndedAfterSeconds < 4 {
		t.Errorf("%+v: want it to live until the deadline, since somebody may take its outputs", x)
	}
	s.never("announced")
}

func TestPeerTakesWhatWaits(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	s.cfg.Objects.Path = "file://" + dir
	app := s.app("app-1")
	app.member("1", plain).commits(0, 5, 1000)
	done := make(chan *report.Report)
	go func() { done <- s.rescue(40 * time.Second) }()
	s.until("all is stored", func() bool { return stores(t, dir, app.id) == 5 })
	peer := app.peer("2", "node-b")
	rep := <-done
	saved(t, rep, 5)
	if n := peer.holds(); n != 5 {
		t.Errorf("%d outputs at the peer, want 5", n)
	}
	if took := rep.Ended.Sub(rep.Began); took > 20*time.Second {
		t.Errorf("the rescue took %v although all was safe", took)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	dir := app.fallback()
	app.member("1", plain).commits(0, 5, 1000)
	rep, err := s.agent().Rescue(t.Context(), Request{Deadline: time.Now().Add(20 * time.Second), DryRun: true})
	must(t, err)
	if rep.Outcome != report.All || len(rep.Applications[0].Notes) == 0 || !strings.Contains(rep.Applications[0].Notes[0], dir) {
		t.Errorf("outcome %s, notes %q; want the folder named", rep.Outcome, rep.Applications[0].Notes)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("something was written: %v", left)
	}
	s.never("told", "announced", "ended")
}

func TestDryRunOfWhatWouldOnlyWait(t *testing.T) {
	s := newStage(t)
	s.cfg.Objects.Path = "file://" + t.TempDir()
	app := s.app("app-1")
	app.member("1", plain).commits(0, 5, 1000)
	rep, err := s.agent().Rescue(t.Context(), Request{Deadline: time.Now().Add(20 * time.Second), DryRun: true})
	must(t, err)
	if part := rep.Applications[0]; rep.Outcome != report.Stored || part.Stored.Outputs != 5 || part.Saved.Outputs != 0 {
		t.Errorf("outcome %s: %+v", rep.Outcome, part)
	}
}

// TestObjectsAfterARestart: what lies in object storage is not sent again.
func TestObjectsAfterARestart(t *testing.T) {
	s := newStage(t)
	app := s.app("app-1")
	dir := app.fallback()
	x := app.member("1", plain)
	x.commits(0, 5, 1000)
	x.set(func(x *sparkExecutor) { x.tasks = 1 }) // it is not ended yet
	d := s.daemon()
	s.send(notice("n", time.Minute))
	s.until("all is stored", func() bool { return strings.Count(s.journal(), `"saved"`) == 5 })
	d.kill()
	<-d.done
	for _, path := range must1(filepath.Glob(filepath.Join(dir, app.id, "*", "*", "*"))) {
		must(t, os.Remove(path)) // so that another copy would be seen
	}
	x.set(func(x *sparkExecutor) { x.tasks = 0 })
	s.daemon()
	rep := s.report(1)
	saved(t, rep, 5)
	if _, objects := destinations(rep); objects != 5 || stores(t, dir, app.id) != 0 {
		t.Errorf("%d outputs in object storage, %d sent again", objects, stores(t, dir, app.id))
	}
}

func must1(paths []string, err error) []string {
	if err != nil {
		panic(err)
	}
	return paths
}

func TestInventoryKnowsObjectStorage(t *testing.T) {
	s := newStage(t)
	reads, none := s.app("app-1"), s.app("app-2")
	dir := reads.fallback()
	reads.member("1", plain).commits(0, 1, 10)
	reads.member("2", plain)
	none.member("1", plain)
	list, err := s.agent().Inventory(t.Context())
	must(t, err)
	for _, v := range list {
		want := dir + "/, where the application reads them"
		if v.App == none.id {
			want = "no object storage: neither"
		}
		if !strings.Contains(v.Objects, want) {
			t.Errorf("%s: %q, want %q in it", v.App, v.Objects, want)
		}
	}
	if len(list) != 3 {
		t.Errorf("%d executors", len(list))
	}
}

// TestBlackHoleInPlaceOfObjectStorage: a storage that takes connections and never answers costs a rescue by peers nothing,
// and where it is the only place nobody is told.
func TestBlackHoleInPlaceOfObjectStorage(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { hole.Close() })
	begin := func(t *testing.T) (*stage, *sparkApp) {
		s := newStage(t)
		s.cfg.Objects.Credentials = true // those of the machine are nobody's business here
		app := s.app("app-1")
		maps.Copy(app.props, map[string]string{
			fallbackKey: "s3a://bucket/copies/", "spark.hadoop.fs.s3a.endpoint": "http://" + hole.Addr().String(),
			"spark.hadoop.fs.s3a.endpoint.region": "us-east-1", "spark.hadoop.fs.s3a.path.style.access": "true",
			"spark.hadoop.fs.s3a.access.key": "key", "spark.hadoop.fs.s3a.secret.key": "verysecret",
		})
		app.member("1", plain).commits(0, 5, 1000)
		return s, app
	}
	t.Run("with a peer", func(t *testing.T) {
		s, app := begin(t)
		app.peer("2", "node-b")
		rep := s.rescue(time.Minute)
		saved(t, rep, 5)
		if took := rep.Ended.Sub(rep.Began); took > 15*time.Second {
			t.Errorf("the rescue took %v", took)
		}
	})
	t.Run("without", func(t *testing.T) {
		s, _ := begin(t)
		rep := s.rescue(8 * time.Second)
		if rep.Outcome != report.None || !strings.Contains(rep.Applications[0].Error, "s3a://bucket/copies") {
			t.Errorf("outcome %s: %s", rep.Outcome, rep.Applications[0].Error)
		}
		s.never("told", "ended", "announced")
		for _, e := range s.seen("") {
			if strings.Contains(e, "verysecret") {
				t.Errorf("a secret is logged: %s", e)
			}
		}
	})
}
