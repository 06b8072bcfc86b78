//go:build integration

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// claimAndPod are a claim of a class and a pod on a node that adds its name to a file on it. Only drivers know ReadWriteOncePod, for
// which Spark 4 asks.
func claimAndPod(namespace, class, claim, pod, node string) string {
	mode := "ReadWriteOncePod"
	if class == LocalClass {
		mode = "ReadWriteOnce"
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %[2]s, namespace: %[6]s}
spec: {accessModes: [%[7]s], storageClassName: %[1]s, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: %[3]s, namespace: %[6]s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  nodeSelector: {kubernetes.io/hostname: %[4]s}
  securityContext: {runAsUser: 185}
  containers:
  - name: c
    image: %[5]s
    imagePullPolicy: Never
    command: [/bin/sh, -c, "echo %[3]s >>/disk/names; sleep 3600"]
    volumeMounts: [{name: d, mountPath: /disk}]
  volumes: [{name: d, persistentVolumeClaim: {claimName: %[2]s}}]
`, class, claim, pod, node, BusyboxImage, namespace, mode)
}

// volumeOf is the volume of a claim.
func volumeOf(t *testing.T, namespace, claim string) string {
	t.Helper()
	claims, err := shared.Claims(t.Context(), namespace)
	must(t, err)
	for _, c := range claims {
		if c.Name == claim && c.Phase == "Bound" {
			return c.Volume
		}
	}
	t.Fatalf("%s is not bound: %+v", claim, claims)
	return ""
}

// names waits until a pod has written its name to a claim, and returns all names there.
func names(t *testing.T, namespace, claim, pod string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var all string
	must(t, lab.Until(ctx, pod+" has written to "+claim, func(ctx context.Context) (bool, error) {
		claims, err := shared.Claims(ctx, namespace)
		if err != nil || len(claims) == 0 || claims[0].Phase != "Bound" {
			return false, err
		}
		folder, err := shared.Contents(ctx, volumeOf(t, namespace, claim))
		if err != nil {
			return false, err
		}
		text, err := os.ReadFile(filepath.Join(folder, "names"))
		if err != nil && !os.IsNotExist(err) {
			return false, err
		}
		all = strings.Join(strings.Fields(string(text)), " ")
		return strings.HasSuffix(all, pod), nil
	}))
	return all
}

// TestDiskMoves: what a pod has written to a disk is read on the other node; the power of a node that has the disk goes, and the
// disk stays there until the cluster is told that the node is off.
func TestDiskMoves(t *testing.T) {
	ctx := t.Context()
	must(t, shared.Volumes(ctx))
	must(t, shared.MakeNamespace(ctx, "disks"))
	defer shared.Kubectl(context.Background(), "delete", "namespace", "disks", "--wait=false")
	must(t, shared.Apply(ctx, claimAndPod("disks", DiskClass, "disk", "one", "node-a")))
	names(t, "disks", "disk", "one")
	volume := volumeOf(t, "disks", "disk")
	at := func(want string) {
		t.Helper()
		if node, err := shared.Attached(ctx, volume); err != nil || node != want {
			t.Errorf("the disk is at %q, not at %q (%v)", node, want, err)
		}
	}
	at("node-a")

	begin := time.Now()
	_, err := shared.Kubectl(ctx, "-n", "disks", "delete", "pod", "one", "--timeout=60s")
	must(t, err)
	must(t, shared.Apply(ctx, claimAndPod("disks", DiskClass, "disk", "two", "node-b")))
	if all := names(t, "disks", "disk", "two"); all != "one two" {
		t.Errorf("on the disk: %s", all)
	}
	t.Logf("the disk moved in %v", time.Since(begin))
	at("node-b")

	restore(t, "node-b")
	must(t, shared.Node("node-b").PowerOff())
	noticed, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	must(t, shared.WaitCondition(noticed, "node-b", "Ready", "Unknown"))
	_, err = shared.Kubectl(ctx, "-n", "disks", "delete", "pod", "two", "--force", "--grace-period=0")
	must(t, err)
	at("node-b")
	begin = time.Now()
	_, err = shared.Kubectl(ctx, "taint", "node", "node-b", "node.kubernetes.io/out-of-service=off:NoExecute")
	must(t, err)
	must(t, shared.Apply(ctx, claimAndPod("disks", DiskClass, "disk", "three", "node-a")))
	if all := names(t, "disks", "disk", "three"); all != "one two three" {
		t.Errorf("on the disk: %s", all)
	}
	t.Logf("the disk of the node without power moved in %v", time.Since(begin))
	at("node-a")
	_, err = shared.Kubectl(ctx, "taint", "node", "node-b", "node.kubernetes.io/out-of-service-")
	must(t, err)
	must(t, shared.Node("node-b").PowerOn(ctx))
	must(t, shared.Volumes(ctx))
	_, err = shared.Kubectl(ctx, "-n", "disks", "delete", "pod", "three", "--timeout=60s")
	must(t, err)
	must(t, shared.Apply(ctx, claimAndPod("disks", DiskClass, "disk", "four", "node-b")))
	names(t, "disks", "disk", "four")
	at("node-b")
}

// TestLocalVolumeStays: a local volume is on the node of its first pod, and no pod of another node gets it.
func TestLocalVolumeStays(t *testing.T) {
	ctx := t.Context()
	must(t, shared.Volumes(ctx))
	must(t, shared.MakeNamespace(ctx, "locals"))
	defer shared.Kubectl(context.Background(), "delete", "namespace", "locals", "--wait=false")
	must(t, shared.Apply(ctx, claimAndPod("locals", LocalClass, "local", "one", "node-a")))
	names(t, "locals", "local", "one")
	folder, err := shared.Contents(ctx, volumeOf(t, "locals", "local"))
	must(t, err)
	_, err = shared.Kubectl(ctx, "-n", "locals", "delete", "pod", "one", "--timeout=60s")
	must(t, err)
	must(t, shared.Apply(ctx, claimAndPod("locals", LocalClass, "local", "two", "node-b")))
	_, err = shared.Kubectl(ctx, "-n", "locals", "wait", "pod/two", "--for=condition=PodScheduled=false", "--timeout=60s")
	must(t, err)
	_, err = shared.Kubectl(ctx, "-n", "locals", "delete", "pod/two", "pvc/local", "--timeout=60s")
	must(t, err)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	must(t, lab.Until(ctx, "the folder of the volume has gone", func(context.Context) (bool, error) {
		_, err := os.Stat(folder)
		return os.IsNotExist(err), nil
	}))
}
