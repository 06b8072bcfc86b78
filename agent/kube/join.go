package kube

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// PodOf is the pod that an executor's process runs in: the one whose uid is in the process's control group. Only where no pod is
// named there (the process has gone, or the file looks like none that is known) it is the only one with the executor's labels: any
// pod can run a process that looks like somebody else's executor. It asks nobody.
func (c *Client) PodOf(e executor.Executor) (kube.Pod, bool) {
	if c == nil {
		return kube.Pod{}, false
	}
	is := func(p kube.Pod) bool { return p.App == e.App && p.Executor == e.ID }
	pods, uids := c.o.Pods.Executors(), podUIDs(c.cgroup(e.PID))
	for _, uid := range uids {
		if i := slices.IndexFunc(pods, func(p kube.Pod) bool { return p.UID == uid }); i >= 0 {
			return pods[i], is(pods[i])
		}
	}
	same := slices.DeleteFunc(pods, func(p kube.Pod) bool { return !is(p) || p.Over() })
	if len(uids) > 0 || len(same) != 1 {
		return kube.Pod{}, false
	}
	return same[0], true
}

// maxCgroup is the most that is read of a process's control groups: a dozen hierarchies, each with a path.
const maxCgroup = 64 << 10

// cgroup is nil when it can't be read: the process may have gone.
func (c *Client) cgroup(pid int) []byte {
	f, err := os.Open(filepath.Join(c.o.Proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCgroup))
	if err != nil {
		return nil
	}
	return text
}

// podUIDs are the uids of pods in the paths of /proc/PID/cgroup (cgroups(7)), from the outermost in: a process can make
// groups below its own and call them what it likes, but not above. The kubelet's names (pkg/kubelet/cm, cgroup_manager_linux.go)
// are pod<uid> with the driver cgroupfs, and …-pod<uid with _ for ->.slice with systemd.
func podUIDs(text []byte) []string {
	var all []string
	for line := range bytes.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for name := range strings.SplitSeq(parts[2], "/") {
			if uid, is := podUID(name); is && !slices.Contains(all, uid) {
				all = append(all, uid)
			}
		}
	}
	return all
}

// podUID reads the name of one group.
func podUID(name string) (string, bool) {
	if slice, is := strings.CutSuffix(name, ".slice"); is {
		if i := strings.LastIndex(slice, "-pod"); i >= 0 {
			slice = slice[i+1:]
		}
		name = strings.ReplaceAll(slice, "_", "-")
	}
	uid, is := strings.CutPrefix(name, "pod")
	return uid, is && isUUID(uid)
}

// isUUID: the API server gives every object an RFC 4122 UUID.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
