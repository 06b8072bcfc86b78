package kube

import (
	"slices"
	"strings"
	"testing"
)

const (
	uid1 = "5a1b9d6e-0f3c-4a6e-9a53-1c7d1f0a2b3c"
	uid2 = "6b2c0e7f-1a4d-4b7f-8b64-2d8e2a1b3c4d"
)

func TestPodUIDs(t *testing.T) {
	under := func(uid string) string { return strings.ReplaceAll(uid, "-", "_") }
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"v1, cgroupfs":             {"12:pids:/kubepods/burstable/pod" + uid1 + "/0a1b2c\n11:memory:/kubepods/burstable/pod" + uid1 + "/0a1b2c\n1:name=systemd:/kubepods/burstable/pod" + uid1 + "/0a1b2c\n", []string{uid1}},
		"v1, systemd":              {"4:cpu,cpuacct:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under(uid1) + ".slice/cri-containerd-0a1b.scope\n", []string{uid1}},
		"v2, cgroupfs":             {"0::/kubepods/pod" + uid1 + "/0a1b2c\n", []string{uid1}},
		"v2, systemd":              {"0::/kubepods.slice/kubepods-pod" + under(uid1) + ".slice/cri-containerd-0a1b.scope\n", []string{uid1}},
		"v2, crio":                 {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under(uid1) + ".slice/crio-0a1b.scope/container\n", []string{uid1}},
		"another cgroup namespace": {"0::/../../../kubepods-burstable.slice/kubepods-burstable-pod" + under(uid1) + ".slice/cri-containerd-0a1b.scope\n", []string{uid1}},
		"kubelet below something":  {"0::/docker/0a1b/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + under(uid1) + ".slice/cri-containerd-0a1b.scope\n", []string{uid1}},
		"cluster in a pod":         {"0::/kubepods/pod" + uid1 + "/0a1b/kubepods/burstable/pod" + uid2 + "/2c3d\n", []string{uid1, uid2}},
		"colons in the path":       {"0::/odd:name/pod" + uid1 + "/x\n", []string{uid1}},
		"no newline":               {"0::/kubepods/pod" + uid1, []string{uid1}},
		"no pod":                   {"0::/system.slice/sshd.service\n", nil},
		"static pod":               {"0::/kubepods/pod0123456789abcdef0123456789abcdef/x\n", nil},
		"half an id":               {"0::/kubepods/pod" + uid1[:20] + "/x\n", nil},
		"capitals":                 {"0::/kubepods/pod" + strings.ToUpper(uid1) + "/x\n", nil},
		"nonsense":                 {"kubepods/pod" + uid1 + "\n\n::\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := podUIDs([]byte(tt.text)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzPodUIDs(f *testing.F) {
	f.Add([]byte("0::/kubepods.slice/kubepods-pod5a1b9d6e_0f3c_4a6e_9a53_1c7d1f0a2b3c.slice/cri-containerd-0a1b.scope\n"))
	f.Add([]byte("12:pids:/kubepods/burstable/pod" + uid1 + "/0a1b2c\n:::/pod\n-pod.slice"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, uid := range podUIDs(text) {
			if !isUUID(uid) || !strings.Contains(strings.ReplaceAll(string(text), "_", "-"), uid) {
				t.Errorf("%q of %q", uid, text)
			}
		}
	})
}
