package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// JobOptions say what application runs, and where. The zero value is one of three executors.
type JobOptions struct {
	Name      string // of the driver's pod; "": job
	Namespace string // made when it is missing, with the service account "spark"; "": spark
	Spark     string // version; "": 3.5.9
	Node      string // of the driver; "": any
	// Executors; 0: 3. They are spread evenly over the nodes that take pods, unless ExecutorNode names one for all or
	// ExecutorTemplate another pod template (YAML).
	Executors        int
	ExecutorNode     string
	ExecutorTemplate string
	Cluster          bool              // spark-submit makes the driver's pod, as in production; else client mode in a pod made here
	Conf             map[string]string // more of Spark's settings; they win, and an empty one leaves the lab's out
	DriverTemplate   string            // pod template of a driver in cluster mode (YAML)

	Maps, Reduces int           // tasks; 0: 12 and 4
	KiB           int           // of random data made by each map task; 0: 256
	MapTime       time.Duration // that a map task waits before it begins; 0: 500 ms, so that each executor gets some of them
	// ClaimClass puts each executor's local directory on a persistent volume claim of this storage class, which replacements
	// reuse. "": an emptyDir.
	ClaimClass string
}

// Job is an application that runs: it reads its shuffle when it is told to.
type Job struct {
	Name, Namespace string // of the driver's pod
	// App is its spark-app-selector.
	App string

	c       *Cluster
	options JobOptions
	address string // of the driver's pod
	sum     *int64 // the result of the first round
}

// Round is what a round cost.
type Round struct {
	Took          time.Duration
	MapTasks      int // that ran; after the first round, those whose outputs were lost
	ReduceTasks   int
	FetchFailures int // of reduce tasks that could not read an output
	Failures      int // of tasks, for other reasons
}

func (r Round) String() string {
	return fmt.Sprintf("%v, %d map tasks, %d fetch failures, %d other failures", r.Took, r.MapTasks, r.FetchFailures, r.Failures)
}

// JobEvent is an executor that came or went, as the driver saw it.
type JobEvent struct {
	At       time.Time
	What     string // added or removed
	Executor string
	Why      string // the reason of a removal; the host of an addition
}

// Job starts an application and returns when all its executors have registered. No map task has run then.
func (c *Cluster) Job(ctx context.Context, o JobOptions) (*Job, error) {
	o.Name, o.Namespace, o.Spark = cmp.Or(o.Name, "job"), cmp.Or(o.Namespace, "spark"), cmp.Or(o.Spark, "3.5.9")
	o.Executors, o.Maps, o.Reduces, o.KiB = cmp.Or(o.Executors, 3), cmp.Or(o.Maps, 12), cmp.Or(o.Reduces, 4), cmp.Or(o.KiB, 256)
	if err := c.MakeNamespace(ctx, o.Namespace); err != nil {
		return nil, err
	}
	j := &Job{Name: o.Name, Namespace: o.Namespace, c: c, options: o}
	start := j.startPod
	if o.Cluster {
		start = j.submit
	}
	if err := start(ctx); err != nil {
		return nil, fmt.Errorf("start the job %s: %w", o.Name, err)
	}
	return j, j.waitReady(ctx)
}

// MakeNamespace makes a namespace in which Spark can run, unless it is there: with a service account "spark" that may edit it.
func (c *Cluster) MakeNamespace(ctx context.Context, name string) error {
	err := c.Apply(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: spark, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: spark, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: spark, namespace: %[1]s}]
`, name))
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	return nil
}

// conf are the settings of the application, those of its caller last.
func (j *Job) conf() map[string]string {
	o := j.options
	conf := map[string]string{
		"spark.app.name":                   o.Name,
		"spark.kubernetes.namespace":       o.Namespace,
		"spark.kubernetes.container.image": SparkImage(o.Spark), "spark.kubernetes.container.image.pullPolicy": "Never",
		"spark.kubernetes.authenticate.driver.serviceAccountName": "spark",
		"spark.kubernetes.driver.pod.name":                        o.Name,
		"spark.kubernetes.driver.request.cores":                   "50m", "spark.kubernetes.executor.request.cores": "50m",
		"spark.driver.port": "7078", "spark.driver.blockManager.port": "7079",
		"spark.driver.memory": "512m", "spark.executor.memory": "512m", "spark.executor.cores": "1",
		"spark.kubernetes.memoryOverheadFactor": "0.2",
		"spark.executor.instances":              strconv.Itoa(o.Executors), "spark.scheduler.minRegisteredResourcesRatio": "1.0",
		"spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
		"spark.decommission.enabled":                        "true", "spark.storage.decommission.enabled": "true",
		"spark.storage.decommission.shuffleBlocks.enabled": "true", "spark.storage.decommission.rddBlocks.enabled": "true",
		"spark.executor.extraJavaOptions":               javaOptions,
		"spark.driver.extraJavaOptions":                 javaOptions,
		"spark.kubernetes.executor.podTemplateFile":     "/opt/templates/executor.yaml",
		"spark.kubernetes.executor.deleteOnTermination": "true",
	}
	if o.ExecutorNode != "" {
		conf["spark.kubernetes.executor.node.selector.kubernetes.io/hostname"] = o.ExecutorNode
	}
	if o.ClaimClass != "" {
		maps.Copy(conf, claims(o.ClaimClass))
	}
	maps.Copy(conf, o.Conf)
	maps.DeleteFunc(conf, func(_, v string) bool { return v == "" })
	return conf
}

// claims are the settings for claims that replacements reuse, as Spark's documentation has them. The path is two levels deep: the
// recovery of KubernetesLocalDiskShuffleDataIO looks there.
func claims(class string) map[string]string {
	const volume = "spark.kubernetes.executor.volumes.persistentVolumeClaim.spark-local-dir-1."
	return map[string]string{
		volume + "options.claimName":    "OnDemand",
		volume + "options.storageClass": class,
		volume + "options.sizeLimit":    "1Gi",
		volume + "mount.path":           "/data/spark-x/executor-x",
		volume + "mount.readOnly":       "false",

		"spark.kubernetes.driver.ownPersistentVolumeClaim":         "true",
		"spark.kubernetes.driver.reusePersistentVolumeClaim":       "true",
		"spark.kubernetes.driver.waitToReusePersistentVolumeClaim": "true",
		"spark.shuffle.sort.io.plugin.class":                       "org.apache.spark.shuffle.KubernetesLocalDiskShuffleDataIO",
	}
}

// spread is the pod template of executors that are to be on all nodes that take pods.
const spread = `{"apiVersion":"v1","kind":"Pod","spec":{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"kubernetes.io/hostname",` +
	`"whenUnsatisfiable":"DoNotSchedule","nodeTaintsPolicy":"Honor","labelSelector":{"matchLabels":{"spark-role":"executor"}},` +
	`"matchLabelKeys":["spark-app-selector"]}]}}`

// arguments are what follows the jar.
func (j *Job) arguments() []string {
	o := j.options
	pause := cmp.Or(o.MapTime, 500*time.Millisecond)
	return []string{strconv.Itoa(o.Maps), strconv.Itoa(o.Reduces), strconv.Itoa(o.KiB), strconv.FormatInt(pause.Milliseconds(), 10)}
}

const (
	jobClass = "ShuffleJob"
	jobJar   = "local:///opt/job/job.jar"
	jobPort  = "8099"
)

// submission is a command line of spark-submit, after the program: its settings are arguments or lines of a file.
func (j *Job) submission(mode string, settings ...string) []string {
	args := append([]string{"--master", "k8s://https://" + apiAddress, "--deploy-mode", mode, "--class", jobClass}, settings...)
	return append(append(args, jobJar), j.arguments()...)
}

// startPod starts the driver in client mode, in a pod that is made here. Its address is its pod's: nothing needs a name.
func (j *Job) startPod(ctx context.Context) error {
	o := j.options
	template := cmp.Or(o.ExecutorTemplate, spread)
	conf := j.conf()
	delete(conf, "spark.kubernetes.driver.request.cores")
	// Spark 4.3.0 gives executors the bind address in client mode.
	conf["spark.driver.host"], conf["spark.driver.bindAddress"] = "$(POD_IP)", "$(POD_IP)"
	var settings []string
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		settings = append(settings, "--conf", k+"="+conf[k])
	}
	labels := object{"spark-role": "driver", "lab-job": j.Name}
	spec := object{
		"serviceAccountName": "spark", "restartPolicy": "Never", "terminationGracePeriodSeconds": 2,
		"volumes": []object{{"name": "templates", "configMap": object{"name": j.Name}}},
		"containers": []object{{
			"name": "spark-kubernetes-driver", "image": SparkImage(o.Spark), "imagePullPolicy": "Never",
			"args":         append([]string{"/opt/spark/bin/spark-submit"}, j.submission("client", settings...)...),
			"env":          []object{{"name": "POD_IP", "valueFrom": object{"fieldRef": object{"fieldPath": "status.podIP"}}}},
			"resources":    object{"requests": object{"cpu": "50m", "memory": "700Mi"}},
			"volumeMounts": []object{{"name": "templates", "mountPath": "/opt/templates"}},
		}},
	}
	if o.Node != "" {
		spec["nodeSelector"] = object{"kubernetes.io/hostname": o.Node}
	}
	for _, doc := range []object{
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": j.Name}, "data": object{"executor.yaml": template}},
		{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": j.Name, "labels": labels}, "spec": spec},
	} {
		path := fmt.Sprintf("/api/v1/namespaces/%s/%ss", j.Namespace, strings.ToLower(doc["kind"].(string)))
		if err := j.c.Do(ctx, http.MethodPost, path, doc, nil); err != nil {
			return err
		}
	}
	return nil
}

// submit runs spark-submit in cluster mode beside the API server, as an operator does.
func (j *Job) submit(ctx context.Context) error {
	o := j.options
	token, err := j.c.Kubectl(ctx, "-n", j.Namespace, "create", "token", "spark")
	if err != nil {
		return err
	}
	conf := map[string]string{
		"spark.kubernetes.authenticate.submission.oauthToken": strings.TrimSpace(token), // its client can't read EC keys
		"spark.kubernetes.authenticate.submission.caCertFile": j.c.path("ca.crt"),
		"spark.kubernetes.submission.waitAppCompletion":       "false",
	}
	if o.Node != "" {
		conf["spark.kubernetes.driver.node.selector.kubernetes.io/hostname"] = o.Node
	}
	for key, template := range map[string]string{"executor": cmp.Or(o.ExecutorTemplate, spread), "driver": o.DriverTemplate} {
		if template == "" {
			continue
		}
		file := j.c.path(j.Namespace + "-" + j.Name + "-" + key + ".yaml")
		if err := os.WriteFile(file, []byte(template), 0o600); err != nil {
			return err
		}
		conf["spark.kubernetes."+key+".podTemplateFile"] = file
	}
	all := j.conf()
	maps.Copy(all, conf)
	maps.Copy(all, o.Conf)
	var lines strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&lines, "%s %s\n", k, all[k])
	}
	file := j.c.path(j.Namespace + "-" + j.Name + ".conf") // not arguments: the token is one of them
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		return err
	}
	home := j.c.parts.spark[o.Spark]
	program := []string{
		"env", "JAVA_HOME=" + j.c.parts.java, "SPARK_HOME=" + home, "SPARK_CONF_DIR=" + filepath.Join(home, "conf"), // is not there
		"SPARK_SUBMIT_OPTS=" + javaOptions + " -XX:SharedArchiveFile=" + filepath.Join(home, "spark.jsa"),
		filepath.Join(home, "bin", "spark-submit"),
	}
	_, err = output(ctx, j.c.net, append(program, j.submission("cluster", "--properties-file", file)...)...)
	return err
}

// waitReady waits until the driver has all its executors.
func (j *Job) waitReady(ctx context.Context) error {
	err := lab.Until(ctx, fmt.Sprintf("the job %s has its %d executors", j.Name, j.options.Executors), func(ctx context.Context) (bool, error) {
		p, err := j.Pod(ctx)
		if p.Phase == "Failed" || p.Phase == "Succeeded" {
			return false, errors.New("the driver has ended")
		}
		if j.address = p.IP; err == nil && p.IP == "" {
			return false, nil
		}
		state, err := j.state(ctx)
		j.App = state.Application
		return err == nil && state.Executors >= j.options.Executors, nil
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, j.Tail(60))
	}
	return nil
}

// Pod is what matters of a pod.
type Pod struct {
	Name, Node, IP, Phase, UID string
	Executor                   string // its id, of an executor
	Deleting                   bool
}

// Pod is the driver's.
func (j *Job) Pod(ctx context.Context) (Pod, error) {
	var p podDocument
	err := j.c.Do(ctx, http.MethodGet, "/api/v1/namespaces/"+j.Namespace+"/pods/"+j.Name, nil, &p)
	return p.pod(), err
}

// Executors are the pods of its executors that run, in the order of their ids.
func (j *Job) Executors(ctx context.Context) (pods []Pod, err error) {
	var list struct{ Items []podDocument }
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods?labelSelector=spark-role=executor,spark-app-selector=%s", j.Namespace, j.App)
	if err := j.c.Do(ctx, http.MethodGet, path, nil, &list); err != nil {
		return nil, err
	}
	for _, p := range list.Items {
		if pod := p.pod(); pod.Phase == "Running" && !pod.Deleting {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(len(a.Executor), len(b.Executor)), cmp.Compare(a.Executor, b.Executor))
	})
	return pods, nil
}

type podDocument struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp string
		Labels            map[string]string
	}
	Spec   struct{ NodeName string }
	Status struct{ Phase, PodIP string }
}

func (p podDocument) pod() Pod {
	return Pod{
		Name: p.Metadata.Name, UID: p.Metadata.UID, Node: p.Spec.NodeName, IP: p.Status.PodIP, Phase: p.Status.Phase,
		Executor: p.Metadata.Labels["spark-exec-id"], Deleting: p.Metadata.DeletionTimestamp != "",
	}
}

// Round lets the application read its shuffle and returns what that cost. Its result must be that of the first round.
func (j *Job) Round(ctx context.Context) (Round, error) { return j.round(ctx, "/round") }

// Fresh is a round of a new shuffle, all of whose map tasks run.
func (j *Job) Fresh(ctx context.Context) (Round, error) { return j.round(ctx, "/fresh") }

func (j *Job) round(ctx context.Context, path string) (Round, error) {
	var answer struct {
		TookMs, MapTasks, ReduceTasks, FetchFailures, Failures int
		Sum                                                    int64
	}
	if err := j.ask(ctx, path, &answer); err != nil {
		return Round{}, fmt.Errorf("round of %s: %w\n%s", j.Name, err, j.Tail(30))
	}
	if j.sum == nil {
		j.sum = &answer.Sum
	}
	r := Round{
		Took: time.Duration(answer.TookMs) * time.Millisecond, MapTasks: answer.MapTasks, ReduceTasks: answer.ReduceTasks,
		FetchFailures: answer.FetchFailures, Failures: answer.Failures,
	}
	if *j.sum != answer.Sum {
		return r, fmt.Errorf("round of %s: the result is %d, and was %d in the first one", j.Name, answer.Sum, *j.sum)
	}
	return r, nil
}

type jobState struct {
	Application string
	Executors   int
	Events      []struct {
		At                  int64
		What, Executor, Why string
	}
}

func (j *Job) state(ctx context.Context) (s jobState, err error) { return s, j.ask(ctx, "/state", &s) }

// Events are the executors that came and went, as the driver saw it; registered is how many there are.
func (j *Job) Events(ctx context.Context) (events []JobEvent, registered int, err error) {
	s, err := j.state(ctx)
	for _, e := range s.Events {
		events = append(events, JobEvent{At: time.UnixMilli(e.At), What: e.What, Executor: e.Executor, Why: e.Why})
	}
	return events, s.Executors, err
}

// WaitExecutors waits until the driver has so many executors.
func (j *Job) WaitExecutors(ctx context.Context, n int) error {
	return lab.Until(ctx, fmt.Sprintf("the job %s has %d executors", j.Name, n), func(ctx context.Context) (bool, error) {
		s, err := j.state(ctx)
		return err == nil && s.Executors == n, nil
	})
}

// Alive says whether the driver answers.
func (j *Job) Alive(ctx context.Context) error {
	_, err := j.state(ctx)
	return err
}

// Stop ends the application and removes its pods. The driver has gone before its executors do: it would ask for others.
func (j *Job) Stop(ctx context.Context) error {
	how := []string{"--grace-period=1", "--timeout=60s"}
	if p, err := j.Pod(ctx); err == nil && p.Node != "" && !j.c.Node(p.Node).On() {
		how = []string{"--grace-period=0", "--force"} // nobody there would say that it has ended
	}
	remove := append([]string{"-n", j.Namespace, "delete", "--ignore-not-found", "pod/" + j.Name, "configmap/" + j.Name}, how...)
	_, err := j.c.Kubectl(ctx, remove...)
	if j.App == "" {
		return err
	}
	_, failed := j.c.Kubectl(ctx, "-n", j.Namespace, "delete", "pods", "--grace-period=0", "--force", "-l", "spark-app-selector="+j.App)
	return errors.Join(err, failed)
}

// Tail is the end of the driver's log.
func (j *Job) Tail(lines int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, err := j.c.Kubectl(ctx, "-n", j.Namespace, "logs", j.Name, "--tail="+strconv.Itoa(lines))
	if err != nil {
		return err.Error()
	}
	return text
}

// ask asks the driver's job.
func (j *Job) ask(ctx context.Context, path string, out any) error {
	return get(ctx, client(j.c.net), "http://"+j.address+":"+jobPort+path, out)
}
