package chart

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
)

// Plain are the manifests in deploy/manifests, by file: for those who don't use Helm.
func Plain() map[string]Release {
	return map[string]Release{
		"agent.yaml":         {},
		"agent-metrics.yaml": {Values: map[string]any{"metrics": map[string]any{"enabled": true}}},
	}
}

// helmOnly is what says that Helm looks after an object.
var helmOnly = regexp.MustCompile(`(?m)^( *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*|# Source: .*)\n`)

// Plain is a release without Helm: the objects with the namespace in front, which Helm leaves to its user.
func (r *Renderer) Plain(ctx context.Context, release Release) ([]byte, error) {
	out, err := r.Manifests(ctx, release)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Made from deploy/chart by make manifests: change the chart, not this file.
apiVersion: v1
kind: Namespace
metadata:
  name: lifeboat
  labels:
    pod-security.kubernetes.io/enforce: privileged # the host's processes, network and state folder
%s`, helmOnly.ReplaceAll(out, nil))
	return b.Bytes(), nil
}
