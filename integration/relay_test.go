//go:build integration

package integration

import (
	"bufio"
	"context"
	enc "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// relay is an application whose map outputs all lie on one node, the holder, and are handed on from node to node:
// each subtest takes the holder away, and the others join only when the maps have run. So no peer has
// outputs of its own, and "no map ran again" is exact whatever happens to a peer.
type relay struct {
	*lab.Cluster
	app    *lab.App
	holder *lab.Node
	maps   int
	nodes  int // that ever joined
}

// startRelay runs the job's maps on the first holder.
func startRelay(t *testing.T, job lab.Job) *relay {
	t.Helper()
	ctx := deadline(t, 3*time.Minute)
	r := &relay{Cluster: cluster(t, sparkVersion()), maps: job.Maps, nodes: 1}
	r.holder = r.addNode(t, lab.NodeOptions{Cores: 2})
	var err error
	r.app, err = r.Submit(ctx, lab.AppOptions{Job: job, Conf: map[string]string{
		"spark.standalone.executorRemoveDelayOnDisconnection": "500ms", // until the driver counts an executor as lost that has only hung up
	}})
	must(t, err)
	must(t, r.app.WaitExecutors(ctx, 2))
	if first := round(t, r.app); first.MapTasks != r.maps {
		t.Fatalf("the first round ran %d maps, want %d", first.MapTasks, r.maps)
	}
	return r
}

func (r *relay) addNode(t *testing.T, o lab.NodeOptions) *lab.Node {
	t.Helper()
	r.nodes++
	o.Address = fmt.Sprintf("127.0.0.%d", r.nodes)
	o.Conf = map[string]string{"spark.decommission.enabled": "true"}
	return node(t, r.Cluster, o)
}

// join adds a node and waits for its executors.
func (r *relay) join(t *testing.T, o lab.NodeOptions) *lab.Node {
	t.Helper()
	n := r.addNode(t, o)
	must(t, lab.Until(deadline(t, time.Minute), "the executors of "+n.Address+" are registered", func(ctx context.Context) (bool, error) {
		list, err := r.app.ExecutorsOn(ctx, n.Address)
		return len(list) >= max(o.Cores, 1), err
	}))
	return n
}

// oneByOne copies one output after the other to each peer, so that there is a middle.
const oneByOne = "migrate: {connections: 1, inFlight: 1, stall: 1s}\n"

// agent starts the holder's agent, with more configuration.
func (r *relay) agent(t *testing.T, config string) *lab.Agent {
	t.Helper()
	a, err := r.StartAgent(deadline(t, time.Minute), r.holder, lab.AgentOptions{Binary: binary(t), Config: config})
	must(t, err)
	return a
}

// pass takes the holder away, which must cost no map, and makes another node the holder.
func (r *relay) pass(t *testing.T, to *lab.Node) {
	t.Helper()
	must(t, r.holder.Kill())
	r.holder = to
	if after := round(t, r.app); after.MapTasks != 0 || after.Counted != 0 {
		t.Errorf("%d map tasks ran again (counted %d), want 0", after.MapTasks, after.Counted)
	}
}

// wholeSaved fails the test unless the whole dataset was saved.
func (r *relay) wholeSaved(t *testing.T, rep *report.Report) {
	t.Helper()
	allSaved(t, rep)
	if _, saved, _ := rep.Total(); saved.Outputs != r.maps {
		t.Errorf("%d outputs saved, want %d", saved.Outputs, r.maps)
	}
}

// untilSaved waits until so many outputs are in the journal as saved at each executor of the node, and fails the
// test when that is nearly all: then there is no middle.
func (r *relay) untilSaved(t *testing.T, a *lab.Agent, each int, at *lab.Node) *journal.Replay {
	t.Helper()
	var now *journal.Replay
	must(t, lab.Until(deadline(t, time.Minute), "some outputs are saved", func(context.Context) (bool, error) {
		var err error
		if now, err = replay(a); err != nil {
			return false, nil //nolint:nilerr // not begun yet
		}
		for _, e := range at.Executors() {
			if len(savedAt(now, e.ID)) < each {
				return false, nil
			}
		}
		return true, nil
	}))
	if len(now.Saved) > r.maps*9/10 {
		t.Fatalf("%d of %d outputs were saved before anything could happen", len(now.Saved), r.maps)
	}
	return now
}

// savedAt are the outputs that one executor has acknowledged, by map id.
func savedAt(r *journal.Replay, executor string) []int64 {
	var maps []int64
	for id, s := range r.Saved {
		if s.Target.Executor == executor {
			maps = append(maps, id.Map)
		}
	}
	return maps
}

// replay is what the agent's newest journal says.
func replay(a *lab.Agent) (*journal.Replay, error) {
	ids, err := journal.IDs(a.State)
	if err != nil || len(ids) == 0 {
		return nil, errors.Join(err, lab.ErrNotFound)
	}
	store, err := journal.Open(a.State, nil)
	if err != nil {
		return nil, err
	}
	return store.Read(ids[len(ids)-1])
}

// step is one line of a journal.
type step struct {
	T        int64 // milliseconds since 1970
	Type     string
	Executor string
	Map      int64
	To       int
	Why      string
}

// steps are the lines of the agent's newest journal.
func steps(t *testing.T, a *lab.Agent) []step {
	t.Helper()
	ids, err := journal.IDs(a.State)
	must(t, err)
	f, err := os.Open(filepath.Join(journal.Folder(a.State, ids[len(ids)-1]), "journal.jsonl"))
	must(t, err)
	defer f.Close()
	var list []step
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var s step
		must(t, json.Unmarshal(lines.Bytes(), &s))
		list = append(list, s)
	}
	return list
}

// count is how many steps are of one type.
func count(list []step, kind string) int {
	return howMany(list, func(s step) bool { return s.Type == kind })
}

func howMany[T any](list []T, is func(T) bool) int {
	return len(slices.DeleteFunc(slices.Clone(list), func(x T) bool { return !is(x) }))
}

var block = regexp.MustCompile(`^shuffle_\d+_\d+_0\.(index|data)$`)

// received are the shuffle files in a node's local dirs, by name. It fails the test when an index is there without
// all of its data: readers of such a copy fail.
func received(t *testing.T, n *lab.Node) map[string]fs.FileInfo {
	t.Helper()
	all := map[string]fs.FileInfo{}
	for _, local := range n.LocalDirs() {
		managers, err := filepath.Glob(filepath.Join(n.Root(), local, "*", "*", "blockmgr-*"))
		must(t, err)
		for _, manager := range managers {
			paths := blocks(t, manager)
			for name, path := range paths {
				if strings.HasSuffix(name, ".index") {
					complete(t, path, paths[strings.TrimSuffix(name, "index")+"data"])
				}
				info, err := os.Stat(path)
				must(t, err)
				all[name] = info
			}
		}
	}
	return all
}

// blocks are the paths of the shuffle blocks below a folder, by name.
func blocks(t *testing.T, folder string) map[string]string {
	t.Helper()
	paths := map[string]string{}
	must(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && block.MatchString(d.Name()) {
			paths[d.Name()] = path
		}
		return err
	}))
	return paths
}

// complete fails the test unless the index is whole and ends where the data does.
func complete(t *testing.T, index, data string) {
	t.Helper()
	raw, err := os.ReadFile(index)
	must(t, err)
	if len(raw)%8 != 0 || len(raw) < 16 {
		t.Errorf("%s has %d bytes", index, len(raw))
		return
	}
	end := int64(enc.BigEndian.Uint64(raw[len(raw)-8:]))
	size := int64(0)
	if info, err := os.Stat(data); err == nil {
		size = info.Size()
	}
	if size != end {
		t.Errorf("%s ends at %d, its data has %d bytes", index, end, size)
	}
}

// mapOf is the map id of a shuffle file.
func mapOf(t *testing.T, name string) int64 {
	t.Helper()
	parts := strings.Split(name, "_")
	id, err := strconv.ParseInt(parts[2], 10, 64)
	must(t, err)
	return id
}
