package cluster

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/integration/chart"
	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/integration/tools"
)

// AgentOptions say how Lifeboat is installed. The zero value is right for most tests.
type AgentOptions struct {
	Config string // more of the agent's configuration (YAML); it wins
	Values string // more values of the chart (YAML); they win
	Image  string // "": the one of this source tree, which is built
}

// The release of the chart.
const (
	AgentNamespace = "lifeboat"
	agentRelease   = "lifeboat"
	agentState     = "/var/lib/lifeboat"
)

// agentConfig sees what tests announce soon, and writes down what it does.
const agentConfig = "providers: {aws: {poll: 200ms}, gcp: {poll: 200ms}}\nscan: 1s\nlog: {level: debug}\n"

// InstallAgent installs the chart of this source tree with the agent of this source tree, or changes what is installed, and returns
// when an agent is ready on each node.
func (c *Cluster) InstallAgent(ctx context.Context, o AgentOptions) error {
	if o.Image == "" {
		var err error
		if o.Image, err = c.LoadAgent(ctx); err != nil {
			return err
		}
	}
	root, err := chart.Root(ctx)
	if err != nil {
		return err
	}
	repository, tag, _ := strings.Cut(o.Image, ":")
	values := fmt.Sprintf("image: {repository: %s, tag: %q, pullPolicy: Never}\nnodes: {presets: [any]}\n", repository, tag)
	args := []string{"upgrade", "--install", "--wait", "--timeout=2m", "--create-namespace", "--namespace=" + AgentNamespace,
		agentRelease, filepath.Join(root, "deploy", "chart")}
	for i, text := range []string{values, "config:\n" + indent(agentConfig), "config:\n" + indent(o.Config), o.Values} {
		if strings.TrimSpace(strings.TrimPrefix(text, "config:")) == "" {
			continue
		}
		file := c.path(fmt.Sprintf("values-%d.yaml", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		args = append(args, "--values="+file)
	}
	if err := c.helm(ctx, args...); err != nil {
		return fmt.Errorf("%w\n%s", err, c.AgentLogs(20))
	}
	return nil
}

// indent makes a document the value of a key.
func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

// UninstallAgent removes the release. What the agent has written on the nodes stays.
func (c *Cluster) UninstallAgent(ctx context.Context) error {
	return c.helm(ctx, "uninstall", "--wait", "--timeout=2m", "--ignore-not-found", "--namespace="+AgentNamespace, agentRelease)
}

func (c *Cluster) helm(ctx context.Context, args ...string) error {
	dir, err := tools.Path(ctx, "helm", c.o.Log)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "helm"), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Folder, "KUBECONFIG=" + c.control.AdminKubeconfig()}
	_, err = run(ctx, c.net, cmd)
	return err
}

// LoadAgent builds the agent of this source tree, makes the image that the Dockerfile makes of it, and loads it into both nodes: once
// for each process. The image's tag names its content.
func (c *Cluster) LoadAgent(ctx context.Context) (string, error) {
	if c.agent != "" {
		return c.agent, nil
	}
	dir, err := os.MkdirTemp(c.Folder, "agent-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, err := lab.Build(ctx, dir)
	if err != nil {
		return "", err
	}
	ref, err := c.loadBinary(ctx, binary)
	if err != nil {
		return "", err
	}
	c.agent = ref
	return ref, nil
}

func (c *Cluster) loadBinary(ctx context.Context, binary string) (string, error) {
	sum, err := sumOf(binary)
	if err != nil {
		return "", err
	}
	i := image{
		ref:    "lab.local/lifeboat:" + sum,
		config: imageConfig{User: "0:0", Entrypoint: []string{"/usr/bin/lifeboat"}, Cmd: []string{"agent"}},
		layers: []layer{{{to: "usr/bin/lifeboat", tree: binary}}},
	}
	return i.ref, c.load(ctx, i)
}

func sumOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// LoadImage makes an image of folders of this machine, by their path in the image, with an entrypoint, and loads it into both nodes.
// The reference should name its content: a node that has an image of that name keeps it.
func (c *Cluster) LoadImage(ctx context.Context, ref string, trees map[string]string, entrypoint ...string) error {
	var files layer
	for to, from := range trees {
		files = append(files, entry{to: strings.TrimPrefix(to, "/"), tree: from})
	}
	slices.SortFunc(files, func(a, b entry) int { return cmp.Compare(a.to, b.to) })
	return c.load(ctx, image{ref: ref, config: imageConfig{Entrypoint: entrypoint, Env: []string{"PATH=/usr/bin:/bin"}}, layers: []layer{files}})
}

// load imports an image into the nodes that lack it.
func (c *Cluster) load(ctx context.Context, i image) error {
	var lack []*Node
	for _, n := range c.nodes {
		have, err := n.Run(ctx, "ctr", "-n", "k8s.io", "images", "list", "-q", "name=="+i.ref)
		if err != nil {
			return err
		}
		if strings.TrimSpace(have) != i.ref {
			lack = append(lack, n)
		}
	}
	if len(lack) == 0 {
		return nil
	}
	archive := c.path("image.tar")
	defer func() { _ = os.Remove(archive) }()
	if err := i.write(archive); err != nil {
		return err
	}
	for _, n := range lack {
		if _, err := n.Run(ctx, "ctr", "-n", "k8s.io", "images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// Report waits for the end of a rescue of a node's agent that found something of one of the jobs, and returns its report: one that is
// not among those that are known. Executors that end with an earlier job are rescued, too. It is read from the node's disk, so that the
// node may be off.
func (c *Cluster) Report(ctx context.Context, node string, jobs []*Job, known ...*report.Report) (*report.Report, error) {
	state, err := c.Node(node).File(agentState)
	if err != nil {
		return nil, err
	}
	for {
		r, err := lab.WaitReport(ctx, state, nil, known...)
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, c.AgentLog(node, 40))
		}
		for _, j := range jobs {
			if a := j.In(r); a != nil && a.Found.Outputs > 0 {
				return r, nil
			}
		}
		known = append(slices.Clip(known), r)
	}
}

// In is what a report says of the job, beside executors of earlier ones; nil: nothing.
func (j *Job) In(r *report.Report) *report.Application {
	i := slices.IndexFunc(r.Applications, func(a report.Application) bool { return a.ID == j.App })
	if i < 0 {
		return nil
	}
	return &r.Applications[i]
}

// Reports are those that a node's agent has written so far: Report's argument before a new rescue.
func (c *Cluster) Reports(node string) ([]*report.Report, error) {
	state, err := c.Node(node).File(agentState)
	if err != nil {
		return nil, err
	}
	return lab.Reports(state)
}

// AgentLog is the end of the log of a node's newest agent, read from the node's disk.
func (c *Cluster) AgentLog(node string, lines int) string {
	logs, err := c.Node(node).File("/var/log/pods")
	if err != nil {
		return err.Error()
	}
	files, _ := filepath.Glob(filepath.Join(logs, AgentNamespace+"_"+agentRelease+"-*", "agent", "*.log"))
	if len(files) == 0 {
		return "no agent has run on " + node
	}
	newest := slices.MaxFunc(files, func(a, b string) int { return modified(a).Compare(modified(b)) })
	return newest + ":\n" + lab.Tail(newest, lines)
}

// modified is when a file was written last.
func modified(file string) (t time.Time) {
	if info, err := os.Stat(file); err == nil {
		t = info.ModTime()
	}
	return t
}

// AgentLogs are the ends of the logs on both nodes.
func (c *Cluster) AgentLogs(lines int) string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, c.AgentLog(n.Name, lines))
	}
	return strings.Join(all, "\n")
}

// WaitAgent waits until the agent of a node is ready, that is, until it has seen the metadata answer.
func (c *Cluster) WaitAgent(ctx context.Context, node string) error {
	from := c.Node(node).HTTP()
	err := lab.Until(ctx, "the agent of "+node+" is ready", func(ctx context.Context) (bool, error) {
		return get(ctx, from, "http://127.0.0.1:9420/readyz", nil) == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, c.AgentLog(node, 30))
	}
	return nil
}

// Status is a page of a node's agent, as /status, decoded from JSON.
func (c *Cluster) Status(ctx context.Context, node, page string, out any) error {
	return get(ctx, c.Node(node).HTTP(), "http://127.0.0.1:9420"+page, out)
}
