//go:build integration

package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// stackable is a pod template of executors as Stackable's operator writes it for spark-submit: the container has its own name, an init
// container brings the job's files, a sidecar ships logs, and a volume holds dependencies: a claim that is no local directory of Spark.
const stackable = `
apiVersion: v1
kind: Pod
metadata: {labels: {app.kubernetes.io/managed-by: spark.stackable.tech_sparkapplication}}
spec:
  securityContext: {fsGroup: 1000}
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: Honor, labelSelector: {matchLabels: {spark-role: executor}}, matchLabelKeys: [spark-app-selector]}
  initContainers:
  - name: job
    image: %[1]s
    imagePullPolicy: Never
    command: [/bin/sh, -c, "echo job >/stackable/spark/jobs/job.txt"]
    volumeMounts: [{name: job-files, mountPath: /stackable/spark/jobs}]
  containers:
  - name: vector
    image: %[1]s
    imagePullPolicy: Never
    command: [/bin/sleep, "36000"]
    volumeMounts: [{name: log, mountPath: /stackable/log}]
  - name: spark
    volumeMounts:
    - {name: job-files, mountPath: /stackable/spark/jobs}
    - {name: log, mountPath: /stackable/log}
    - {name: dependencies, mountPath: /dependencies}
  volumes:
  - {name: job-files, emptyDir: {}}
  - {name: log, emptyDir: {}}
  - name: dependencies
    ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], storageClassName: %[2]s, resources: {requests: {storage: 1Gi}}}}}
`

// TestExecutorsFromATemplate: executors as Stackable's operator shapes them are rescued, and their dependencies are left alone.
func TestExecutorsFromATemplate(t *testing.T) {
	ctx := t.Context()
	step := newSteps(t)
	must(t, shared.Volumes(ctx))
	must(t, shared.InstallAgent(ctx, AgentOptions{}))
	job := startJob(t, JobOptions{
		Name: "stackable", Namespace: "stackable", Spark: "3.5.9", Cluster: true, Node: "node-b",
		ExecutorTemplate: fmt.Sprintf(stackable, BusyboxImage, LocalClass),
		Conf:             map[string]string{"spark.kubernetes.executor.podTemplateContainerName": "spark"},
	})
	step.done("the agent is installed and the job has its executors")
	before, err := shared.Claims(ctx, job.Namespace)
	must(t, err)
	if len(before) != 3 {
		t.Errorf("%d dependency claims, not 3: %+v", len(before), before)
	}
	saveNode(t, job)
	step.done("rescued, off, and read again")
	if changes := claimChanges(t, job.Namespace); len(changes) != 0 {
		t.Errorf("claims that are no local directories were changed: %v", changes)
	}
}

// claimChanges are the changes of claims in a namespace that Lifeboat's accounts have asked for, by the API server's audit log.
func claimChanges(t *testing.T, namespace string) (changes []string) {
	t.Helper()
	must(t, shared.EachRequest(func(r Request) {
		if r.Resource == "persistentvolumeclaims" && strings.Contains(r.URI, "/namespaces/"+namespace+"/") &&
			strings.HasPrefix(r.User, "system:serviceaccount:"+AgentNamespace+":") && !slices.Contains([]string{"get", "list", "watch"}, r.Verb) {
			changes = append(changes, r.Verb+" "+r.URI)
		}
	}))
	return changes
}
