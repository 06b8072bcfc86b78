//go:build integration

package cluster

import (
	"testing"
	"time"
)

// sidecar is an executor's pod with another container beside Spark's, before it in the list.
const sidecar = `
apiVersion: v1
kind: Pod
spec:
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: Honor, labelSelector: {matchLabels: {spark-role: executor}}, matchLabelKeys: [spark-app-selector]}
  containers:
  - {name: beside, image: ` + BusyboxImage + `, imagePullPolicy: Never, command: [/bin/sh, -c, "trap exit TERM; sleep 3600 & wait"]}
  - {name: spark-kubernetes-executor}
`

// hostDirs are the settings for two local dirs on the machine's own disks.
func hostDirs() map[string]string {
	conf := map[string]string{"spark.kubernetes.executor.podTemplateContainerName": "spark-kubernetes-executor"}
	for name, disk := range map[string]string{"spark-local-dir-1": "/mnt/disk1", "spark-local-dir-2": "/mnt/disk2"} {
		volume := "spark.kubernetes.executor.volumes.hostPath." + name + "."
		conf[volume+"options.path"], conf[volume+"mount.path"], conf[volume+"mount.readOnly"] = disk, "/local/"+name, "false"
	}
	return conf
}

// TestLocalDirsOfAllKinds: one notice for a node with executors of four applications in two namespaces: on emptyDir, on tmpfs, and on
// two folders of the machine, in a pod with a sidecar; drivers in pods that Spark made, in one that it did not, and in none that the
// executors know of.
func TestLocalDirsOfAllKinds(t *testing.T) {
	s := newScene(t, AgentOptions{})
	jobs := s.jobs(
		JobOptions{Name: "empty", Executors: 2},
		JobOptions{Name: "tmpfs", Namespace: "jobs", Executors: 2, Cluster: true, Conf: map[string]string{"spark.kubernetes.local.dirs.tmpfs": "true"}},
		JobOptions{Name: "disks", Namespace: "jobs", Executors: 2, ExecutorTemplate: sidecar, Conf: hostDirs()},
		JobOptions{Name: "outside", Executors: 2, Conf: map[string]string{"spark.kubernetes.driver.pod.name": ""}},
	)
	shared.Metadata("node-a").Announce(2 * time.Minute)
	s.rescued()
	for _, j := range jobs {
		unharmed(t, j)
	}
	must(t, shared.Node("node-a").PowerOff())
	for _, j := range jobs {
		unharmed(t, j)
	}
}
