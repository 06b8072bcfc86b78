//go:build integration

package kubernetes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lifeboat/lifeboat/agent/survivor"
	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// pool is a set of Node objects with a label of their own, their Leases, and the executors' pods on them.
type pool struct {
	t     *testing.T
	c     *kubelab.Cluster
	name  string // value of the label "pool", and a namespace of its own
	nodes []string
}

// newPool makes as many nodes as are wanted, all of them alive.
func newPool(t *testing.T, c *kubelab.Cluster, size int) *pool {
	t.Helper()
	p := &pool{t: t, c: c, name: fmt.Sprintf("pool-%d", count.Add(1))}
	p.do(http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": p.name}}, nil)
	for i := range size {
		p.nodes = append(p.nodes, fmt.Sprintf("%s-node-%d", p.name, i))
	}
	p.all(p.nodes, func(node string) error { return p.register(node, "boot-1", "True") })
	t.Cleanup(func() {
		if c != shared {
			return // it ends
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = c.Do(ctx, http.MethodDelete, "/api/v1/nodes?labelSelector=pool%3D"+p.name, nil, nil)
		_ = c.Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+p.name+"/pods?gracePeriodSeconds=0", object{"gracePeriodSeconds": 0}, nil)
	})
	return p
}

func (p *pool) do(method, path string, in, out any) {
	p.t.Helper()
	must(p.t, p.c.Do(p.t.Context(), method, path, in, out))
}

// all does something for many names, several at a time.
func (p *pool) all(names []string, do func(name string) error) {
	p.t.Helper()
	var group errgroup.Group
	group.SetLimit(8)
	for _, name := range names {
		group.Go(func() error { return do(name) })
	}
	must(p.t, group.Wait())
}

const nodeLeases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

// register makes a Node object and its Lease, as a kubelet does.
func (p *pool) register(node, boot, ready string) error {
	if err := p.object(node, boot, ready); err != nil {
		return err
	}
	return p.c.Do(p.t.Context(), http.MethodPost, nodeLeases, object{
		"metadata": object{"name": node}, "spec": leaseAt(node, time.Now()),
	}, nil)
}

// object makes a Node object alone. Real ones are this long because of the images' names.
func (p *pool) object(node, boot, ready string) error {
	var images []object
	for i := range 40 {
		images = append(images, object{"sizeBytes": 100 << 20, "names": []string{
			fmt.Sprintf("example.com/some/image-%d@sha256:%064d", i, i), fmt.Sprintf("example.com/some/image-%d:v1.%d.0", i, i),
		}})
	}
	return p.c.Do(p.t.Context(), http.MethodPost, "/api/v1/nodes", object{
		"metadata": object{"name": node, "labels": object{"pool": p.name, "kubernetes.io/hostname": node}},
		"status":   object{"nodeInfo": nodeInfo(boot), "conditions": conditions(ready), "images": images},
	}, nil)
}

func nodeInfo(boot string) object {
	return object{
		"bootID": boot, "architecture": "amd64", "operatingSystem": "linux", "kernelVersion": "6", "osImage": "x", "machineID": "x",
		"systemUUID": "x", "containerRuntimeVersion": "x", "kubeletVersion": "v1.35.4", "kubeProxyVersion": "",
	}
}

func conditions(ready string) []object {
	return []object{{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready, "reason": "test", "message": "written by a test"}}
}

func leaseAt(node string, renewed time.Time) object {
	return object{"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": renewed.UTC().Format("2006-01-02T15:04:05.000000Z")}
}

// report is what a kubelet, or the control plane in its place, writes: the condition Ready, and which boot it is of.
func (p *pool) report(node, boot, ready string) error {
	return p.c.Do(p.t.Context(), http.MethodPatch, "/api/v1/nodes/"+node+"/status",
		object{"status": object{"nodeInfo": object{"bootID": boot}, "conditions": conditions(ready)}}, nil)
}

// renew writes the Lease as of a moment.
func (p *pool) renew(node string, at time.Time) error {
	return p.c.Do(p.t.Context(), http.MethodPatch, nodeLeases+"/"+node, object{"spec": leaseAt(node, at)}, nil)
}

// silence is a machine that stopped two minutes ago, when the control plane has noticed.
func (p *pool) silence(node string) error {
	if err := p.renew(node, time.Now().Add(-2*time.Minute)); err != nil {
		return err
	}
	return p.report(node, "boot-1", "Unknown")
}

// powerOff is the same with the taint of the cloud controller manager.
func (p *pool) powerOff(node string) error {
	if err := p.silence(node); err != nil {
		return err
	}
	return p.c.Do(p.t.Context(), http.MethodPatch, "/api/v1/nodes/"+node, object{"spec": object{"taints": []object{
		{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}, {"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"},
	}}}, nil)
}

// executors puts running executors on a node.
func (p *pool) executors(node string, n int) error {
	for range n {
		if err := p.pod(node, "executor", ""); err != nil {
			return err
		}
	}
	return nil
}

// pod runs one on a node; address may be empty.
func (p *pool) pod(node, role, address string) error {
	name := fmt.Sprintf("%s-%d", role, count.Add(1))
	path := "/api/v1/namespaces/" + p.name + "/pods"
	err := p.c.Do(p.t.Context(), http.MethodPost, path, object{
		"metadata": object{"name": name, "labels": object{"spark-role": role, "spark-app-selector": app, "spark-exec-id": "1"}},
		"spec": object{
			"nodeName": node, "terminationGracePeriodSeconds": 30, "restartPolicy": "Never",
			"containers": []object{{"name": "executor", "image": "spark"}},
		},
	}, nil)
	if err != nil {
		return err
	}
	status := object{"phase": "Running"}
	if address != "" {
		status["podIP"], status["podIPs"] = address, []object{{"ip": address}}
	}
	return p.c.Do(p.t.Context(), http.MethodPatch, path+"/"+name+"/status", object{"status": status}, nil)
}

// node is what tests look at.
type node struct {
	Metadata struct {
		UID         string            `json:"uid"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Taints []struct {
			Key string `json:"key"`
		} `json:"taints"`
	} `json:"spec"`
}

func (n node) tainted() bool {
	for _, t := range n.Spec.Taints {
		if t.Key == "node.kubernetes.io/out-of-service" {
			return true
		}
	}
	return false
}

func (p *pool) node(name string) (n node) {
	p.t.Helper()
	p.do(http.MethodGet, "/api/v1/nodes/"+name, nil, &n)
	return n
}

// pods are those of a role that are on a node; "" is any node.
func (p *pool) pods(node, role string) int {
	p.t.Helper()
	query := url.Values{"labelSelector": {"spark-role=" + role}}
	if node != "" {
		query.Set("fieldSelector", "spec.nodeName="+node)
	}
	var list struct {
		Items []any `json:"items"`
	}
	p.do(http.MethodGet, "/api/v1/namespaces/"+p.name+"/pods?"+query.Encode(), nil, &list)
	return len(list.Items)
}

// events counts those of a reason.
func (p *pool) events(namespace, reason, about string) int {
	p.t.Helper()
	var list struct {
		Items []any `json:"items"`
	}
	query := url.Values{"fieldSelector": {"reason=" + reason + ",involvedObject.name=" + about}}
	p.do(http.MethodGet, "/api/v1/namespaces/"+namespace+"/events?"+query.Encode(), nil, &list)
	return len(list.Items)
}

// account makes a service account in the pool's namespace with the permissions of a survivor and no others, and a
// kubeconfig for it.
func (p *pool) account(rules []survivor.Rule) (kubeconfig string) {
	p.t.Helper()
	const name = "survivor"
	p.do(http.MethodPost, "/api/v1/namespaces/"+p.name+"/serviceaccounts", object{"metadata": object{"name": name}}, nil)
	for i, r := range rules {
		role, kind := fmt.Sprintf("%s-%d", p.name, i), "ClusterRole"
		path := rbac
		if r.Namespace != "" {
			path, kind = rbac+"namespaces/"+r.Namespace+"/", "Role"
		}
		rule := object{"apiGroups": []string{r.Group}, "resources": []string{r.Resource}, "verbs": r.Verbs}
		if r.Name != "" {
			rule["resourceNames"] = []string{r.Name}
		}
		p.do(http.MethodPost, path+strings.ToLower(kind)+"s", object{"metadata": object{"name": role}, "rules": []object{rule}}, nil)
		p.do(http.MethodPost, path+strings.ToLower(kind)+"bindings", object{
			"metadata": object{"name": role}, "roleRef": object{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
			"subjects": []object{{"kind": "ServiceAccount", "name": name, "namespace": p.name}},
		}, nil)
	}
	return p.tokenOf(p.name, name)
}

// tokenOf is a kubeconfig for a service account.
func (p *pool) tokenOf(namespace, name string) (kubeconfig string) {
	p.t.Helper()
	var token struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	p.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token", object{"spec": object{"expirationSeconds": 3600}}, &token)
	dir := p.t.TempDir()
	must(p.t, os.WriteFile(filepath.Join(dir, "token"), []byte(token.Status.Token), 0o600))
	kubeconfig = filepath.Join(dir, "kubeconfig")
	must(p.t, p.c.Kubeconfig(kubeconfig, p.c.URL, kubelab.User{TokenFile: filepath.Join(dir, "token")}))
	return kubeconfig
}

// survivorProcess is the real program.
type survivorProcess struct {
	t      *testing.T
	name   string
	listen string
	log    string
	cmd    *exec.Cmd
	ended  chan error

	mu     sync.Mutex
	killed bool
}

// survivor starts one replica, which ends with the test. settings are keys of the section survivor.
func (p *pool) survivor(kubeconfig, settings string, args ...string) *survivorProcess {
	p.t.Helper()
	binary, err := program()
	must(p.t, err)
	port, err := lab.FreePort()
	must(p.t, err)
	dir := p.t.TempDir()
	s := &survivorProcess{
		t: p.t, name: fmt.Sprintf("replica-%d", count.Add(1)), listen: "127.0.0.1:" + port, log: filepath.Join(dir, "log"), ended: make(chan error, 1),
	}
	config := filepath.Join(dir, "lifeboat.yaml")
	must(p.t, os.WriteFile(config, fmt.Appendf(nil, "listen: %s\nproviders: {kube: {kubeconfig: %s}}\nsurvivor: {nodes: pool=%s, after: 1s, %s}\n",
		s.listen, kubeconfig, p.name, settings), 0o600))
	log, err := os.Create(s.log)
	must(p.t, err)
	s.cmd = exec.Command(binary, append([]string{"survivor", "--config", config}, args...)...)
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "POD_NAMESPACE=" + p.name, "POD_NAME=" + s.name}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: 0}
	must(p.t, s.cmd.Start())
	go func() { s.ended <- s.cmd.Wait() }()
	p.t.Cleanup(func() {
		s.end(syscall.SIGTERM)
		log.Close()
		if p.t.Failed() {
			p.t.Logf("%s:\n%s", s.name, lab.Tail(s.log, 60))
		}
	})
	return s
}

// end ends it; a clean end must be one.
func (s *survivorProcess) end(signal syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		return
	}
	s.killed = true
	_ = s.cmd.Process.Signal(signal)
	if err := <-s.ended; err != nil && signal == syscall.SIGTERM {
		s.t.Errorf("%s ended with: %v", s.name, err)
	}
}

// metric reads one number from its pages; false while there is none.
func (s *survivorProcess) metric(name string) (float64, bool) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + s.listen + "/metrics")
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if rest, is := strings.CutPrefix(lines.Text(), "lifeboat_survivor_"+name+" "); is {
			v, err := strconv.ParseFloat(rest, 64)
			return v, err == nil
		}
	}
	return 0, false
}

func (s *survivorProcess) is(name string, want float64) bool {
	v, ok := s.metric(name)
	return ok && v == want
}

// ready is the status of /readyz.
func (s *survivorProcess) ready() bool {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + s.listen + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// took are the times from certainty until all was done, as it has logged them.
func (s *survivorProcess) took() (all []time.Duration) {
	s.t.Helper()
	text, err := os.ReadFile(s.log)
	must(s.t, err)
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Msg  string  `json:"msg"`
			Took float64 `json:"took"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "node declared dead" {
			all = append(all, time.Duration(entry.Took*float64(time.Second)))
		}
	}
	return all
}

// residentKiB reads what the process occupies now, and the most that it did.
func (s *survivorProcess) residentKiB() (now, most int) {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	must(s.t, err)
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &now)
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &most)
	}
	if now == 0 || most == 0 {
		s.t.Fatalf("no VmRSS and VmHWM in\n%s", text)
	}
	return now, most
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	must(t, lab.Until(ctx, what, func(context.Context) (bool, error) { return holds(), nil }))
}
