//go:build integration

package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/providers"
)

// running is the real program as a daemon that watches one machine.
type running struct {
	t      *testing.T
	binary string
	config string
	listen string
	cmd    *exec.Cmd
}

// nowhere is an address that no executor on this machine can have (RFC 5737): the agent under test has none.
const nowhere = "192.0.2.1"

// program builds the real program once. The folder goes with the API server's.
var program = sync.OnceValues(func() (string, error) { return lab.Build(context.Background(), shared.Folder) })

// agentOptions say where it runs and what it is told.
type agentOptions struct {
	kube    string   // what the configuration says under providers.kube
	env     []string // beside PATH
	wrapper []string // is put before the command, and ends in becoming it
}

// runAgent starts it; it ends with the test.
func runAgent(t *testing.T, o agentOptions) *running {
	t.Helper()
	dir := t.TempDir()
	binary, err := program()
	must(t, err)
	port, err := lab.FreePort()
	must(t, err)
	r := &running{t: t, binary: binary, config: filepath.Join(dir, "lifeboat.yaml"), listen: "127.0.0.1:" + port}
	must(t, os.WriteFile(r.config, fmt.Appendf(nil, "node: {addresses: [%s]}\nlisten: %s\nstate: %s\nproviders: {cloud: none, kube: {%s}}\n",
		nowhere, r.listen, filepath.Join(dir, "state"), o.kube), 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	args := slices.Concat(o.wrapper, []string{binary, "agent", "--config", r.config})
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.Env = slices.Concat(o.env, []string{"PATH=" + os.Getenv("PATH")})
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, r.cmd.Start())
	t.Cleanup(func() {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("the agent ended with: %v", err)
		}
		log.Close()
		if t.Failed() {
			t.Log(lab.Tail(log.Name(), 50))
		}
	})
	return r
}

// probe is the status of one of the agent's pages; 0 while nobody listens.
func (r *running) probe(page string) int {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + r.listen + page)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// seen is what `lifeboat notices` shows of a source.
type seen struct {
	Source  string             `json:"source"`
	OK      bool               `json:"ok"`
	Error   string             `json:"error"`
	Notices []providers.Notice `json:"notices"`
}

func (r *running) notices() map[string]seen {
	r.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(r.binary, "notices", "--config", r.config, "-o", "json")
	cmd.Stdout = &out
	_ = cmd.Run() // 1 when no source works
	var o struct {
		Sources []seen `json:"sources"`
	}
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		return nil
	}
	all := make(map[string]seen)
	for _, s := range o.Sources {
		all[s.Source] = s
	}
	return all
}

func (r *running) until(what string, holds func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, what, func(context.Context) (bool, error) { return holds(), nil }); err != nil {
		r.t.Fatalf("%v; seen: %+v", err, r.notices())
	}
}

// residentKiB reads what the process occupies.
func (r *running) residentKiB() int {
	r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	must(r.t, err)
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		r.t.Fatalf("no VmRSS in\n%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	must(r.t, err)
	return n
}

// TestDefect08AgentStaysAliveWithoutTheAPIServer runs the real program: readiness tells that nothing is heard, liveness does not.
func TestDefect08AgentStaysAliveWithoutTheAPIServer(t *testing.T) {
	t.Parallel()
	d, m := newDoor(t), newMachine(t, shared)
	for i := range 20 {
		m.executor(i, "executor")
	}
	r := runAgent(t, agentOptions{kube: fmt.Sprintf("enabled: true, kubeconfig: %s, node: %s", d.kubeconfig, m.name)})
	r.until("it is ready", func() bool { return r.probe("/readyz") == http.StatusOK })
	t.Logf("resident memory of an agent that has just begun to watch Kubernetes: %d KiB", r.residentKiB())
	m.cordon(true)
	r.until("the cordon is shown", func() bool {
		s := r.notices()["kube-node"]
		return s.OK && len(s.Notices) == 1 && s.Notices[0].Kind == providers.Cordon
	})

	d.SetFault("unavailable")
	r.until("it says what is wrong, and what it saw last", func() bool {
		s := r.notices()["kube-node"]
		return !s.OK && strings.Contains(s.Error, "503") && len(s.Notices) == 1
	})
	r.until("it is not ready", func() bool { return r.probe("/readyz") == http.StatusServiceUnavailable })
	if code := r.probe("/healthz"); code != http.StatusOK {
		t.Errorf("liveness without the API server: %d", code)
	}
	d.SetFault("none")
	r.until("it is ready again", func() bool { return r.probe("/readyz") == http.StatusOK })
	m.cordon(false)
	r.until("nothing is shown", func() bool {
		s := r.notices()["kube-node"]
		return s.OK && len(s.Notices) == 0
	})
}

// podScript gives a process what the kubelet gives a pod: its service account's folder, in a mount namespace of its own.
const podScript = `mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && cp -r "$0" /run/secrets/kubernetes.io/serviceaccount && exec "$@"`

// TestAgentInAPod runs the real program the way that a pod sees Kubernetes, with the documented permissions and no others:
// nothing is configured, and both sources start by themselves.
func TestAgentInAPod(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	account := t.TempDir()
	m.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts", object{"metadata": object{"name": m.name}}, nil)
	var token struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	m.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+m.name+"/token", object{"spec": object{"expirationSeconds": 3600}}, &token)
	m.grant(object{"kind": "ServiceAccount", "name": m.name, "namespace": namespace}, "list", "watch")
	authority, err := os.ReadFile(filepath.Join(shared.Folder, "ca.crt"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(account, "ca.crt"), authority, 0o600))
	must(t, os.WriteFile(filepath.Join(account, "token"), []byte(token.Status.Token), 0o600))
	must(t, os.WriteFile(filepath.Join(account, "namespace"), []byte(namespace), 0o600))
	server, err := url.Parse(shared.URL)
	must(t, err)

	r := runAgent(t, agentOptions{
		kube:    "enabled: auto",
		env:     []string{"NODE_NAME=" + m.name, "KUBERNETES_SERVICE_HOST=" + server.Hostname(), "KUBERNETES_SERVICE_PORT=" + server.Port()},
		wrapper: []string{"unshare", "--mount", "--propagation", "private", "bash", "-ec", podScript, account},
	})
	r.until("both sources work", func() bool {
		s := r.notices()
		return s["kube-node"].OK && s["kube-pods"].OK
	})
	m.remove(m.executor(5, "executor"), grace)
	r.until("the deletion is shown", func() bool {
		s := r.notices()["kube-pods"]
		return len(s.Notices) == 1 && s.Notices[0].App == app && slices.Equal(s.Notices[0].Executors, []string{"5"})
	})
}
