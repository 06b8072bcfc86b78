// Package chart renders the Helm chart as a cluster gets it. It stands beside the way of a rescue: tests, and what keeps the
// manifests in deploy/manifests up to date, use it.
package chart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/lifeboat/lifeboat/integration/tools"
)

// Release says what is rendered.
type Release struct {
	Name      string         // "" is lifeboat
	Namespace string         // "" is lifeboat
	Values    map[string]any // over those of values.yaml
	Kube      string         // version of Kubernetes, as 1.35.4; "": the one that helm knows best
	Only      []string       // of the chart's templates, as rbac.yaml; none: all of them
}

// Renderer runs helm over the chart of this repository. Make one with New.
type Renderer struct {
	helm, chart string
}

// New finds helm, and installs it first when it is missing. Progress goes to log.
func New(ctx context.Context, log io.Writer) (*Renderer, error) {
	folder, err := tools.Path(ctx, "helm", log)
	if err != nil {
		return nil, err
	}
	root, err := Root(ctx)
	if err != nil {
		return nil, err
	}
	return &Renderer{helm: filepath.Join(folder, "helm"), chart: filepath.Join(root, "deploy", "chart")}, nil
}

// Root is the folder of this repository.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Manifests is what helm install would send, several YAML documents. The error says what helm says of wrong values.
func (r *Renderer) Manifests(ctx context.Context, release Release) ([]byte, error) {
	args := []string{"template"}
	if release.Kube != "" {
		args = append(args, "--kube-version", release.Kube)
	}
	for _, template := range release.Only {
		args = append(args, "--show-only", "templates/"+template)
	}
	return r.run(ctx, release, args)
}

// Objects are the documents of a manifest. Empty ones are left out.
func Objects(manifest []byte) ([]map[string]any, error) {
	var all []map[string]any
	for dec := yaml.NewDecoder(bytes.NewReader(manifest)); ; {
		var o map[string]any
		err := dec.Decode(&o)
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("manifest: %w", err)
		case o != nil:
			all = append(all, o)
		}
	}
}

// Notes is what the person sees who has installed the chart.
func (r *Renderer) Notes(ctx context.Context, release Release) (string, error) {
	out, err := r.run(ctx, release, []string{"install", "--dry-run=client"})
	if err != nil {
		return "", err
	}
	_, notes, found := strings.Cut(string(out), "NOTES:\n")
	if !found {
		return "", errors.New("helm shows no notes")
	}
	return notes, nil
}

func (r *Renderer) run(ctx context.Context, release Release, args []string) ([]byte, error) {
	home, err := os.MkdirTemp("", "lifeboat-helm-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(home) }()
	values, err := json.Marshal(release.Values)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	name, namespace := "lifeboat", "lifeboat"
	if release.Name != "" {
		name = release.Name
	}
	if release.Namespace != "" {
		namespace = release.Namespace
	}
	args = append(args, name, r.chart, "--namespace", namespace, "--values", "-")
	cmd := exec.CommandContext(ctx, r.helm, args...)
	// Nothing of this machine's user: no kubeconfig, no repositories, no plugins.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "KUBECONFIG=/dev/null"}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(values), &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("helm %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}
