//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// inherited is an executor in whose local dirs one that was killed has left its map outputs, as on a volume that a
// replacement has taken over: executors of one standalone worker have the same local dirs.
type inherited struct {
	t     *testing.T
	c     *lab.Cluster
	node  *lab.Node
	peer  *lab.Node
	app   *lab.App
	dead  string
	heir  string // the executor that lives there
	files map[string]string
	found int // outputs that were left
}

// inherit runs a round, kills the executor of one node, and waits for the next.
func inherit(t *testing.T, version string, o lab.NodeOptions, conf map[string]string) *inherited {
	t.Helper()
	c := cluster(t, version)
	o.Address = "127.0.0.2"
	h := &inherited{t: t, c: c, node: node(t, c, o), peer: node(t, c, lab.NodeOptions{Address: "127.0.0.3"}), files: map[string]string{}}
	h.app = submit(t, c, lab.AppOptions{Job: lab.Job{Maps: 24, KiBPerMap: 256, MsPerMap: 50, EmptyEvery: 5}, Conf: conf}, 2)
	round(t, h.app)
	for _, dir := range h.dirs() {
		found, err := filepath.Glob(filepath.Join(dir, "spark-*", "executor-*", "blockmgr-*", "*", "shuffle_*"))
		must(t, err)
		for _, path := range found {
			h.files[filepath.Base(path)] = path
		}
	}
	maps.DeleteFunc(h.files, func(name, _ string) bool { return strings.Contains(name, ".checksum") })
	for name := range h.files {
		h.found += strings.Count(name, ".index")
	}
	if h.found == 0 {
		t.Fatal("no map task ran on the node")
	}
	dead := h.node.Executors()[0]
	h.dead = dead.ID
	must(t, syscall.Kill(dead.PID, syscall.SIGKILL))
	ctx := deadline(t, time.Minute)
	must(t, lab.Until(ctx, "another executor is in the place of the dead one", func(ctx context.Context) (bool, error) {
		list, err := h.app.ExecutorsOn(ctx, h.node.Address)
		if err != nil || len(list) != 1 || list[0].ID == h.dead || list[0].Port() == 0 {
			return false, nil //nolint:nilerr // the driver is busy
		}
		h.heir = list[0].ID
		return true, nil
	}))
	return h
}

func (h *inherited) agent(config string) *lab.Agent { return command(h.t, h.c, h.node, config) }

// adopt is a command.
func (h *inherited) adopt(a *lab.Agent, code int) *report.Report {
	h.t.Helper()
	return rescue(h.t, a, code, "adopt", "--app", h.app.ID, "--executor", h.heir)
}

// dirs are the node's local dirs; small disks are seen by its own processes only.
func (h *inherited) dirs() []string {
	var all []string
	for _, dir := range h.node.LocalDirs() {
		all = append(all, h.node.Root()+dir)
	}
	return all
}

// folders are the blockmgr folders of the node, but for that of the dead executor.
func (h *inherited) folders() []string {
	var all []string
	for _, dir := range h.dirs() {
		found, err := filepath.Glob(filepath.Join(dir, "spark-*", "executor-*", "blockmgr-*"))
		must(h.t, err)
		all = append(all, found...)
	}
	return slices.DeleteFunc(all, func(f string) bool {
		for _, path := range h.files {
			if filepath.Base(filepath.Dir(filepath.Dir(path))) == filepath.Base(f) {
				return true
			}
		}
		return false
	})
}

// missing are the files of the dead executor that the living one has not, under a second name.
func (h *inherited) missing() []string {
	var names []string
	for name, path := range h.files {
		has := slices.ContainsFunc(h.folders(), func(folder string) bool {
			found, _ := filepath.Glob(filepath.Join(folder, "*", name))
			return len(found) == 1 && sameFile(found[0], path)
		})
		if !has {
			names = append(names, name)
		}
	}
	return names
}

func sameFile(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	// Spark's own recovery may have moved the old name to the new one.
	return err1 == nil && (os.IsNotExist(err2) || err2 == nil && os.SameFile(x, y))
}

// TestAdopt: what a dead executor has left counts at the one that has its local dirs now, without a byte copied.
func TestAdopt(t *testing.T) {
	for _, version := range []string{"3.5.9", "4.3.0"} {
		t.Run(version, func(t *testing.T) {
			h := inherit(t, version, lab.NodeOptions{Disks: 2}, nil)
			a := h.agent("")
			rep := h.adopt(a, 0)
			part := application(t, rep, h.app.ID)
			if part.Saved.Outputs != h.found || part.Lost.Outputs != 0 {
				t.Errorf("%d of %d outputs adopted, %d lost", part.Saved.Outputs, h.found, part.Lost.Outputs)
			}
			if got := h.missing(); len(got) > 0 {
				t.Errorf("%v have no second name", got)
			}
			if r := round(t, h.app); r.MapTasks != 0 || r.Counted > 0 {
				t.Errorf("%d map tasks ran again, want 0", r.MapTasks)
			}
			t.Logf("%d outputs adopted in %.2f s, 0 recomputed", h.found, rep.Ended.Sub(rep.Began).Seconds())
			h.adopt(a, 0) // again: nothing changes
			if r := round(t, h.app); r.MapTasks != 0 {
				t.Errorf("%d map tasks ran again, want 0", r.MapTasks)
			}
		})
	}
}

// recovery are the settings by which executors look for old files themselves.
func recovery() map[string]string {
	return map[string]string{
		"spark.shuffle.sort.io.plugin.class":                 "org.apache.spark.shuffle.KubernetesLocalDiskShuffleDataIO",
		"spark.kubernetes.driver.reusePersistentVolumeClaim": "true",
	}
}

// TestAdoptBesideRecovery: the executor's first map task takes away what it finds in its own folders, and it is put back: the
// adopted outputs are read afterwards.
func TestAdoptBesideRecovery(t *testing.T) {
	for _, version := range []string{"3.5.9", "4.3.0"} {
		t.Run(version, func(t *testing.T) {
			h := inherit(t, version, lab.NodeOptions{}, recovery())
			a := h.agent("")
			ended := make(chan string, 1)
			go func() {
				_, errs, code := a.Command(deadline(t, 2*time.Minute), "adopt", "--app", h.app.ID, "--executor", h.heir, "--stay")
				ended <- fmt.Sprintf("code %d: %s", code, errs)
			}()
			ctx := deadline(t, time.Minute)
			must(t, lab.Until(ctx, "all is adopted", func(context.Context) (bool, error) {
				list, err := report.List(filepath.Join(a.State, "adoption"), 1)
				return len(list) == 1, err
			}))
			if r := round(t, h.app); r.MapTasks != 0 {
				t.Errorf("%d map tasks ran again, want 0", r.MapTasks)
			}
			must(t, h.app.Fresh(ctx))
			if r := round(t, h.app); r.MapTasks == 0 {
				t.Error("the new dataset took no map task")
			}
			told := <-ended
			if !strings.Contains(told, "code 0") {
				t.Error(told)
			}
			t.Log(told)
			if got := h.missing(); len(got) > 0 {
				t.Errorf("%v have no second name any more", got)
			}
			must(t, h.app.Previous(ctx))
			if r := round(t, h.app); r.MapTasks != 0 {
				t.Errorf("%d map tasks ran again after the executor's own recovery, want 0", r.MapTasks)
			}
		})
	}
}

// TestAdoptHostile: a half-written output and a symlink in the place of a folder keep nothing else from being adopted, and
// nothing is made outside.
func TestAdoptHostile(t *testing.T) {
	h := inherit(t, sparkVersion(), lab.NodeOptions{}, nil)
	outside := t.TempDir()
	old := filepath.Dir(h.files[slices.Sorted(maps.Keys(h.files))[0]])
	must(t, os.WriteFile(filepath.Join(old, "shuffle_0_900001_0.index"), offsets(0, 8, 16), 0o644))
	must(t, os.WriteFile(filepath.Join(old, "shuffle_0_900001_0.data"), bytes.Repeat([]byte{7}, 9), 0o644))
	folder := h.folders()[0]
	spoiled := ""
	for name, path := range h.files {
		bucket := filepath.Base(filepath.Dir(path)) // the same in both folders
		if strings.HasSuffix(name, ".data") && os.Symlink(outside, filepath.Join(folder, bucket)) == nil {
			spoiled = bucket
			break
		}
	}
	lost := map[string]bool{}
	for name, path := range h.files {
		if filepath.Base(filepath.Dir(path)) == spoiled {
			lost[name[:strings.LastIndex(name, ".")]] = true
		}
	}
	rep := h.adopt(h.agent(""), 3)
	part := application(t, rep, h.app.ID)
	if part.Lost.Outputs != len(lost) || part.Saved.Outputs != h.found-len(lost) {
		t.Errorf("%d adopted, %d lost; want %d and %d", part.Saved.Outputs, part.Lost.Outputs, h.found-len(lost), len(lost))
	}
	if !slices.ContainsFunc(rep.Skipped, func(s report.Skipped) bool {
		return strings.HasSuffix(s.Path, "shuffle_0_900001") && strings.Contains(s.Reason, "its index says 16")
	}) {
		t.Errorf("the half-written output is not among the skipped files: %+v", rep.Skipped)
	}
	if made, _ := os.ReadDir(outside); len(made) > 0 {
		t.Errorf("%v was made outside", made)
	}
	must(t, os.Remove(filepath.Join(folder, spoiled)))
	if r := round(t, h.app); r.MapTasks == 0 || r.MapTasks > len(lost) {
		t.Errorf("%d map tasks ran again, want the %d that were not adopted", r.MapTasks, len(lost))
	}
}

// TestAdoptFullDisk: uploads to a full disk are refused, and what is refused is lost, with the reason; links need no room.
func TestAdoptFullDisk(t *testing.T) {
	h := inherit(t, sparkVersion(), lab.NodeOptions{DiskMB: 64}, nil)
	filler := filepath.Join(h.dirs()[0], "filler")
	f, err := os.Create(filler)
	must(t, err)
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	must(t, f.Close())
	rep := h.adopt(h.agent("kubernetes: {volumes: {adopt: upload}}\n"), 4)
	part := application(t, rep, h.app.ID)
	if part.Saved.Outputs != 0 || len(part.Losses) == 0 || !strings.Contains(part.Losses[0].Reason, "No space left") {
		t.Errorf("%d uploaded to a full disk: %+v", part.Saved.Outputs, part.Losses)
	}
	if part = application(t, h.adopt(h.agent(""), 0), h.app.ID); part.Saved.Outputs != h.found {
		t.Errorf("%d of %d linked on a full disk", part.Saved.Outputs, h.found)
	}
	must(t, os.Remove(filler))
	if r := round(t, h.app); r.MapTasks != 0 {
		t.Errorf("%d map tasks ran again, want 0", r.MapTasks)
	}
}

// TestAdoptUpload: where there can be no links, outputs are uploaded.
func TestAdoptUpload(t *testing.T) {
	h := inherit(t, sparkVersion(), lab.NodeOptions{}, nil)
	part := application(t, h.adopt(h.agent("kubernetes: {volumes: {adopt: upload}}\n"), 0), h.app.ID)
	if part.Saved.Outputs != h.found {
		t.Errorf("%d of %d uploaded", part.Saved.Outputs, h.found)
	}
	if r := round(t, h.app); r.MapTasks != 0 {
		t.Errorf("%d map tasks ran again, want 0", r.MapTasks)
	}
}
