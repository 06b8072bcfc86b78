//go:build integration

package integration

import (
	"bytes"
	be "encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// firstPlanted is the id of the first planted map output; Spark gives none so high here.
const firstPlanted = 900_001

// secret is what lies outside of the local dirs and must never be read.
var secret = bytes.Repeat([]byte("root:x:0:0:not for Spark\n"), 4)

// TestHostileFiles plants files into the folders of a living executor: none of them may be sent or followed, each of
// them is named in the report with a reason, and the true outputs are saved.
func TestHostileFiles(t *testing.T) {
	c := cluster(t, sparkVersion())
	doomed := node(t, c, lab.NodeOptions{Address: "127.0.0.2", Cores: 2, Conf: decommission})
	peer := node(t, c, lab.NodeOptions{Address: "127.0.0.3", Cores: 2})
	app := submit(t, c, lab.AppOptions{Job: lab.Job{Maps: 24, KiBPerMap: 64, MsPerMap: 50}}, 4)
	round(t, app)
	found, folder := outputs(t, doomed), slices.Sorted(maps.Keys(outputFiles(t, doomed)))[0]
	p := &planter{t: t, folder: find(t, doomed, folder), next: firstPlanted, outside: t.TempDir(), reasons: map[string]string{}}
	p.plantAll()
	stop := p.churn()
	rep := rescue(t, command(t, c, doomed, ""), 0, "rescue", "--deadline", "30s")
	stop()

	if part := application(t, rep, app.ID); part.Saved.Outputs != found || part.Found.Outputs != found {
		t.Errorf("%d of %d outputs saved, want %d of %d", part.Saved.Outputs, part.Found.Outputs, found, found)
	}
	p.checkReasons(rep)
	p.checkUnsent(peer)
	must(t, doomed.Kill())
	if got := round(t, app); got.MapTasks != 0 || got.Counted != 0 {
		t.Errorf("%d map tasks ran again, want 0", got.MapTasks)
	}
}

// find is the path of a blockmgr folder.
func find(t *testing.T, n *lab.Node, folder string) string {
	t.Helper()
	var path string
	shuffleFiles(t, n, func(file string, _ int64) {
		if dir := filepath.Dir(filepath.Dir(file)); filepath.Base(dir) == folder {
			path = dir
		}
	})
	return path
}

// planter puts files into a blockmgr folder, and remembers by which words the report has to name them.
type planter struct {
	t       *testing.T
	folder  string
	outside string
	next    int
	reasons map[string]string // by what the report calls it: a part of the reason
}

// output names the next planted output, in a bucket that is there.
func (p *planter) output(reason string) (index, data string) {
	buckets, err := filepath.Glob(filepath.Join(p.folder, "[0-9a-f][0-9a-f]"))
	must(p.t, err)
	base := filepath.Join(buckets[p.next%len(buckets)], fmt.Sprintf("shuffle_0_%d_0", p.next))
	if reason != "" {
		p.reasons[fmt.Sprintf("shuffle_0_%d", p.next)] = reason
	}
	p.next++
	return base + ".index", base + ".data"
}

func (p *planter) write(path string, content []byte) { must(p.t, os.WriteFile(path, content, 0o644)) }

// offsets is the content of an index file.
func offsets(list ...uint64) []byte {
	var b []byte
	for _, o := range list {
		b = be.BigEndian.AppendUint64(b, o)
	}
	return b
}

func (p *planter) plantAll() {
	size := uint64(len(secret))
	whole := offsets(0, size, size, size, size) // of an output that would be sent
	passwd := filepath.Join(p.outside, "passwd")
	p.write(passwd, secret)

	index, data := p.output("not a regular file") // data outside
	p.write(index, whole)
	must(p.t, os.Symlink(passwd, data))
	index, data = p.output("shuffle_0_900002_0.index") // index outside
	p.write(filepath.Join(p.outside, "index"), whole)
	must(p.t, os.Symlink(filepath.Join(p.outside, "index"), index))
	p.write(data, secret)
	index, data = p.output("not a regular file") // opening it would wait for ever
	p.write(index, whole)
	must(p.t, syscall.Mkfifo(data, 0o644))
	index, data = p.output("not a regular file")
	must(p.t, syscall.Mkfifo(index, 0o644))
	p.write(data, secret)
	index, data = p.output("index file has 39 bytes")
	p.write(index, whole[:39])
	p.write(data, secret)
	index, data = p.output("go down")
	p.write(index, offsets(0, size, 1, size, size))
	p.write(data, secret)
	index, data = p.output("first offset")
	p.write(index, offsets(1, size, size, size, size))
	p.write(data, secret)
	index, data = p.output(fmt.Sprintf("its index says %d", size+1))
	p.write(index, offsets(0, size, size, size, size+1))
	p.write(data, secret)
	index, _ = p.output("missing") // its data has vanished
	p.write(index, whole)
	_, data = p.output("missing") // its index has vanished
	p.write(data, secret)
	p.plantFolder(whole)
	const planted = "blockmgr-planted" // a folder that is a symlink, with the same output
	must(p.t, os.Symlink(p.outside, filepath.Join(filepath.Dir(p.folder), planted)))
	must(p.t, os.Symlink(p.outside, filepath.Join(p.outside, "00")))
	p.reasons[planted] = "can't be opened"
}

// plantFolder makes a bucket that is a symlink to a folder outside, with a good output in it.
func (p *planter) plantFolder(whole []byte) {
	for i := range 64 {
		bucket := fmt.Sprintf("%02x", i)
		if os.Symlink(p.outside, filepath.Join(p.folder, bucket)) != nil {
			continue
		}
		base := filepath.Join(p.outside, "shuffle_0_"+strconv.Itoa(p.next)+"_0")
		p.next++
		p.write(base+".index", whole)
		p.write(base+".data", secret)
		p.reasons[filepath.Base(p.folder)] = bucket + ": not a directory"
		return
	}
	p.t.Error("every bucket is there already")
}

// churn lets files come and go for as long as the rescue lasts, of an output that is never whole.
func (p *planter) churn() (stop func()) {
	index, data := p.output("")
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			_ = os.WriteFile(index, offsets(0, 8), 0o644)
			_ = os.Remove(index)
			_ = os.WriteFile(data, secret[:8], 0o644)
			_ = os.Remove(data)
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// checkReasons looks for each planted thing in the report.
func (p *planter) checkReasons(rep *report.Report) {
	p.t.Helper()
	for what, reason := range p.reasons {
		if !slices.ContainsFunc(rep.Skipped, func(s report.Skipped) bool {
			return strings.HasSuffix(s.Path, what) && strings.Contains(s.Reason, reason)
		}) {
			p.t.Errorf("%s (%s) is not among the skipped files: %+v", what, reason, rep.Skipped)
		}
	}
	for _, s := range rep.Skipped {
		if strings.Contains(s.Path+s.Reason, "not for Spark") {
			p.t.Errorf("the report shows what lies outside: %+v", s)
		}
	}
}

// checkUnsent looks for planted names and for the secret in everything that the peer has on its disks.
func (p *planter) checkUnsent(peer *lab.Node) {
	p.t.Helper()
	files := 0
	for _, dir := range peer.LocalDirs() {
		must(p.t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			for id := firstPlanted; id < p.next; id++ {
				if strings.Contains(d.Name(), "_"+strconv.Itoa(id)+"_") {
					p.t.Errorf("%s was sent", path)
				}
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, secret[:24]) {
				p.t.Errorf("%s holds what lies outside of the local dirs", path)
			}
			return err
		}))
	}
	if files == 0 {
		p.t.Error("the peer has no file at all: the folders are not the right ones")
	}
}
