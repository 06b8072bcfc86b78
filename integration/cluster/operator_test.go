//go:build integration

package cluster

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/tools"
)

const (
	operatorRelease = "spark-operator"
	operatorJobs    = "operated" // the namespace whose SparkApplications it runs
)

// installOperator installs Kubeflow's operator by its own chart, with its own rights, until the test ends. Its image is Spark's, as its
// Dockerfile has it; the operator's program comes from the machine. It runs no webhook: executors are shaped by pod templates.
func installOperator(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	dir, err := tools.Path(ctx, "spark-operator", os.Stderr)
	must(t, err)
	must(t, shared.MakeNamespace(ctx, operatorJobs))
	repository, tag, _ := strings.Cut(SparkImage("3.5.9"), ":")
	registry, repository, _ := strings.Cut(repository, "/")
	values, err := json.Marshal(object{
		"fullnameOverride": operatorRelease,
		"image":            object{"registry": registry, "repository": repository, "tag": tag, "pullPolicy": "Never"},
		"webhook":          object{"enable": false},
		"controller": object{
			"leaderElection": object{"enable": false}, "uiService": object{"enable": false},
			"nodeSelector": object{"kubernetes.io/hostname": "node-b"}, // the other one will go
			"volumes": []object{
				{"name": "tmp", "emptyDir": object{}},
				{"name": "program", "hostPath": object{"path": dir, "type": "Directory"}},
			},
			"volumeMounts": []object{{"name": "tmp", "mountPath": "/tmp"}, {"name": "program", "mountPath": "/program", "readOnly": true}},
		},
		"spark": object{
			"jobNamespaces": []string{operatorJobs}, "serviceAccount": object{"create": false}, "rbac": object{"create": false},
		},
	})
	must(t, err)
	file := shared.path("operator.json")
	must(t, os.WriteFile(file, values, 0o600))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		must(t, shared.helm(ctx, "uninstall", "--wait", "--timeout=1m", "--ignore-not-found", "--namespace="+operatorRelease, operatorRelease))
		_, err := shared.Kubectl(ctx, "delete", "--ignore-not-found", "-f", filepath.Join(dir, "chart", "crds"))
		must(t, err)
	})
	must(t, shared.helm(ctx, "upgrade", "--install", "--create-namespace", "--namespace="+operatorRelease, "--values="+file,
		operatorRelease, filepath.Join(dir, "chart")))
	program := `[{"op": "add", "path": "/spec/template/spec/containers/0/command", "value": ["/program/spark-operator"]}]`
	deployment := "deployment/" + operatorRelease + "-controller"
	_, err = shared.Kubectl(ctx, "-n", operatorRelease, "patch", deployment, "--type=json", "--patch="+program)
	must(t, err)
	if _, err := shared.Kubectl(ctx, "-n", operatorRelease, "rollout", "status", deployment, "--timeout=2m"); err != nil {
		logs, _ := shared.Kubectl(ctx, "-n", operatorRelease, "logs", deployment, "--tail=30")
		t.Fatalf("%v\n%s", err, logs)
	}
}

// sparkApplication is the resource by which the operator runs a job.
func sparkApplication(t *testing.T, j *Job) object {
	t.Helper()
	conf := j.conf()
	for _, its := range []string{
		"spark.app.name", "spark.kubernetes.namespace", "spark.kubernetes.driver.pod.name", "spark.kubernetes.executor.podTemplateFile",
	} {
		delete(conf, its)
	}
	conf["spark.kubernetes.driver.node.selector.kubernetes.io/hostname"] = j.options.Node
	var template struct {
		Spec object `json:"spec"`
	}
	must(t, json.Unmarshal([]byte(spread), &template))
	template.Spec["containers"] = []object{{"name": "spark-kubernetes-executor"}}
	return object{
		"apiVersion": "sparkoperator.k8s.io/v1beta2", "kind": "SparkApplication",
		"metadata": object{"name": j.Name, "namespace": j.Namespace},
		"spec": object{
			"type": "Scala", "mode": "cluster", "sparkVersion": j.options.Spark, "image": SparkImage(j.options.Spark), "imagePullPolicy": "Never",
			"mainClass": jobClass, "mainApplicationFile": jobJar, "arguments": j.arguments(), "sparkConf": conf,
			"restartPolicy": object{"type": "Never"},
			"driver":        object{"podName": j.Name, "serviceAccount": "spark"},
			"executor":      object{"instances": j.options.Executors, "template": template},
		},
	}
}

// operatedJob is a job that the operator has started, with all its executors.
func operatedJob(t *testing.T) *Job {
	t.Helper()
	ctx := t.Context()
	o := JobOptions{Name: "operated", Namespace: operatorJobs, Spark: "3.5.9", Node: "node-b", Executors: 3, Maps: 12, Reduces: 4, KiB: 256}
	j := &Job{Name: o.Name, Namespace: o.Namespace, c: shared, options: o}
	path := "/apis/sparkoperator.k8s.io/v1beta2/namespaces/" + j.Namespace + "/sparkapplications"
	must(t, shared.Do(ctx, http.MethodPost, path, sparkApplication(t, j), nil))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		must(t, shared.Do(ctx, http.MethodDelete, path+"/"+j.Name, nil, nil))
		must(t, j.Stop(ctx))
	})
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	if err := j.waitReady(ctx); err != nil {
		ctx := t.Context()
		logs, _ := shared.Kubectl(ctx, "-n", operatorRelease, "logs", "deployment/"+operatorRelease+"-controller", "--tail=30")
		t.Fatalf("%v\n%s", err, logs)
	}
	return j
}

// applicationState is what the operator says of its application.
func applicationState(t *testing.T, j *Job) string {
	t.Helper()
	var doc struct {
		Status struct{ ApplicationState struct{ State string } }
	}
	path := "/apis/sparkoperator.k8s.io/v1beta2/namespaces/" + j.Namespace + "/sparkapplications/" + j.Name
	must(t, shared.Do(t.Context(), http.MethodGet, path, nil, &doc))
	return doc.Status.ApplicationState.State
}

// TestOperator: Kubeflow's operator runs an application in cluster mode; its node goes after a notice, and nothing is lost. Its
// executors have two owners: the operator's resource stands before the driver.
func TestOperator(t *testing.T) {
	ctx := t.Context()
	step := newSteps(t)
	must(t, shared.InstallAgent(ctx, AgentOptions{}))
	installOperator(t)
	step.done("the agent and the operator are installed")
	job := operatedJob(t)
	step.done("the operator's application has its executors")
	owners, err := shared.Kubectl(ctx, "-n", job.Namespace, "get", "pods", "-l", "spark-role=executor",
		"-o", "jsonpath={.items[0].metadata.ownerReferences[*].kind}")
	must(t, err)
	if owners != "SparkApplication Pod" {
		t.Errorf("the owners of an executor are %q: the operator does it another way now", owners)
	}
	saveNode(t, job)
	step.done("rescued, off, and read again")
	if state := applicationState(t, job); state != "RUNNING" {
		t.Errorf("the operator says that the application is %s", state)
	}
}

// saveNode lets a job compute its outputs, takes node-a after a notice, and reads them all again.
func saveNode(t *testing.T, job *Job) {
	t.Helper()
	ctx := t.Context()
	_, err := job.Round(ctx)
	must(t, err)
	onBoth(t, job)
	known, err := shared.Reports("node-a")
	must(t, err)
	restore(t, "node-a")
	shared.Metadata("node-a").Announce(2 * time.Minute)
	rescued(t, "node-a", []*Job{job}, known...)
	must(t, shared.Node("node-a").PowerOff())
	unharmed(t, job)
}
