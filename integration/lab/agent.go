package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
)

// AgentOptions say how Lifeboat runs on a node.
type AgentOptions struct {
	Binary string // of lifeboat
	Cloud  Cloud  // whose metadata service the node has; "": AWS
	Poll   time.Duration
	// Config is more YAML, below the keys that the lab sets itself: node, providers, state, listen, log.
	Config string
	Env    []string
}

// Agent is a lifeboat process of one node, with its own fake of a cloud's metadata service.
type Agent struct {
	State  string // its state folder
	Log    string // path of its log
	URL    string // of its metrics and status
	Config string // path of its configuration

	options AgentOptions
	cloud   cloudFake
	spawner *spawner
	cmd     *exec.Cmd
	done    chan struct{}
}

// StartAgent runs lifeboat for a node and waits until it is ready, that is, until it has seen the metadata answer.
func (c *Cluster) StartAgent(ctx context.Context, n *Node, o AgentOptions) (*Agent, error) {
	a, err := c.NewAgent(n, o)
	if err != nil {
		return nil, err
	}
	return a, a.Start(ctx)
}

// NewAgent configures lifeboat for a node, and starts nothing: Command works at once, Start starts the daemon.
func (c *Cluster) NewAgent(n *Node, o AgentOptions) (*Agent, error) {
	dir, err := c.mkdir("agent-" + n.Address)
	if err != nil {
		return nil, err
	}
	cloud, err := o.Cloud.start()
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	a := &Agent{
		State: filepath.Join(dir, "state"), Log: filepath.Join(dir, "log"), URL: "http://127.0.0.1:" + port,
		Config: filepath.Join(dir, "lifeboat.yaml"), options: o, cloud: cloud, spawner: c.spawner,
	}
	name, poll := cmp.Or(o.Cloud, AWS), cmp.Or(o.Poll, 500*time.Millisecond)
	text := fmt.Sprintf("node: {name: %q, addresses: [%q]}\nproviders: {%s: {poll: %s, endpoint: %q}}\nstate: %s\nlisten: 127.0.0.1:%s\nlog: {level: debug}\n%s",
		n.Address, n.Address, name, poll, cloud.endpoint, a.State, port, o.Config)
	if err := os.WriteFile(a.Config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.agents = append(c.agents, a)
	c.mu.Unlock()
	return a, nil
}

// Start runs the agent (again) and waits until it is ready.
func (a *Agent) Start(ctx context.Context) error {
	log, err := os.OpenFile(a.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	a.cmd = exec.Command(a.options.Binary, "agent", "--config", a.Config)
	a.cmd.Env = os.Environ()
	if a.cloud.env != "" {
		a.cmd.Env = append(a.cmd.Env, a.cloud.env)
	}
	a.cmd.Env = append(a.cmd.Env, a.options.Env...)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := a.spawner.start(a.cmd); err != nil {
		return err
	}
	done, cmd := make(chan struct{}), a.cmd
	a.done = done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return a.waitReady(ctx, done)
}

// WaitReady waits until an agent is ready that runs elsewhere than in a process of the lab.
func (a *Agent) WaitReady(ctx context.Context) error { return a.waitReady(ctx, nil) }

func (a *Agent) waitReady(ctx context.Context, done <-chan struct{}) error {
	return Until(ctx, "the agent is ready", func(ctx context.Context) (bool, error) {
		select {
		case <-done:
			return false, fmt.Errorf("the agent ended; end of its log:\n%s", Tail(a.Log, 30))
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+"/readyz", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil // not listening yet
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

// Announce shows a spot notice in the metadata. The times that clouds name have a resolution of a second; Google's
// notice names none, and means 30 s.
func (a *Agent) Announce(in time.Duration) { a.cloud.announce(time.Now().Add(in)) }

// Report waits for the end of a rescue and returns its report: the newest, when it is another than the given ones.
func (a *Agent) Report(ctx context.Context, known ...*report.Report) (*report.Report, error) {
	found, err := WaitReport(ctx, a.State, a.done, known...)
	if err != nil {
		return nil, fmt.Errorf("%w; end of its log:\n%s", err, Tail(a.Log, 40))
	}
	return found, nil
}

// WaitReport waits until there is a report in an agent's state folder beside the given ones. The end of the agent, if done is not nil,
// ends the wait.
func WaitReport(ctx context.Context, state string, done <-chan struct{}, known ...*report.Report) (found *report.Report, err error) {
	err = Until(ctx, "the agent's report is there", func(context.Context) (bool, error) {
		all, err := Reports(state)
		if err != nil {
			return false, err
		}
		for _, r := range all {
			if !contains(known, r.ID) {
				found = r
				return true, nil
			}
		}
		select {
		case <-done:
			return false, errors.New("the agent has ended")
		default:
			return false, nil
		}
	})
	return found, err
}

// Reports are all that are in an agent's state folder.
func Reports(state string) (all []*report.Report, err error) {
	paths, _ := filepath.Glob(filepath.Join(state, "rescues", "*", "report.json"))
	for _, path := range paths {
		r, err := readReport(path)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func contains(list []*report.Report, id string) bool {
	for _, r := range list {
		if r.ID == id {
			return true
		}
	}
	return false
}

func readReport(path string) (*report.Report, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r report.Report
	return &r, json.Unmarshal(raw, &r)
}

// Command runs another lifeboat command with the agent's configuration.
func (a *Agent) Command(ctx context.Context, args ...string) (stdout, stderr string, exit int) {
	var out, errOut strings.Builder
	cmd := exec.CommandContext(ctx, a.options.Binary, append(args, "--config", a.Config)...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return out.String(), errOut.String() + err.Error(), -1
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// PID is the agent's process id.
func (a *Agent) PID() int { return a.cmd.Process.Pid }

// Signal sends a signal to the agent.
func (a *Agent) Signal(sig syscall.Signal) error { return a.cmd.Process.Signal(sig) }

// Wait waits until the agent has ended and returns its exit code.
func (a *Agent) Wait(ctx context.Context) (int, error) {
	select {
	case <-a.done:
		return a.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return -1, fmt.Errorf("the agent still runs: %w", ctx.Err())
	}
}

// Kill ends the agent without a word.
func (a *Agent) Kill() {
	_ = a.cmd.Process.Kill()
	<-a.done
}

func (a *Agent) close() {
	if a.cmd != nil && a.cmd.Process != nil {
		a.Kill()
	}
	_ = a.cloud.close()
}
